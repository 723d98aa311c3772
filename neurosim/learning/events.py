"""What happens in a training, as events, and the listeners that are told of it.

A listener is any object with some of the methods of `Listener`. Deriving from it is a convenience.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from neurosim.base import ConfigurationError, StateError, did_you_mean
from neurosim.families import Kind
from neurosim.simulation import Simulation

Status = Literal["finished", "interrupted", "failed"]

FOREVER = 10**12  # steps, or samples of a stream: no training gets there


@dataclass(frozen=True)
class TrainingEvent:
    """Something that happened in a training: in ``epoch`` (from 1), after ``step`` steps."""

    epoch: int
    step: int

    @property
    def hook(self) -> str:
        """The method of a listener that is told, ``on_step`` of a `StepEvent`."""
        return f"on_{type(self).__name__.removesuffix('Event').lower()}"

    def record(self) -> dict[str, Any] | None:
        """Returns the line of metrics.jsonl, or None for what is not written there."""
        return None

    @property
    def _where(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "step": self.step}


@dataclass(frozen=True)
class StartEvent(TrainingEvent):
    """`Trainer.fit` begins, or goes on, towards ``steps`` steps of the ``simulation``'s model."""

    steps: int
    simulation: Simulation


@dataclass(frozen=True)
class StepEvent(TrainingEvent):
    """A step was taken at learning rate ``lr``, after an inference of so many ``ticks``.

    ``loss`` and ``accuracy`` are the means over its batch of `Outcome.prediction`: before the step,
    and without the target. ``logged`` holds for every `TrainingPlan.loss_every`-th step and the
    last one of an epoch.
    """

    loss: float
    accuracy: float
    lr: float
    ticks: int
    logged: bool

    def record(self) -> dict[str, Any] | None:
        if not self.logged:
            return None
        scores = {"loss": self.loss, "accuracy": self.accuracy, "lr": self.lr}
        return {"event": "step"} | scores | self._where


@dataclass(frozen=True)
class TraceEvent(TrainingEvent):
    """A probe recorded ``values`` within the inference of this step.

    ``values`` holds ``tick`` and ``time`` since the beginning of the inference, and the measures.
    """

    probe: str
    values: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        return {"event": "trace", "probe": self.probe, **self._where, **self.values}


@dataclass(frozen=True)
class EvaluationEvent(TrainingEvent):
    """An evaluation on a split goes on: so many ``samples`` of ``total`` are done."""

    split: str  # test or validation
    samples: int
    total: int


@dataclass(frozen=True)
class EpochEvent(TrainingEvent):
    """An epoch is over: ``train_loss`` and ``train_accuracy`` are the means over its steps, before
    each.

    ``totals`` are the counts of the whole training so far, with ``ticks`` and ``time``. Accuracies
    and mean losses are None where they were not measured. ``metrics`` are the other scores, such as
    ``test_top_5``.
    """

    train_loss: float
    train_accuracy: float
    totals: Mapping[str, float]
    test_accuracy: float | None = None
    test_loss: float | None = None
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        trained = {key: getattr(self, key) for key in ("train_loss", "train_accuracy")}
        head = {"event": "epoch", **self._where, **trained, **self.totals}
        scores = {key: getattr(self, key) for key in _SCORES}
        found = {key: score for key, score in scores.items() if score is not None}
        return {**head, **found, **self.metrics}


_SCORES = ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss")


@dataclass(frozen=True)
class EndEvent(TrainingEvent):
    """`Trainer.fit` ends. ``error`` is what was raised, if it ``failed``."""

    status: Status
    error: BaseException | None = None


