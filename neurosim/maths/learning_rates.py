"""A family: the learning rate as a function of the training step."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import cos, pi
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.optim import lr_scheduler

from neurosim.base import ConfigurationError, inside
from neurosim.families import Kind, NotNegative, Positive, register
from neurosim.maths.eager import eager
from neurosim.maths.torch_names import Options, TorchName, TorchNames, refusing

Every = Annotated[
    Literal["step", "epoch"], Field(description="how often the learning rate changes")
]


class LearningRate(Kind, ABC, family="learning_rate"):
    """Describes the learning rate as a function of the training step. Base class of the family."""

    @abstractmethod
    def at(self, step: int, rate: float, steps_per_epoch: int, epochs: int) -> float:
        """Returns the rate of step number ``step`` (from 0); ``rate`` is the optimizer's own."""

    def scheduler(self, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler | None:
        """Returns what sets the rates of this optimizer after each epoch, where they go by its
        scores; None where they are those `at` each step."""
        del optimizer
        return None


@register("constant")
@dataclass(frozen=True)
class ConstantRate(LearningRate):
    """Keeps the optimizer's own rate."""

    def at(self, step: int, rate: float, steps_per_epoch: int, epochs: int) -> float:
        del step, steps_per_epoch, epochs
        return rate


@dataclass(frozen=True)
class _AfterWarmup(LearningRate):
    """Warms up linearly to the optimizer's rate, then goes as `after` says."""

    warmup_epochs: Annotated[NotNegative, Field(description="length of the warm-up, in epochs")] = (
        0.0
    )
    warmup_from: Annotated[NotNegative, Field(description="learning rate at the first step")] = 0.0
    every: Every = field(default="step", kw_only=True)

    def at(self, step: int, rate: float, steps_per_epoch: int, epochs: int) -> float:
        if self.every == "epoch":
            step -= step % steps_per_epoch
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.warmup_from + (rate - self.warmup_from) * step / warmup
        return self.after(step - warmup, rate, steps_per_epoch, epochs)

    @abstractmethod
    def after(self, step: float, rate: float, steps_per_epoch: int, epochs: int) -> float:
        """Returns the rate so many steps after the warm-up."""


@register("cosine")
@dataclass(frozen=True)
class CosineRate(_AfterWarmup):
    """Warms up linearly to the optimizer's rate, then falls by half a cosine."""

    final: Annotated[NotNegative, Field(description="learning rate at the end of the cosine")] = 0.0
    end_epoch: Annotated[
        Positive | None, Field(description="epoch at which the cosine ends; default: the last")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.end_epoch is not None and self.end_epoch <= self.warmup_epochs:
            said = f"the cosine ends at epoch {self.end_epoch:g}, in a warm-up of "
            raise ConfigurationError(f"{said}{self.warmup_epochs:g} epochs", "end_epoch")

    def after(self, step: float, rate: float, steps_per_epoch: int, epochs: int) -> float:
        end = epochs if self.end_epoch is None else self.end_epoch
        total = max(1.0, end * steps_per_epoch - self.warmup_epochs * steps_per_epoch)
        progress = min(1.0, step / total)
        return self.final + (rate - self.final) * 0.5 * (1.0 + cos(pi * progress))


_CHAINED, _PLATEAU = "ChainedScheduler", "ReduceLROnPlateau"
_OF_OTHERS = ("SequentialLR", _CHAINED)
_FUNCTION = "takes a function: register a LearningRate of your own, or hand it to `Trainer`"
_TORCH = TorchNames(
    "scheduler",
    lr_scheduler,
    lr_scheduler.LRScheduler,
    {
        "LambdaLR": _FUNCTION,
        "MultiplicativeLR": _FUNCTION,
    },
    given=("optimizer", "last_epoch"),
)


@register("torch")
@dataclass(frozen=True)
class TorchRate(_AfterWarmup):
    """A scheduler of torch.optim.lr_scheduler by its name, which begins after the warm-up.

    The rate of a step is that to which its torch namesake comes by itself, by so many steps of its
    own from the start: what a training that goes on needs, and no state. Of SequentialLR and
    ChainedScheduler the option ``schedulers`` lists others, each by ``name`` and ``options``.
    ReduceLROnPlateau goes by the scores of each epoch, and has a state.
    """

    name: TorchName = field(kw_only=True)
    options: Options = field(default_factory=dict, kw_only=True)
    every: Every = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        made = self._scheduler(0.1)
        if self.name != _PLATEAU:  # some only find out what they cannot do as they take a step
            made.optimizer.step()
            with refusing(self.name):
                made.step()
        if self.name == _PLATEAU and (self.warmup_epochs or self.every != "epoch"):
            option = "warmup_epochs" if self.warmup_epochs else "every"
            said = (
                f"{_PLATEAU} goes by the scores of each epoch, from the first: leave {option} out"
            )
            raise ConfigurationError(said, option)

    @classmethod
    def example(cls) -> list["TorchRate"]:
        """Returns one of every scheduler that there is, with the options that it must have."""
        needed: dict[str, dict[str, Any]] = {
            _CHAINED: {"schedulers": [{"name": "LinearLR"}, {"name": "ConstantLR"}]},
            "CosineAnnealingLR": {"T_max": 7},
            "CosineAnnealingWarmRestarts": {"T_0": 3},
            "CyclicLR": {"base_lr": 0.01, "max_lr": 0.2, "cycle_momentum": False},
            "ExponentialLR": {"gamma": 0.9},
            "MultiStepLR": {"milestones": [2, 5]},
            "OneCycleLR": {"max_lr": 0.3, "total_steps": 50, "cycle_momentum": False},
            "SequentialLR": {
                "schedulers": [
                    {"name": "LinearLR", "options": {"total_iters": 3}},
                    {"name": "StepLR", "options": {"step_size": 2}},
                ],
                "milestones": [3],
            },
            "StepLR": {"step_size": 2},
        }
        return [cls(name=name, options=needed.get(name, {})) for name in _TORCH]

    @cached_property
    def _replayed(self) -> dict[float, tuple[lr_scheduler.LRScheduler, list[float]]]:
        """Rates of all steps so far, by the optimizer's own rate, and who goes on from there."""
        return {}

    def _scheduler(self, rate: float) -> lr_scheduler.LRScheduler:
        return _made(eager(torch.optim.SGD)([torch.zeros(1)], lr=rate), self.name, self.options)

    def scheduler(self, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler | None:
        return _made(optimizer, self.name, self.options) if self.name == _PLATEAU else None

    def after(self, step: float, rate: float, steps_per_epoch: int, epochs: int) -> float:
        del epochs
        if self.name == _PLATEAU:
            return rate
        number = int(step if self.every == "step" else step // steps_per_epoch)
        if rate not in self._replayed:
            made = self._scheduler(rate)
            self._replayed[rate] = made, [float(made.get_last_lr()[0])]
        scheduler, rates = self._replayed[rate]
        while len(rates) <= number:
            scheduler.optimizer.step()  # without gradients nothing: torch asks for the order
            with refusing(self.name):
                scheduler.step()
            rates.append(float(scheduler.get_last_lr()[0]))
        return rates[number]


def _made(
    optimizer: torch.optim.Optimizer, name: str, options: Mapping[str, Any]
) -> lr_scheduler.LRScheduler:
    """Makes a scheduler, and before it those that it is made of, as torch wants it."""
    if name in _OF_OTHERS:
        others = options.get("schedulers")
        if not isinstance(others, Sequence) or not others or not all(map(_is_named, others)):
            said = f"{name} needs schedulers, a list such as [{{name: LinearLR, options: {{}}}}, …]"
            raise ConfigurationError(said, ("options", "schedulers"))
        schedulers = []
        for number, other in enumerate(others):
            with inside("options", "schedulers", number):
                schedulers.append(_made(optimizer, other["name"], other.get("options", {})))
        options = {**options, "schedulers": schedulers}
    who = () if name == _CHAINED else (optimizer,)  # that one asks its schedulers
    made: lr_scheduler.LRScheduler = _TORCH.make(name, *who, **options)
    if getattr(made, "cycle_momentum", False):
        said = f"{name} would move the momentum too: say cycle_momentum: false"
        raise ConfigurationError(said, "options")
    return made


def _is_named(one: object) -> bool:
    """Says if this is a scheduler by its name, perhaps with options."""
    if not isinstance(one, Mapping) or not one.keys() <= {"name", "options"}:
        return False
    return isinstance(one.get("name"), str) and isinstance(one.get("options", {}), Mapping)
