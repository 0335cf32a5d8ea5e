"""The classes and the few images that candidates are made with: of the config's data, or noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.config.schema import DeployConfig
from pipeline.core.errors import EnvironmentFault
from pipeline.core.store import Store
from pipeline.devices.known import KnownDevices
from pipeline.run import conductor
from pipeline.run.conductor import Interface
from pipeline.run.data_check import look_at_data
from pipeline.run.planning import Selection, digests_of, last_artifact
from pipeline.search.untrained import SEED, Material, noise


@dataclass(frozen=True)
class Sample:
    """Classes by label, and where images come from: a folder of prepared data, or None for noise."""

    classes: Sequence[str]
    count: int
    image_size: int
    data: Path | None

    @property
    def real(self) -> bool:
        """The images are training images."""
        return self.data is not None

    def material(self) -> Material:
        """The images, read once."""
        return self._material

    @cached_property
    def _material(self) -> Material:
        import numpy as np

        from figkd.data import open_split
        from figkd.data.crop import centre_crop

        if self.data is None:
            return Material(self.classes, noise(self.count, self.image_size), real=False)
        split = open_split(self.data, "train")
        chosen = np.random.default_rng(SEED).permutation(len(split.labels))[: self.count]
        images = centre_crop(np.asarray(split.images[np.sort(chosen)]), self.image_size)
        return Material(self.classes, np.ascontiguousarray(images), real=True)


def sample_of(config: DeployConfig, store: Store, ui: Interface, known: KnownDevices) -> Sample:
    """What `scout.images` asks for; data that are not prepared yet are prepared, as a run would.

    Raises:
        EnvironmentFault: the data are missing, or cannot be listed.
    """
    from figkd.data import class_names, unlisted_classes

    scout, data = config.scout, config.data
    before = last_artifact("data", config, store)
    found = look_at_data(config, digests_of(config, store), before.path if before else None)
    for fault in found.faults:
        raise fault
    if scout.images == "data":
        folder = conductor.run(config, store, ui, Selection(until="data"), known=known).artifacts["data"].path
        return Sample(class_names(folder), scout.calibration_images, data.image_size, folder)
    classes = (
        found.listed.classes
        if found.listed
        else unlisted_classes(data.dataset, data.root, dict(data.options))
    )
    if classes is None:
        fix = "set scout.images: data, which prepares them"
        raise EnvironmentFault(
            "the classes of the data are known once they are prepared", where="scout.images", fix=fix
        )
    return Sample(list(classes), scout.calibration_images, data.image_size, None)