class Listener:
    """A base class for listeners, whose methods do nothing. A listener has those that it wants.

    With ``state_dict()`` and ``load_state_dict(state)`` besides, its state is part of a run's
    checkpoints: dictionaries, lists, tensors, numbers and text.
    """

    def on_start(self, event: StartEvent) -> None:
        """Is told once, before the first step."""

    def on_gradients(self, gradients: dict[str, Tensor]) -> bool | None:
        """Is told of the local gradients by parameter, before the optimizer's step.

        It may change them in place, or put others in their place.

        Returns:
            False to veto the step: no parameter changes, feedback weights included.
        """

    def on_step(self, event: StepEvent) -> None:
        """Is told after every step."""

    def on_trace(self, event: TraceEvent) -> None:
        """Is told of every record of a probe, before the step in which it was made."""

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Is told how far an evaluation is."""

    def on_epoch(self, event: EpochEvent) -> None:
        """Is told after every epoch and its evaluation."""

    def on_end(self, event: EndEvent) -> None:
        """Is told once, when the training ends in whatever way."""


HOOKS = tuple(name for name in vars(Listener) if name.startswith("on_"))


class ListenerChoice(Kind, ABC, family="listener", bare=True):
    """Describes a listener of a scenario's runs, and makes it. Base class of the family."""

    def check(self) -> None:
        """Raises ConfigurationError for one that cannot be made; asked before a run is begun."""

    @abstractmethod
    def make(self, folder: Path) -> object:
        """Makes the listener of one run, for which it may write files into ``folder``."""


def listed(listeners: object) -> list[object]:
    """Returns several listeners. Raises ConfigurationError for what is not several, as one is."""
    if not isinstance(listeners, Iterable):
        said = f"listeners are a list, not a {type(listeners).__name__}; give listeners=[it]"
        raise ConfigurationError(said)
    return list(listeners)


class Listeners:
    """Several listeners, each of which is told what it has a method for, in the order given,
    but some ``first``.

    Raises:
        ConfigurationError: for an object without such a method, or with an unknown ``on_…``.
    """

    def __init__(self, listeners: Sequence[object], *first: object) -> None:
        self._all = (*first, *listed(listeners))
        for listener in self._all:
            name = type(listener).__name__
            own = [key for key in dir(listener) if key.startswith("on_")]
            for key in own:
                if key not in HOOKS:
                    hint = did_you_mean(key, HOOKS) or f"; a listener has {', '.join(HOOKS)}"
                    raise ConfigurationError(f"{name}.{key} is never called{hint}")
            if not own:
                raise ConfigurationError(
                    f"a {name} hears nothing: it has none of {', '.join(HOOKS)}"
                    + "; a scenario names listeners: overrides {'listeners': […]}" * (name == "str")
                )

    def tell(self, event: TrainingEvent) -> None:
        for listener in self._all:
            getattr(listener, event.hook, _nothing)(event)

    @property
    def change_gradients(self) -> bool:
        """Whether any of them is told of gradients."""
        return any(map(_changes, self._all))

    def gradients(self, gradients: dict[str, Tensor]) -> bool:
        """Returns False at the first veto, of which those after it are not told."""
        hooks = (getattr(listener, "on_gradients", _nothing) for listener in self._all)
        return all(hook(gradients) is not False for hook in hooks)

    def state_dict(self) -> list[dict[str, Any]]:
        """Returns the names and states, by name, of those without which a training would go on as
        another one: that have a state, or are told of gradients."""
        return [
            {"name": _name(one), "state": getattr(one, "state_dict", dict)() or None}
            for one in sorted(filter(_matters, self._all), key=_name)
        ]

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Puts the states back, of listeners of one class in their order. Raises StateError where
        one of them is missing, or one that was not there is told of gradients."""
        here, pairs = list(filter(_matters, self._all)), list[tuple[object, Any]]()
        for saved in states:
            place = next((n for n, one in enumerate(here) if _name(one) == saved["name"]), None)
            if place is None:
                raise StateError(
                    f"the training began with a listener {saved['name']}, which has a state or is "
                    "told of gradients, and there is none: give it, listeners=…"
                )
            pairs.append((here.pop(place), saved["state"]))
        if more := list(filter(_changes, here)):
            raise StateError(
                f"the listener {_name(more[0])} is told of gradients, and was not there when the "
                "training began: leave it out"
            )
        for listener, state in pairs:
            if state is not None:
                getattr(listener, "load_state_dict", _nothing)(state)


def _name(listener: object) -> str:
    return type(listener).__qualname__


def _changes(listener: object) -> bool:
    """Says if a listener is told of gradients, which it may change."""
    hook = getattr(listener, "on_gradients", None)
    return hook is not None and getattr(hook, "__func__", hook) is not Listener.on_gradients


def _matters(listener: object) -> bool:
    return hasattr(listener, "state_dict") or _changes(listener)


def _nothing(argument: object) -> None:
    del argument
