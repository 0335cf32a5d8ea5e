"""Whether training can use this machine's GPU. With a GPU it uses the CPU only if the config allows it."""

from __future__ import annotations

from dataclasses import dataclass

from export.nvidia import Gpu, driver_lacks, present

_ANYWAY = "or train on the CPU all the same, which takes many times as long: allow_cpu: true"


@dataclass(frozen=True)
class Torch:
    """PyTorch as it is installed here."""

    version: str
    cuda: str
    """Version of CUDA that it was built for; empty for a build without."""
    usable: bool
    """It can use a GPU."""


@dataclass(frozen=True)
class Idle:
    """Why a GPU that is here would not be used, and what helps."""

    what: str
    fix: str


def idle_gpu() -> Idle | None:
    """Look at this machine; None: there is no GPU, or training uses it. PyTorch is imported only if there is one."""
    gpu = present()
    if gpu is None:
        return None
    import torch

    return judge(gpu, Torch(torch.__version__, torch.version.cuda or "", torch.cuda.is_available()))


def judge(gpu: Gpu, torch: Torch) -> Idle | None:
    """Why PyTorch does not use a GPU; None if it does."""
    if torch.usable:
        return None
    here = f"training would take the CPU although {gpu.name} is here"
    if not torch.cuda:
        why, fix = (
            f"PyTorch {torch.version} was built without CUDA",
            "install PyTorch with CUDA (pytorch.org)",
        )
    elif why := driver_lacks(gpu.driver, torch.cuda):
        fix = "update the driver and restart"
    else:
        why = f"PyTorch {torch.version} cannot use it"
        fix = "does nvidia-smi list it, and is CUDA_VISIBLE_DEVICES unset? After an update of the driver, restart"
    return Idle(f"{here}: {why}", f"{fix}; {_ANYWAY}")
