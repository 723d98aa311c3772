"""Optimizers and learning rates by name."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch

from neurosim.base import check_choices, check_not_negative, check_positive
from neurosim.network import Model


@dataclass(frozen=True)
class LearningRate:
    """The learning rate as a function of the training step.

    ``constant``, or ``cosine``: a linear warm-up over ``warmup_epochs`` from ``warmup_from`` to
    the optimizer's rate, then half a cosine down to ``final`` at the end of the last epoch.
    """

    kind: Literal["constant", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    warmup_from: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        check_choices(kind=(self.kind, Literal["constant", "cosine"]))
        check_not_negative(
            warmup_epochs=self.warmup_epochs, warmup_from=self.warmup_from, final=self.final
        )

    def at(self, step: int, rate: float, steps_per_epoch: int, epochs: int) -> float:
        """The rate of step number ``step`` (from 0) where the optimizer's rate is ``rate``."""
        if self.kind == "constant":
            return rate
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.warmup_from + (rate - self.warmup_from) * step / warmup
        total = max(1.0, epochs * steps_per_epoch - warmup)
        progress = min(1.0, (step - warmup) / total)
        return self.final + (rate - self.final) * 0.5 * (1.0 + cos(pi * progress))


@dataclass(frozen=True)
class OptimizerChoice:
    """A torch optimizer by name: ``sgd`` (momentum), ``adam`` or ``adamw``."""

    kind: Literal["sgd", "adam", "adamw"] = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_choices(kind=(self.kind, Literal["sgd", "adam", "adamw"]))
        check_positive(lr=self.lr, eps=self.eps)
        check_not_negative(momentum=self.momentum, weight_decay=self.weight_decay)

    def make(self, model: Model) -> torch.optim.Optimizer:
        """The optimizer of all of the model's parameters (weight decay is on biases too)."""
        parameters = model.parameters()
        if self.kind == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            )
        cls = torch.optim.Adam if self.kind == "adam" else torch.optim.AdamW
        return cls(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )
