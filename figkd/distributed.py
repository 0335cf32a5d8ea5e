"""Several processes that train one network: a thin layer over torch.distributed, started by torchrun.

Light to import: torch comes when there is more than one process.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import gc
import importlib
import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from figkd.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
Span = tuple[int, int]

# While one process prepares data or builds engines, the others wait for it without a limit that matters.
_PATIENCE = datetime.timedelta(days=7)
# At the end of the work they wait for each other for so long; then nothing is lost by going.
_FAREWELL = datetime.timedelta(seconds=30)


@dataclass(eq=False)
class _Links:
    """What connects the processes; emptied by `disconnect`, so that no `World` keeps a group alive."""

    store: Any
    control: Any


class PeerLost(TrainingError):
    """Another process of the group ended, so that this one cannot go on."""


@dataclass(frozen=True)
class World:
    """The group of processes that work together; the default is a single one.

    Attributes:
        rank: this process, 0..size-1. Rank 0 writes and speaks.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1
    _links: _Links | None = field(default=None, repr=False, compare=False)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """What rank 0 gave as `value` (anything that can be pickled), in every process.

        Raises:
            PeerLost: a process is gone.
        """
        if self.size == 1:
            return value
        import torch
        from torch import distributed

        assert self._links is not None  # `connect` made this world
        box = [value]
        with self.watched():
            distributed.broadcast_object_list(box, group=self._links.control, device=torch.device("cpu"))
        return box[0]

    def add(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over the processes, in place.

        Raises:
            PeerLost: a process is gone.
        """
        if self.size > 1:
            from torch import distributed

            with self.watched():
                distributed.all_reduce(tensor)
        return tensor

    def gather(self, part: Tensor, count: int) -> Tensor:
        """Every process's part of `count` rows (see `share`), in order: [count, ...].

        Gradients flow back into this process's own rows alone.

        Raises:
            PeerLost: a process is gone.
        """
        import torch
        from torch import distributed

        parts = spans((0, count), self.size)
        # Collectives want equal shapes; the first part is the longest.
        padded = part.new_zeros(parts[0][1], *part.shape[1:])
        padded[: len(part)] = part.detach()
        found = [torch.empty_like(padded) for _ in parts]
        with self.watched():
            distributed.all_gather(found, padded)
        rows = [rows[: stop - start] for rows, (start, stop) in zip(found, parts, strict=True)]
        rows[self.rank] = part
        return torch.cat(rows)

    def follow_first(self, module: nn.Module) -> None:
        """Give a module's buffers the values that rank 0 has.

        Raises:
            PeerLost: a process is gone.
        """
        if self.size > 1:
            from torch import distributed

            with self.watched():
                for buffer in module.buffers():
                    distributed.broadcast(buffer, src=0)

    def share(self, count: int) -> Span:
        """First and last + 1 of this process's part of `count` things; parts differ by at most one."""
        return spans((0, count), self.size)[self.rank]

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turn the failure of a collective in this block, which means a dead peer, into PeerLost."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_collective(error):
                raise
            raise PeerLost(
                f"another of the {self.size} processes ended (this is process {self.rank})",
                "its own message or the launcher's says why; the same command goes on from the last epoch",
            ) from error


ALONE = World()
"""A single process."""


def spans(whole: Span, parts: int) -> list[Span]:
    """Cut a range into parts of nearly equal length, the longer ones first."""
    small, longer = divmod(whole[1] - whole[0], parts)
    edges = [whole[0] + part * small + min(part, longer) for part in range(parts + 1)]
    return list(itertools.pairwise(edges))


def connect() -> World:
    """Join the group that the environment describes, as torchrun sets it: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT.

    On CUDA each process takes the GPU of its local rank. When the work is done, call `disconnect`; end a process that
    cannot come so far by `leave`.

    Raises:
        TrainingError: the environment is incomplete, there are fewer GPUs than processes, or a process stays away.
    """
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    # DistributedDataParallel imports it, and its default arguments hold for ever the group that there is by then.
    importlib.import_module("torch.distributed.nn.functional")
    cuda = torch.cuda.is_available()
    try:
        store, rank, size = next(rendezvous("env://"))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=size
        )
        if cuda:
            local, gpus = distributed.get_node_local_rank(), torch.cuda.device_count()
            if local >= gpus:
                raise TrainingError(
                    f"process {local} of this machine has no GPU of its own ({gpus} here)",
                    f"torchrun --nproc-per-node {gpus}",
                )
            torch.cuda.set_device(local)
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"the processes did not come together: {reason}",
            "start them with torchrun; for a single process, unset WORLD_SIZE",
        ) from error
    return World(rank, size, _Links(store, control))


def disconnect(world: World) -> None:
    """Leave the group, if there is one, in order: together with the others, and with the threads of gloo ended.

    Waits for the other processes for at most half a minute. To be called after the last collective of a `world`,
    which is of no use any more.
    """
    if world._links is None:
        return
    from torch import distributed

    # gloo closes its connections by a reset, which takes away what another process has not read yet.
    with contextlib.suppress(distributed.DistError):
        _meet(world, world._links.store)
    # A thread of gloo may still hold the tensors of the last collective. If it lets go of them when the interpreter is
    # already ending, the process aborts (SIGABRT). Only with its last reference a group ends its threads.
    world._links.store = world._links.control = None
    distributed.destroy_process_group()
    gc.collect()  # networks that were trained refer to the group, and are parts of cycles


def leave(code: int) -> NoReturn:
    """End the process with an exit code, also where `disconnect` was not reached (after an error, say).

    A group that is still open ends at once, which tells the other processes, and without the interpreter's own
    teardown: that would wait for threads of gloo which wait for the others, or abort in them (see `disconnect`).
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized():
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
            stream.flush()
    os._exit(code)


def _meet(world: World, store: Any) -> None:
    """Wait until all processes are here. Rank 0 goes last, as it may be the one that has the store."""
    others = [f"figkd/left/{rank}" for rank in range(1, world.size)]
    if world.first:
        store.wait(others, _FAREWELL)
        store.set("figkd/left", "all")
        store.get("figkd/left")  # by its answer the others have theirs
    else:
        store.set(f"figkd/left/{world.rank}", "")
        store.wait(["figkd/left"], _FAREWELL)


def _is_collective(error: RuntimeError) -> bool:
    from torch import distributed

    # gloo raises plain RuntimeErrors whose text starts with its own source file.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
