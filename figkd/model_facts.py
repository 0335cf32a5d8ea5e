"""What a network is, asked of the library that builds it: imports torch, unlike `figkd.model_names`."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """Attributes of a network; None where the library does not tell them.

    Attributes:
        parameters: how many, for `num_classes` classes.
        image_size: side of the square input in pixels that the library's weights were trained at.
        fixed_size: whether it takes no other size than that.
    """

    parameters: int | None
    image_size: int | None
    fixed_size: bool


def model_facts(name: str, num_classes: int) -> Facts:
    """Facts of a known network, without weights: it is built on torch's meta device, which takes no memory.

    Args:
        name: "figkd/<x>", "timm/<x>" or "torchvision/<x>".
        num_classes: C.
    """
    import torch

    from figkd.networks import NETWORKS

    family, _, short = name.partition("/")
    size, fixed = (32, False) if family == "figkd" else _size(family, short)
    try:
        with torch.device("meta"):
            if family == "figkd":
                network = NETWORKS[name].build(num_classes)
            elif family == "timm":
                import timm

                network = timm.create_model(short, pretrained=False, num_classes=num_classes)
            else:
                from torchvision.models import get_model

                network = get_model(short, weights=None, num_classes=num_classes)
    except Exception:  # some need values of tensors when they are built
        return Facts(None, size, fixed)
    return Facts(sum(p.numel() for p in network.parameters()), size, fixed)


def _size(family: str, short: str) -> tuple[int | None, bool]:
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(short)
        return (
            (None, False) if config is None else (int(config.input_size[-1]), bool(config.fixed_input_size))
        )
    from torchvision.models import get_model_weights

    try:
        size = get_model_weights(short)["DEFAULT"].transforms().crop_size
    except (KeyError, AttributeError):
        return None, False
    return int(size[0]), short.startswith(("vit_", "maxvit_"))
