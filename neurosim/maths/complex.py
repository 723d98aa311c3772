"""How messages cross a projection: its operator, applied to real or complex values.

Weights are real. The two parts of a complex message cross as two real samples would, so every
linear operator serves both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurosim.maths.operators.base import Operator, add_bias
from neurosim.maths.precision import Mixed
from neurosim.tensors import Selection

Products = Operator | Mixed


def forward(
    products: Products,
    mean: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    selection: Selection | None,
) -> tuple[Tensor, Tensor | None]:
    """`Operator.forward`."""
    if not mean.is_complex():
        return products.forward(mean, weight, bias, selection)
    parts, _ = products.forward(_apart(mean), weight, None, selection)
    return add_bias(_together(parts), bias, selection), None


def adjoint(
    products: Products,
    difference: Tensor,
    weight: Tensor | None,
    winners: Tensor | None,
    selection: Selection | None,
) -> Tensor:
    """`Operator.adjoint`: Wᵀ δ, transposed and never conjugated."""
    if not difference.is_complex():
        return products.adjoint(difference, weight, winners, selection)
    return _together(products.adjoint(_apart(difference), weight, winners, selection))


def weight_gradient(
    products: Products, difference: Tensor, mean: Tensor, winners: Tensor | None
) -> Tensor:
    """`Operator.weight_gradient`; of complex values the real part of Σ δ s̄ᵀ."""
    if not difference.is_complex():
        return products.weight_gradient(difference, mean, winners)
    return products.weight_gradient(_apart(difference.conj()), _apart(mean), winners)


def _apart(values: Tensor) -> Tensor:
    """(B, …) complex → (2B, …) real: the real parts of all samples, then the imaginary ones."""
    return torch.cat([values.real, values.imag])


def _together(parts: Tensor) -> Tensor:
    return torch.complex(*parts.chunk(2))
