"""Two families: optimizers and learning rates."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi
from typing import Annotated

import torch
from pydantic import Field

from neurosim.families import BelowOne, Fraction, Kind, NotNegative, Positive, register

Rate = Annotated[Positive, Field(description="learning rate")]
Decay = Annotated[NotNegative, Field(description="weight decay, of biases too")]
Betas = Annotated[
    tuple[BelowOne, BelowOne], Field(description="decay of the averages of gradient and square")
]
Epsilon = Annotated[Positive, Field(description="what is added to the root of the second average")]


class OptimizerChoice(Kind, ABC, family="optimizer"):
    """Describes an optimizer, and makes it. Base class of the family."""

    @abstractmethod
    def make(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Makes the optimizer of these parameters."""

    @property
    def moments(self) -> int:
        """Returns how many tensors it keeps per parameter, by which memory is estimated."""
        return 2


@register("sgd")
@dataclass(frozen=True)
class SGD(OptimizerChoice):
    """Stochastic gradient descent."""

    lr: Rate = 1e-3
    momentum: Annotated[Fraction, Field(description="of the running sum of gradients")] = 0.0
    weight_decay: Decay = 0.0

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )

    @property
    def moments(self) -> int:
        return 1 if self.momentum else 0


@dataclass(frozen=True)
class _Adam(OptimizerChoice):
    lr: Rate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: Decay = 0.0

    def make(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        cls = torch.optim.AdamW if isinstance(self, AdamW) else torch.optim.Adam
        return cls(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


@register("adam")
@dataclass(frozen=True)
class Adam(_Adam):
    """Adam (Kingma & Ba 2015). Weight decay is added to the gradient."""


@register("adamw")
@dataclass(frozen=True)
class AdamW(_Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""


class LearningRate(Kind, ABC, family="learning_rate"):
    """Describes the learning rate as a function of the training step. Base class of the family."""

    @abstractmethod
    def at(self, step: int, rate: float, steps_per_epoch: int, epochs: int) -> float:
        """Returns the rate of step number ``step`` (from 0); ``rate`` is the optimizer's own."""


@register("constant")
@dataclass(frozen=True)
class ConstantRate(LearningRate):
    """Keeps the optimizer's own rate."""

    def at(self, step: int, rate: float, steps_per_epoch: int, epochs: int) -> float:
        del step, steps_per_epoch, epochs
        return rate


@register("cosine")
@dataclass(frozen=True)
class CosineRate(LearningRate):
    """Warms up linearly to the optimizer's rate, then falls by half a cosine until the end."""

    warmup_epochs: Annotated[NotNegative, Field(description="length of the warm-up")] = 0.0
    warmup_from: Annotated[NotNegative, Field(description="rate at the first step")] = 0.0
    final: Annotated[NotNegative, Field(description="rate at the end of the last epoch")] = 0.0

    def at(self, step: int, rate: float, steps_per_epoch: int, epochs: int) -> float:
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.warmup_from + (rate - self.warmup_from) * step / warmup
        total = max(1.0, epochs * steps_per_epoch - warmup)
        progress = min(1.0, (step - warmup) / total)
        return self.final + (rate - self.final) * 0.5 * (1.0 + cos(pi * progress))
