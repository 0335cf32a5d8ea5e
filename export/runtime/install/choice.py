"""Which bundle a runtime is to load now. It verifies the bundle when it loads it, on the very bytes."""

from __future__ import annotations

from typing import Optional

from .errors import Environment
from .recovery import recover, serving
from .site import Site, is_locked, load, locked


def bundle_to_serve(site: Site) -> Optional[str]:
    """Folder of the bundle that is to serve; None where no release is fit to.

    Recovers first, where this process may write and no install is at work; else it decides by reading alone.
    """
    try:
        with locked(site.root):
            id = recover(site).state.active
    except Environment:
        id = chosen_id(site)
    return site.bundle(id) if id else None


def chosen_id(site: Site) -> Optional[str]:
    """Id of the release that is to serve, from reading alone; cheap enough to ask twice a second."""
    try:
        state = load(site)
    except (ValueError, Environment):
        return None
    # To look at the lock takes it for an instant, in which an install would find it held.
    at_work = state.trial is not None and is_locked(site.root)
    return serving(state, site.machine.boot_id, site.machine.now(), at_work)
