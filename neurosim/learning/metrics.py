"""What an evaluation measures besides accuracy and loss: a family that is open from outside."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Count, Kind, register


class Metric(Kind, ABC, family="metric", bare=True):
    """Base of metrics: a statistic that is summed over batches, and what its sum says of a split.

    Predictions and targets are (B, outputs). Of a classification a target is 1 for its class.
    ``of_classes``: values as targets have no such metric. ``of_labels``: predictions are decided
    before, to 1 for each label that the network says a sample has, and 0 for the others.
    """

    of_classes: ClassVar[bool] = False
    of_labels: ClassVar[bool] = False
    taken: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("accuracy", "loss"), "what every evaluation measures: leave it out"
    )

    @property
    def name(self) -> str:
        """What the number is called after the name of its split: ``test_top_5``."""
        return self.kind

    def check(self, outputs: int) -> None:
        """Raises ConfigurationError where so many outputs have no such metric."""
        del outputs

    @abstractmethod
    def sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Returns the statistic of a batch, float64 or whole numbers, of one shape for all."""

    @abstractmethod
    def value(self, sums: Tensor, samples: int) -> Any:
        """Returns a number, or lists of numbers, of the sum over so many samples."""


@register("top_k")
@dataclass(frozen=True)
class TopK(Metric):
    """The portion of samples whose class is among the k largest predictions."""

    of_classes: ClassVar[bool] = True

    k: Annotated[Count, Field(description="how many predictions count")] = 5

    @property
    def name(self) -> str:
        return f"top_{self.k}"

    def check(self, outputs: int) -> None:
        if self.k >= outputs:
            said = f"k is {self.k}, but of {outputs} outputs the class is always among so many"
            raise ConfigurationError(f"{said}; choose a smaller k", ("metrics", "k"))

    def sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        label = target.argmax(1, keepdim=True)
        return (prediction.topk(self.k).indices == label).sum()

    def value(self, sums: Tensor, samples: int) -> float:
        return int(sums) / samples


@register("confusion_matrix")
@dataclass(frozen=True)
class ConfusionMatrix(Metric):
    """How many samples of class i (rows) were predicted as class j (columns)."""

    of_classes: ClassVar[bool] = True

    def sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        classes = target.shape[1]
        cells = target.argmax(1) * classes + prediction.argmax(1)
        return torch.bincount(cells, minlength=classes * classes).view(classes, classes)

    def value(self, sums: Tensor, samples: int) -> list[list[int]]:
        found: list[list[int]] = sums.tolist()
        return found


@register("exact_match")
@dataclass(frozen=True)
class ExactMatch(Metric):
    """The portion of samples all of whose labels are right (subset accuracy)."""

    of_labels: ClassVar[bool] = True

    def sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction == target).all(1).sum()

    def value(self, sums: Tensor, samples: int) -> float:
        return int(sums) / samples


@register("f1")
@dataclass(frozen=True)
class F1(Metric):
    """2 TP / (2 TP + FP + FN) of labels or classes, from right, false and missing ones.

    Labels that no sample has and none is said to have count for nothing.
    """

    of_labels: ClassVar[bool] = True

    average: Annotated[
        Literal["macro", "micro"],
        Field(description="macro: mean of the labels' F1; micro: that of all labels together"),
    ] = "macro"

    @property
    def name(self) -> str:
        return f"f1_{self.average}"

    def sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.stack([(prediction * target).sum(0), (prediction + target).sum(0)]).double()

    def value(self, sums: Tensor, samples: int) -> float | None:
        del samples
        right, said = sums.sum(1, keepdim=True) if self.average == "micro" else sums
        counts = said > 0
        return float((2.0 * right / said)[counts].mean()) if counts.any() else None


@register("mse")
@dataclass(frozen=True)
class MeanSquaredError(Metric):
    """(ŷ − y)², mean over samples and outputs."""

    def sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).double().square().mean(1).sum()

    def value(self, sums: Tensor, samples: int) -> float:
        return float(sums) / samples


@register("r2")
@dataclass(frozen=True)
class R2(Metric):
    """The coefficient of determination 1 − Σ(ŷ − y)² / Σ(y − ȳ)², mean over outputs.

    Outputs whose targets are all the same have none, and are left out.
    """

    def sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        y = target.double()
        return torch.stack([(prediction - y).square().sum(0), y.sum(0), y.square().sum(0)])

    def value(self, sums: Tensor, samples: int) -> float | None:
        left, total, squares = sums
        spread = squares - total.square() / samples
        varies = spread > 1e-12 * squares
        return float((1.0 - left / spread)[varies].mean()) if varies.any() else None
