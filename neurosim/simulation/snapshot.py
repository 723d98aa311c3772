"""A simulation as data, and back: tensors and numbers, at any tick boundary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim.base import StateError, generator_state, restore_generator
from neurosim.dynamics import Counts, Phases, State, Ticker
from neurosim.measures import Trace
from neurosim.rules import Nudge, Rule
from neurosim.schedules import Clock, Layout, Schedule, Start
from neurosim.simulation.engine import Engine
from neurosim.tensors import complete

STATE_VERSION = 4


class Resumable(ABC):
    """What of a simulation changes as it runs, saved and restored."""

    schedule: Schedule
    rule: Rule
    layout: Layout
    device: torch.device
    state: State
    nudge: Nudge
    trace: Trace
    random: np.random.Generator
    inferences: int  # begun so far: every one has noise of its own
    _phases: Phases
    _ticker: Ticker | None
    _clock: Clock | None
    _engine: Engine | None
    _optimizer: torch.optim.Optimizer | None
    _running: bool
    _stopped: bool
    _recording: bool
    _began: int  # the tick before the first of this inference
    _tick: int  # the last completed tick

    @abstractmethod
    def _check_weights(self) -> None:
        """Takes note of changed weights."""

    @abstractmethod
    def _start(self, random: np.random.Generator) -> Start: ...

    @abstractmethod
    def _new_ticker(self, counts: Counts) -> Ticker: ...

    @abstractmethod
    def _new_engine(self) -> None: ...

    def _identity(self) -> tuple[str, str, int]:
        """(schedule, rule, units): what a saved state and a simulation have to share."""
        return type(self.schedule).__name__, type(self.rule).__name__, self.layout.total

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on but the parameters, as tensors and numbers.

        Together with ``model.state_dict()`` (and the optimizer's, if there is one) it continues bit
        for bit in a simulation that is built the same way.
        """
        if self._clock is not None:
            self._check_weights()  # who loads this takes the weights as seen
        schedule, rule, units = self._identity()
        started = self._clock is not None and self._ticker is not None
        return {
            "version": STATE_VERSION,
            "schedule": schedule,
            "rule": rule,
            "units": units,
            "running": self._running,
            "stopped": self._stopped,
            "recording": self._recording,
            "began": self._began,
            "tick": self._tick,
            "inferences": self.inferences,
            "random": generator_state(self.random),
            "clock": None if self._clock is None else self._clock.state_dict(),
            "state": self.state.state_dict() if started else None,
            "phases": self._phases.state_dict(),
            "nudge": {
                "target": _copied(self.nudge.target),
                "gradient": _copied(self.nudge.gradient),
                "active": self.nudge.active,
            },
            "counts": asdict(self._ticker.counts) if started and self._ticker else None,
            "trace": self.trace.state_dict(),
        }

    def load_state_dict(
        self, state: dict[str, Any], *, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Continues where `state_dict` was taken; ``optimizer`` is for ``learn_every``.

        Raises StateError where the state is of another version, network, rule or schedule, or not
        complete.
        """
        with complete("state"):
            self._load(state, optimizer)

    def _load(self, state: dict[str, Any], optimizer: torch.optim.Optimizer | None) -> None:
        if state["version"] != STATE_VERSION:
            raise StateError(
                f"the saved state is in format {state['version']} of another version of neurosim; "
                f"this one reads {STATE_VERSION}: continue with the other, or start anew"
            )
        mine = self._identity()
        saved = tuple(state[key] for key in ("schedule", "rule", "units"))
        if saved != mine:
            raise StateError(
                f"the saved state is of (schedule, rule, units) {saved}; this simulation has {mine}"
            )
        self._running, self._stopped = bool(state["running"]), bool(state["stopped"])
        self._recording = bool(state["recording"])
        self._began, self._tick = int(state["began"]), int(state["tick"])
        self.inferences = int(state["inferences"])
        restore_generator(self.random, state["random"])
        self.trace = Trace(state["trace"])
        self._optimizer = optimizer
        for key in ("target", "gradient"):
            value = _copied(state["nudge"][key])
            setattr(self.nudge, key, None if value is None else value.to(self.device))
        self.nudge.active = bool(state["nudge"]["active"])
        self._clock = self._ticker = self._engine = None
        if state["clock"] is not None:
            self.state.load_state_dict(state["state"])
            self._phases.load_state_dict(state["phases"])
            self._clock = self.schedule.restore(self._start(self.random), state["clock"])
            counts = {field.name: state["counts"][field.name] for field in fields(Counts)}
            self._ticker = self._new_ticker(Counts(**counts))
            self._new_engine()


def _copied(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
