"""Muon: each weight matrix moves along the orthogonal factor of its momentum, everything else by SGD.

Source: Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", and their CIFAR-10 speed
run (github.com/KellerJordan/cifar10-airbench, airbench94_muon.py), which scales every convolution to a fixed norm.
Here a step is a share of the weight's norm instead. Where normalisation follows the layer, only the direction of the
weight matters, and the two are the same up to the choice of rate; elsewhere the weight keeps its own scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

# Keller Jordan's: small singular values grow fast, and all others stay within 0.68 to 1.21.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 3
# A weight that starts at zero still moves: as if its entries had this root mean square.
_SMALLEST = 1e-3


def orthogonalised(matrices: Tensor, iterations: int = _ITERATIONS) -> Tensor:
    """Bring the singular values of each matrix near to 1, by Newton-Schulz iterations.

    One iteration is X <- (a + b X X^T + c (X X^T)^2) X. The polynomials of X X^T commute, so they are multiplied first,
    as matrices of the smaller side: the larger side takes part in two products, however many iterations there are.

    Args:
        matrices: float [N, R, C]. A matrix of zeros stays as it is.
        iterations: 3 bring singular values from 0.02 of the Frobenius norm upwards to 0.68 to 1.21; smaller ones grow
            by a factor of up to 41.

    Returns:
        The same shape, dtype and device.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    wide = matrices.mT if tall else matrices
    norms = torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True)
    wide = wide / norms.clamp_min(_floor(wide.dtype))
    a, b, c = _COEFFICIENTS
    gram = wide @ wide.mT
    product: Tensor | None = None
    for iteration in range(iterations):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else product @ factor
        if iteration + 1 < iterations:
            gram = factor @ gram @ factor
    turned: Tensor = wide if product is None else product @ wide
    return turned.mT if tall else turned


def _floor(dtype: torch.dtype) -> float:
    """Norms below it are not trusted, because the squares in them are lost."""
    return float(torch.finfo(dtype).tiny ** 0.5)


def weight_matrices(model: nn.Module) -> dict[Tensor, int]:
    """The trainable weights of convolutions and linear layers, each with its number of matrices.

    A convolution multiplies each patch by a matrix [out, in x kernel]; a grouped one has a matrix for each group. The
    last linear layer, the head, is left out.
    """
    layers: list[_ConvNd | nn.Linear] = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) or (isinstance(module, _ConvNd) and not module.transposed)
    ]
    head = next((layer for layer in reversed(layers) if isinstance(layer, nn.Linear)), None)
    return {
        layer.weight: layer.groups if isinstance(layer, _ConvNd) else 1
        for layer in layers
        if layer is not head and layer.weight.requires_grad
    }


def products(weight: Tensor, count: int) -> int:
    """Multiply-adds of `orthogonalised` for a weight of `count` matrices."""
    rows = weight.shape[0] // count
    columns = weight.numel() // weight.shape[0]
    small, large = min(rows, columns), max(rows, columns)
    # The first and the last product, and those of the iterations: one each, one to go on, two between.
    inner = _ITERATIONS + (_ITERATIONS - 1) + 2 * (_ITERATIONS - 1)
    return count * small**2 * (2 * large + inner * small)


class Muon(torch.optim.Optimizer):
    """M <- momentum M + G of the gradient G; the step D is G + momentum M (Nesterov) or M.

    Matrices: W <- (1 - lr weight_decay) W - lr |W| O / |O|, where O is `orthogonalised(D)` and |.| the Frobenius norm.
    So `lr` is the share of its norm that a weight changes by. Others, as SGD: W <- W - lr D, where G includes
    weight_decay W.

    Args:
        groups: parameter groups. One with "matrices", the number of matrices in each of its parameters (see
            `weight_matrices`), follows the first rule, others the second.
        lr: learning rate of both.
        momentum: 0 to below 1.
        nesterov: look one gradient ahead.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], *, lr: float, momentum: float = 0.9, nesterov: bool = True
    ) -> None:
        options: dict[str, Any] = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        options |= {"weight_decay": 0.0, "matrices": None}
        super().__init__(groups, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters and group["matrices"] is None:
                self._descend(group, parameters)
            elif parameters:
                counts = dict(zip(group["params"], group["matrices"], strict=True))
                self._turn(group, parameters, [counts[parameter] for parameter in parameters])
        return loss

    def _descend(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """The rule of SGD."""
        steps = self._steps(group, parameters, decay=group["weight_decay"])
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])

    def _turn(self, group: dict[str, Any], parameters: list[Tensor], counts: list[int]) -> None:
        """The rule of matrices; those of equal shape are one batch of products."""
        steps = self._steps(group, parameters, decay=0.0)
        alike: dict[tuple[torch.Size, int], list[int]] = {}
        for place, (parameter, count) in enumerate(zip(parameters, counts, strict=True)):
            alike.setdefault((parameter.shape, count), []).append(place)
        for (shape, count), places in alike.items():
            weights = [parameters[place] for place in places]
            # In the order of channels-last weights, which is only a view of them.
            last = [steps[place].movedim(1, -1) for place in places]
            rows = torch.stack(last).view(len(places), count, shape[0] // count, -1)
            turned = orthogonalised(rows.flatten(0, 1)).view_as(rows)
            lengths = torch.stack(torch._foreach_norm(weights)).clamp_min(_SMALLEST * shape.numel() ** 0.5)
            norms = torch.linalg.vector_norm(turned, dim=(1, 2, 3)).clamp_min(_floor(turned.dtype))
            turned = turned * (lengths / norms)[:, None, None, None]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            moves = turned.reshape(len(places), *last[0].shape).movedim(-1, 2).unbind()
            torch._foreach_add_(weights, moves, alpha=-group["lr"])

    def _steps(self, group: dict[str, Any], parameters: list[Tensor], decay: float) -> list[Tensor]:
        """Take the gradients into the momentum, and return what the parameters should follow."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if decay:
            gradients = list(torch._foreach_add(gradients, parameters, alpha=decay))
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        sums = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_mul_(sums, group["momentum"])
        torch._foreach_add_(sums, gradients)
        if not group["nesterov"]:
            return sums
        return list(torch._foreach_add(gradients, sums, alpha=group["momentum"]))
