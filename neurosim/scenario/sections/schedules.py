"""What each section of a scenario may say, and the object that it makes.

Every section is a pydantic model; a family of alternatives is a union told apart by ``kind`` (or
``name`` for data). A new schedule or data set is one class here and one entry in its union.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurosim.base import (
    BelowOne,
    Fraction,
    NotNegative,
    Positive,
)
from neurosim.learning import LearningRate, OptimizerChoice
from neurosim.scenario.sections.base import Maker

# ---- learning ----------------------------------------------------------------------------------


class OptimizerSection(Maker):
    """A torch optimizer."""

    makes = OptimizerChoice
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.0

    def make(self) -> OptimizerChoice:
        kind: str = getattr(self, "kind")  # noqa: B009
        made: OptimizerChoice = OptimizerChoice.family[kind](**self.arguments())
        return made


class SGDSection(OptimizerSection):
    """Stochastic gradient descent."""

    kind: Literal["sgd"]
    momentum: Fraction = 0.0


class AdamSection(OptimizerSection):
    """Adam, or AdamW with decoupled weight decay."""

    kind: Literal["adam", "adamw"]
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    eps: Positive = 1e-8


class ConstantSection(Maker):
    """The optimizer's own rate."""

    makes = LearningRate
    kind: Literal["constant"]

    def make(self) -> LearningRate:
        made: LearningRate = LearningRate.family["constant"]()
        return made


class CosineSection(Maker):
    """Linear warm-up, then half a cosine down."""

    makes = LearningRate
    kind: Literal["cosine"]
    warmup_epochs: NotNegative = 0.0
    warmup_from: NotNegative = 0.0
    final: NotNegative = 0.0

    def make(self) -> LearningRate:
        made: LearningRate = LearningRate.family["cosine"](**self.arguments())
        return made


AnyOptimizer = Annotated[SGDSection | AdamSection, Field(discriminator="kind")]
AnyLearningRate = Annotated[ConstantSection | CosineSection, Field(discriminator="kind")]
