"""A stream: one inference without end, driven from outside."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from neurosim.base import InputError, StateError
from neurosim.dynamics import Counts
from neurosim.schedules import Start
from neurosim.simulation import compatibility, saving
from neurosim.simulation.common import Common
from neurosim.simulation.endless import Endless, check_endless
from neurosim.tensors import Copier, complete


class Stream:
    """Drives a simulation that never stops: `push` an input, give and take a `target`, let time
    `advance`, and `read` what the network answers, in any order, for ever.

    Nothing is reset. The first input starts the stream as it would an inference, by the
    simulation's ``init``; of every later one the input dyads send what has changed, over the
    channels of all messages. Input and target stay until others come. The weights learn from the
    ``optimizer``'s steps where the plasticity of the simulation says so (``every`` so many ticks).

    Raises ConfigurationError for a simulation that cannot go on for ever, or an optimizer that
    nothing tells when to take its steps.
    """

    def __init__(self, simulation: Common, optimizer: torch.optim.Optimizer | None = None) -> None:
        check_endless(simulation)
        compatibility.check_within(optimizer, simulation.learns_within)
        compatibility.check_optimizer(optimizer, simulation.model)
        self.simulation, self._optimizer = simulation, optimizer
        self._inference: Endless | None = None
        # What has come since the last tick: an input, and a target (None: it has gone).
        self._input: Tensor | None = None
        self._target: tuple[Tensor | None] | None = None

    def push(self, x: Tensor) -> None:
        """Shows the inputs x (B, *input) from now on. Raises InputError for wrong shapes, values
        that are not finite, or another number of streams B than before."""
        model = self.simulation.model
        self._input = compatibility.accept("input", x, model.network.input.shape, model)
        self._check_batch(self._input, "inputs")

    def target(self, y: Tensor | None) -> None:
        """Nudges the output towards y from now on, (B, *output) or classes (B,); None takes the
        target away. Raises InputError as `push` does."""
        if y is not None:
            y = compatibility.accept_target(y, self.simulation.model)
            self._check_batch(y, "targets")
        self._target = (y,)

    def _check_batch(self, array: Tensor, what: str) -> None:
        known = self._input if self._inference is None else self.simulation.state.input.plus.tensor
        if known is not None and len(known) != len(array):
            raise InputError(f"there are {len(known)} streams, but {len(array)} {what}")

    @torch.no_grad()
    def advance(self, ticks: int = 1, interrupted: Callable[[], bool] = lambda: False) -> int:
        """Lets so many ticks pass, or fewer once ``interrupted()``. Returns how many.

        Raises StateError before the first input, DivergenceError where a state is not finite.
        """
        if self._inference is None:
            if self._input is None:
                raise StateError("there is no input yet: push one first")
            self._inference = self._begun()
            self._inference.begin(self._input, carried=False)
        elif self._input is not None:
            self._inference.push(self._input)
        if self._target is not None:
            self._inference.aim(*self._target)
        self._input = self._target = None
        return self._inference.advance(ticks, interrupted)

    def _begun(self) -> Endless:
        simulation = self.simulation
        at = Start(simulation.layout, 0, simulation.init == "feedforward", simulation.random)
        simulation.inferences += 1
        number, clock = simulation.inferences, simulation.schedule.start(at)
        options: Any = {"number": number, "tick": 0, "optimizer": self._optimizer, "record": False}
        inference = Endless(simulation, clock, None, **options)
        simulation.take_up(inference)
        return inference

    def _known(self) -> Endless:
        if self._inference is None:
            raise StateError("the stream has not begun: push an input, and advance")
        return self._inference

    def read(self) -> Tensor:
        """Returns what the network answers now, (B, *output): f(a) of the output without its nudge.
        What targets have done further down acts on it. Raises StateError before the first tick."""
        return self._known().read()

    @property
    def tick(self) -> int:
        """The ticks that have passed."""
        return 0 if self._inference is None else self._inference.tick

    @property
    def counts(self) -> Counts:
        """What has been done since the stream began."""
        return Counts() if self._inference is None else self._inference.counts

    # ---- as data -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Returns all that the rest of the stream depends on, as tensors and numbers, between any
        two ticks. With the states of model and optimizer it goes on bit for bit: `from_state`."""
        copied = Copier()
        target = None if self._target is None else tuple(map(copied, self._target))
        saved = saving.save(self.simulation, self._inference, stream=True)
        return saved | {"stream": {"input": copied(self._input), "target": target}}

    @classmethod
    def from_state(
        cls,
        simulation: Common,
        state: Mapping[str, Any],
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Self:
        """Returns the stream that `state` was taken of, in a simulation that is built the same way.

        Raises StateError where it is of another version, network, rule or schedule, or no stream.
        """
        stream = cls(simulation, optimizer)
        saving.check(simulation, dict(state), optimizer, stream=True)
        with complete("state"):
            copied, saved = Copier(simulation.state.device), state["stream"]
            target = saved["target"]
            stream._input = copied(saved["input"])
            stream._target = None if target is None else (copied(target[0]),)
            stream._inference = saving.load(simulation, dict(state), optimizer, Endless)
            simulation.take_up(stream._inference)
        return stream
