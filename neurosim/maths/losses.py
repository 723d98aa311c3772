"""Losses of one sample, and their gradients with respect to the output.

A loss is nudged into the output dyads by its gradient (`prediction`, `potential`) or, for the
squared error, in closed form (`proximal`); see `rules/dual_propagation.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

LossName = Literal["squared_error", "cross_entropy"]


class Loss(ABC):
    """ℓ(ŷ, y) for ŷ, y of shape (B, *output)."""

    name: LossName
    local: bool  # whether ∂ℓ/∂ŷᵢ depends on ŷᵢ and yᵢ alone

    @abstractmethod
    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        """ℓ per sample, shape (B,)."""

    @abstractmethod
    def gradient(self, prediction: Tensor, target: Tensor) -> Tensor:
        """∇ℓ with respect to ŷ, shape (B, *output); continued holomorphically to complex ŷ."""

    def mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The batch mean of ℓ, a scalar: what back-propagation differentiates."""
        return self.value(prediction, target).mean()


class SquaredError(Loss):
    """ℓ = ½‖ŷ − y‖², summed over outputs."""

    name: LossName = "squared_error"
    local = True

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 0.5 * (prediction - target).square().flatten(1).sum(1)

    def gradient(self, prediction: Tensor, target: Tensor) -> Tensor:
        return prediction - target


class CrossEntropy(Loss):
    """ℓ = −Σᵢ yᵢ log softmax(ŷ)ᵢ over all outputs of a sample; y is a distribution (one-hot)."""

    name: LossName = "cross_entropy"
    local = False

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (
            -(target * torch.log_softmax(prediction.flatten(1), 1).view_as(target))
            .flatten(1)
            .sum(1)
        )

    def gradient(self, prediction: Tensor, target: Tensor) -> Tensor:
        total = target.flatten(1).sum(1, keepdim=True)
        softmax = _softmax(prediction.flatten(1)) * total
        return softmax.view(target.shape) - target


def _softmax(values: Tensor) -> Tensor:
    """Over dimension 1; holomorphic where the values are complex."""
    if not values.is_complex():
        return torch.softmax(values, 1)
    powers = torch.exp(values - values.real.amax(1, keepdim=True))
    return powers / powers.sum(1, keepdim=True)


LOSSES: dict[LossName, Loss] = {"squared_error": SquaredError(), "cross_entropy": CrossEntropy()}
