"""A GPU that computes nothing: tensors on `cuda` with shape, dtype and device, and no values (FakeTensorMode of torch).

Every operator checks devices and dtypes as on a GPU. What needs values or a driver gets stand-ins: floats read from the
device are 1, whole numbers 0, truths true; arrays are zeros; a backward pass gives each parameter a gradient of its own
shape, dtype and device. Networks and losses are made before the block, and moved in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

from figkd.data import views
from figkd.optim import make_optimizer


def _move(model: nn.Module, device: Any = None, **_: Any) -> nn.Module:
    """`Module.to`, which cannot move tensors without values; what is on the device already stays the same object."""
    for module in model.modules() if device is not None else ():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if not _is_on(parameter, device):
                moved = nn.Parameter(_moved(parameter.detach(), device), parameter.requires_grad)
                module._parameters[name] = moved
        for name, buffer in list(module.named_buffers(recurse=False)):
            if not _is_on(buffer, device):
                module._buffers[name] = _moved(buffer, device)
    return model


def _is_on(tensor: Tensor, device: Any) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.device.type == torch.device(device).type


def _moved(tensor: Tensor, device: Any) -> Tensor:
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device, memory_format=layout)


@contextlib.contextmanager
def fake_gpu(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block `cuda` is a device that has no values."""
    array, item, backward = Tensor.numpy, Tensor.item, Tensor.backward

    def as_array(self: Tensor, *rest: Any, **more: Any) -> Any:
        if not isinstance(self, FakeTensor):
            return array(self, *rest, **more)
        if self.device.type != "cpu":
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy: the host would wait for it"
            )
        with unset_fake_temporarily():
            return np.zeros(self.shape, torch.empty(0, dtype=self.dtype).numpy().dtype)

    def as_number(self: Tensor) -> Any:
        if not isinstance(self, FakeTensor):
            return item(self)
        return 1.0 if self.dtype.is_floating_point else self.dtype == torch.bool

    def gradients(self: Tensor, *rest: Any, **more: Any) -> None:
        if not isinstance(self, FakeTensor):
            return backward(self, *rest, **more)
        assert self.ndim == 0 and self.dtype == torch.float32 and self.requires_grad
        for node in _nodes(self):
            if hasattr(node, "variable"):
                node.variable.grad = torch.empty_like(node.variable)
            elif hasattr(node, "_forward_cls"):
                _run_own(node)
        return None

    patch.setattr(nn.Module, "to", _move)
    patch.setattr(Tensor, "numpy", as_array)
    patch.setattr(Tensor, "item", as_number)
    for name, kind in (("__float__", float), ("__int__", int), ("__bool__", bool)):
        patch.setattr(Tensor, name, lambda self, kind=kind: kind(self.item()))
    patch.setattr(Tensor, "tolist", lambda self: self.numpy().tolist())
    patch.setattr(Tensor, "backward", gradients)
    patch.setattr(Tensor, "pin_memory", _pinned)
    # Fused optimizers and torch's generators have no stand-ins.
    patch.setattr("figkd.train.make_optimizer", _not_fused)
    patch.setattr("figkd.train._reproducible", lambda device: contextlib.nullcontext())
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H100")
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    views._coprimes.cache_clear()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        views._coprimes.cache_clear()


def _pinned(tensor: Tensor) -> Tensor:
    """As CUDA's: only what is in the host's memory can be pinned there."""
    assert tensor.device.type == "cpu"
    return tensor


def _not_fused(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
    optimizer = make_optimizer(*arguments, **options)
    for group in optimizer.param_groups:
        group["fused"], group["foreach"] = False, True
    return optimizer


def _nodes(value: Tensor) -> list[Any]:
    """What a value was computed by, down to the parameters."""
    found: dict[Any, None] = {}
    waiting = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found[node] = None
            waiting += [following for following, _ in node.next_functions]
    return list(found)


def _run_own(node: Any) -> None:
    """The backward pass of a torch.autograd.Function: its gradients fit what the function was given."""
    upstream = [torch.empty(out.shape, dtype=out.dtype, device=out.device) for out in node._input_metadata]
    made = node._forward_cls.backward(node, *upstream)
    made = made if isinstance(made, tuple) else (made,)
    gradients = [gradient for gradient, needed in zip(made, node.needs_input_grad, strict=True) if needed]
    edges = [edge for edge in node.next_functions if edge[0] is not None]
    for gradient, (following, index) in zip(gradients, edges, strict=True):
        given = following._input_metadata[index]
        found = (list(gradient.shape), gradient.dtype, gradient.device)
        assert found == (list(given.shape), given.dtype, given.device), node.name()
