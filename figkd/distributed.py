"""Several processes that train one network: a thin layer over torch.distributed, started by torchrun.

Light to import: torch comes when there is more than one process.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from figkd.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
Span = tuple[int, int]

# While one process prepares data or builds engines, the others wait for it without a limit that matters.
_PATIENCE = datetime.timedelta(days=7)


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
    _control: Any = field(default=None, repr=False, compare=False)

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

        box = [value]
        with self.watched():
            distributed.broadcast_object_list(box, group=self._control, device=torch.device("cpu"))
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

    On CUDA each process takes the GPU of its local rank.

    Raises:
        TrainingError: the environment is incomplete, there are fewer GPUs than processes, or a process stays away.
    """
    import torch
    from torch import distributed

    cuda = torch.cuda.is_available()
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", init_method="env://")
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
    return World(distributed.get_rank(), distributed.get_world_size(), control)


def disconnect() -> None:
    """Leave the group, if there is one."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _is_collective(error: RuntimeError) -> bool:
    from torch import distributed

    # gloo raises plain RuntimeErrors whose text starts with its own source file.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
