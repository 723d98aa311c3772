"""A stream for networks that take one sample after the other: what comes meanwhile is missed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, StateError
from neurosim.dynamics import Counts
from neurosim.simulation.common import Common
from neurosim.simulation.stream import Answer, Stream
from neurosim.tensors import Copier, complete


class Episodes(Stream):
    """Shows the same samples to a simulation as a `Stream` does, each in an inference of its own.

    An inference begins with what is shown when the one before is over, holds it to its end, phases
    and all, and then the weights learn. What is shown meanwhile is missed, and has the answer that
    was there before: what a network answers is its last prediction, known from when its target
    begins to act. The label is there whenever an inference needs it.

    Raises ConfigurationError for a ``delay`` of the target, which an inference cannot wait for.
    """

    simulation: Any  # a `Simulation`

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._began: int | None = None  # the tick before the inference under way
        self._now, self._number = 0, -1  # the sample that was taken last
        self._answer: Tensor | None = None
        self._done: dict[str, int] = {**asdict(Counts()), "updates": 0}

    def _accept(self, simulation: Common) -> None:
        if self.timing.delayed:
            said = "an inference of its own cannot wait for a label: leave the delay out"
            raise ConfigurationError(said, ("target", "delay"))

    def push(self, x: Tensor) -> None:
        """Raises StateError: inferences take their samples from the source."""
        raise StateError("episodes take their samples from a source; push into a Stream")

    target = push  # type: ignore[assignment]

    def follow(
        self, tick: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Iterator[Answer]:
        """Goes on as `Stream.follow` does."""
        timing = self.timing
        while (now := self._now) < tick:
            until = min(timing.following(now), tick)
            if self._advance_to(until, interrupted) < until:
                return
            if (number := timing.reads(until)) is not None:
                yield Answer(number, self.read(), self._samples(number)[1])

    def _advance_to(self, until: int, interrupted: Callable[[], bool]) -> int:
        simulation = self.simulation
        while self._now < until and not interrupted():
            if self._began is None:
                number = self._now // self.timing.hold
                if number == self._number:  # nothing new is shown
                    self._now = min(until, (number + 1) * self.timing.hold)
                    continue
                self._take(number)
            before = self._now
            self._now += simulation.advance(until - before, interrupted)
            inference = simulation.inference
            if inference.prediction is not None and (inference.nudge.active or simulation.done):
                self._answer = inference.prediction
            if simulation.done:
                self._finish()
        return self._now

    def _take(self, number: int) -> None:
        x, y = self._samples(number)
        simulation = self.simulation
        labelled = y is not None and self.timing.labelled(number)
        within = self._optimizer if simulation.learns_within else None
        simulation.start(x, y if labelled else None, optimizer=within, record=False)
        self._began, self._number = self._now, number

    def _finish(self) -> None:
        simulation = self.simulation
        outcome, inference = simulation.finish(), simulation.inference
        self._answer = outcome.prediction
        taught = self._optimizer is not None and inference.nudge.target is not None
        if taught and not simulation.learns_within:
            simulation.learn(self._optimizer)
        for key, value in self._present().items():
            self._done[key] += value
        self._began = None

    def _present(self) -> dict[str, int]:
        inference = self.simulation.inference
        return {**asdict(inference.counts), "updates": inference.synapses.updates}

    def _total(self) -> dict[str, int]:
        if self._began is None:
            return dict(self._done)
        return {key: value + self._done[key] for key, value in self._present().items()}

    def read(self) -> Tensor:
        """Returns the last prediction that is known (B, *output); zeros before the first."""
        if self._answer is not None:
            return self._answer
        x, output = self._samples(0)[0], self.simulation.model.network.output
        return torch.zeros((len(x), *output.shape), dtype=self.simulation.model.dtype)

    @property
    def tick(self) -> int:
        """The ticks that have passed."""
        return self._now

    @property
    def counts(self) -> Counts:
        """What has been done since the stream began."""
        return Counts(**{key: n for key, n in self._total().items() if key != "updates"})

    @property
    def updates(self) -> int:
        """How many weights have been moved since then, each counted once an update."""
        return self._total()["updates"]

    # ---- as data -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Returns all that the rest depends on, as `Stream.state` does."""
        simulation = self.simulation
        own: dict[str, Any] = {"began": self._began, "now": self._now, "number": self._number}
        own |= {"done": dict(self._done), "answer": Copier()(self._answer)}
        return {**simulation.state_dict(), "episodes": own}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken. Raises StateError where it does not fit."""
        simulation = self.simulation
        with complete("state"):
            own = state["episodes"]
            within = self._optimizer if simulation.learns_within else None
            simulation.load_state_dict(dict(state), optimizer=within)
            self._began, self._now, self._number = (own[k] for k in ("began", "now", "number"))
            self._done, self._answer = dict(own["done"]), own["answer"]
