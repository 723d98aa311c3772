"""Losses of one sample, and their gradients with respect to the output: a family open from outside.

A loss is nudged into the output dyads by its gradient (`prediction`, `potential`) or, for the
squared error, in closed form (`proximal`); see `rules/dual_propagation.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Kind, NotNegative, register
from neurosim.maths.operators.base import derivative

_ROUNDED = 1e-3  # by which a distribution in float32 or written with few digits may miss 1


class Loss(Kind, ABC, family="loss", bare=True):
    """Base of losses ℓ(ŷ, y): frozen dataclasses. ŷ and y have the shape (B, *output).

    ``local`` says that ∂ℓ/∂ŷᵢ depends on ŷᵢ and yᵢ alone: else all outputs wake an output dyad.
    ``applies`` is the activation that ŷ goes through in ℓ itself.
    """

    local: ClassVar[bool] = False
    applies: ClassVar[str] = ""

    def check(self, outputs: int) -> None:
        """Raises ConfigurationError where it is not one for so many outputs."""
        del outputs

    def check_targets(self, targets: Tensor) -> None:
        """Raises ConfigurationError where values (N, *output) to learn are not such as it takes."""
        del targets

    @abstractmethod
    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns ℓ per sample, shape (B,)."""

    def gradient(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns ∇ℓ with respect to ŷ, shape (B, *output), by autograd unless a subclass says it.

        Raises:
            ConfigurationError: for complex ŷ, to which only a closed form can be continued.
        """
        if prediction.is_complex():
            raise ConfigurationError(
                f"the loss {self.kind} does not say its gradient at complex outputs; define "
                f"{type(self).__name__}.gradient, or use another loss or rule",
                "loss",
            )
        return derivative(lambda outputs: self.value(outputs, target).sum(), prediction)

    def mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the batch mean of ℓ, a scalar: what back-propagation differentiates."""
        return self.value(prediction, target).mean()


@register("squared_error")
@dataclass(frozen=True)
class SquaredError(Loss):
    """ℓ = ½‖ŷ − y‖², summed over outputs."""

    local: ClassVar[bool] = True

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        return 0.5 * (prediction - target).square().flatten(1).sum(1)

    def gradient(self, prediction: Tensor, target: Tensor) -> Tensor:
        return prediction - target


@register("cross_entropy")
@dataclass(frozen=True)
class CrossEntropy(Loss):
    """ℓ = −Σᵢ wᵢ yᵢ log softmax(ŷ)ᵢ over all outputs of a sample; y is a distribution (one-hot).

    The loss of a batch is the mean of these, and is not divided by the weights in it.
    """

    applies: ClassVar[str] = "softmax"

    weights: Annotated[
        tuple[NotNegative, ...] | None, Field(description="weight of each class; default: 1")
    ] = None

    def check(self, outputs: int) -> None:
        if self.weights is not None and len(self.weights) != outputs:
            said = f"there are {len(self.weights)} weights of classes, but {outputs} outputs"
            raise ConfigurationError(said, ("loss", "weights"))

    def check_targets(self, targets: Tensor) -> None:
        sums = targets.flatten(1).sum(1)
        wrong = (targets.flatten(1) < 0).any(1) | ((sums - 1.0).abs() > _ROUNDED)
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise ConfigurationError(
                f"cross_entropy learns distributions, which are not negative and sum to 1: not so "
                f"target {first} (counting from 0), of sum {float(sums[first]):g}; for several "
                "labels of a sample take binary_cross_entropy, for other numbers squared_error",
                "loss",
            )

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        logarithms = torch.log_softmax(prediction.flatten(1), 1).view_as(target)
        return -(self._weighted(target) * logarithms).flatten(1).sum(1)

    def gradient(self, prediction: Tensor, target: Tensor) -> Tensor:
        target = self._weighted(target)
        total = target.flatten(1).sum(1, keepdim=True)
        softmax = _softmax(prediction.flatten(1)) * total
        return softmax.view_as(target) - target

    def _weighted(self, target: Tensor) -> Tensor:
        if self.weights is None:
            return target
        return target * target.new_tensor(self.weights).view(target.shape[1:])


@register("binary_cross_entropy")
@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """ℓ = −Σᵢ yᵢ log σ(ŷᵢ) + (1 − yᵢ) log(1 − σ(ŷᵢ)), of several labels at once: yᵢ is 1 for each
    that a sample has and 0 for the others, or a probability; σ is the logistic function."""

    local: ClassVar[bool] = True
    applies: ClassVar[str] = "sigmoid"

    def check_targets(self, targets: Tensor) -> None:
        wrong = ((targets < 0) | (targets > 1)).flatten(1).any(1)
        if wrong.any():
            first = int(wrong.nonzero()[0])
            raise ConfigurationError(
                f"binary_cross_entropy learns values from 0 to 1, and target {first} (counting "
                "from 0) has others; take squared_error",
                "loss",
            )

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        rest = torch.logaddexp(prediction, torch.zeros_like(prediction))  # −log(1 − σ)
        return (rest - target * prediction).flatten(1).sum(1)

    def gradient(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.sigmoid(prediction) - target


def _softmax(values: Tensor) -> Tensor:
    """Over dimension 1; holomorphic where the values are complex."""
    if not values.is_complex():
        return torch.softmax(values, 1)
    powers = torch.exp(values - values.real.amax(1, keepdim=True))
    return powers / powers.sum(1, keepdim=True)
