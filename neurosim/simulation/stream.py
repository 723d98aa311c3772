"""A stream: one inference without end, driven from outside or by a source."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import inf, nan
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, InputError, StateError
from neurosim.data import Samples, Target, Timing, samples_of
from neurosim.dynamics import Counts
from neurosim.families import Positive, check
from neurosim.measures import metrics
from neurosim.network import Model
from neurosim.schedules import Start
from neurosim.simulation import compatibility, saving
from neurosim.simulation.common import Common
from neurosim.simulation.endless import Endless, check_endless
from neurosim.simulation.silence import warn_of_thresholds
from neurosim.tensors import Copier, complete


class Answer(NamedTuple):
    """What the network answered to a sample, (B, *output), before its label ``y`` could act: that
    as the source gave it, None without one."""

    number: int
    prediction: Tensor
    y: Tensor | None


@dataclass(frozen=True)
class Window:
    """A part of a stream: the answers in it, what was done in it, updates of weights too, and the
    tick at its end."""

    tick: int
    answers: tuple[Answer, ...]
    counts: Counts
    updates: int

    @property
    def accuracy(self) -> float:
        """The part of the classes (B,) that were right; not a number without any."""
        found = [
            metrics.accuracy(answer.prediction, answer.y.to(answer.prediction.device))
            for answer in self.answers
            if answer.y is not None and not answer.y.is_floating_point()
        ]
        return sum(found) / len(found) if found else nan


class Stream:
    """Drives a simulation that never stops: `push` an input, give and take a `target`, let time
    `advance`, and `read` what the network answers, in any order, for ever.

    Nothing is reset. The first input starts the stream as it would an inference, by the
    simulation's ``init``; of every later one the input dyads send what has changed, over the
    channels of all messages. Input and target stay until others come. The weights learn from the
    ``optimizer``'s steps where the plasticity of the simulation says so (``every`` so many ticks).

    With a ``source`` it can `run` by itself: pairs (x, y) of an iterable, or a function of a number
    that returns such a pair, of which there are ``length``. Each is shown for ``hold`` of simulated
    time, and its label acts when ``target`` says.

    Raises ConfigurationError for a simulation that cannot go on for ever, or an optimizer that
    nothing tells when to take its steps.
    """

    def __init__(
        self,
        simulation: Common,
        source: Samples | Iterable[Any] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        hold: float = 16.0,
        target: Target | None = None,
        length: float = inf,
    ) -> None:
        if not isinstance(getattr(simulation, "model", None), Model):
            raise ConfigurationError(f"simulation is {simulation!r}; it must be a Simulation")
        check(Positive, hold=hold)
        check(Target | None, target=target)
        check(float, length=length)
        check(Iterable | Callable | None, source=source)
        compatibility.check_optimizer(optimizer, simulation.model)
        self.simulation, self._optimizer = simulation, optimizer
        self._inference: Endless | None = None
        self._samples = source if callable(source) else samples_of(() if source is None else source)
        teaching = Target() if target is None else target
        self.timing = Timing(hold, teaching, simulation.schedule.tick, simulation.seed)
        self.last_tick, self._sourced = length * self.timing.hold, source is not None
        self._accept(simulation)
        # What has come since the last tick: an input, and a target (None: it has gone).
        self._input: Tensor | None = None
        self._target: tuple[Tensor | None] | None = None

    def _accept(self, simulation: Common) -> None:
        """Raises ConfigurationError where the simulation cannot do it."""
        check_endless(simulation)
        compatibility.check_within(self._optimizer, simulation.learns_within)

    @compatibility.undisturbed()
    def push(self, x: Tensor) -> None:
        """Shows the inputs x (B, *input) from now on. Raises InputError for wrong shapes, values
        that are not finite, or another number of streams B than before."""
        model = self.simulation.model
        x = compatibility.accept("input", x, model.network.input.shape, model)
        self._check_batch(x, "inputs", None if self._target is None else self._target[0])
        self._input = x

    @compatibility.undisturbed()
    def target(self, y: Tensor | None) -> None:
        """Nudges the output towards y from now on, (B, *output) or classes (B,); None takes the
        target away. Raises InputError as `push` does."""
        if y is not None:
            y = compatibility.accept_target(y, self.simulation.model)
            self._check_batch(y, "targets", self._input)
        self._target = (y,)

    def _check_batch(self, array: Tensor, what: str, other: Tensor | None) -> None:
        known = other if self._inference is None else self.simulation.state.input.plus.tensor
        if known is not None and len(known) != len(array):
            raise InputError(f"there are {len(known)} streams, but {len(array)} {what}")

    @compatibility.undisturbed()
    def advance(self, ticks: int = 1, interrupted: Callable[[], bool] = lambda: False) -> int:
        """Lets so many ticks pass, or fewer once ``interrupted()``. Returns how many.

        Raises StateError before the first input, DivergenceError where a state is not finite.
        """
        if not ticks or interrupted():
            return 0
        if self._inference is None:
            if self._input is None:
                raise StateError("there is no input yet: push one first")
            begun = self._begun()
            begun.begin(self._input, carried=False)
            self._inference = begun
        elif self._input is not None:
            self._inference.push(self._input)
        if self._target is not None:
            self._inference.aim(*self._target)
        self._input = self._target = None
        inference, before = self._inference, self._inference.tick
        # What has come is only seen in a tick: one is run in any case.
        return inference.advance(ticks, lambda: inference.tick > before and interrupted())

    def follow(
        self, tick: int, interrupted: Callable[[], bool] = lambda: False
    ) -> Iterator[Answer]:
        """Goes on to that ``tick``, or until ``interrupted()``, by what the source shows. Yields
        the answers that are read on the way."""
        timing = self.timing
        while (now := self.tick) < tick:
            self._show(now)
            until = min(timing.following(now), tick)
            if self.advance(until - now, interrupted) < until - now:
                return
            if (number := timing.reads(until)) is not None:
                yield Answer(number, self.read(), self._samples(number)[1])

    def _show(self, tick: int) -> None:
        """Takes from the source what is new at ``tick``."""
        timing = self.timing
        if tick == 0 or timing.input(tick) != timing.input(tick - 1):
            self.push(self._samples(timing.input(tick))[0])
        label = timing.label(tick)
        if label != (timing.label(tick - 1) if tick else None):
            self.target(None if label is None else self._samples(label)[1])

    def run(
        self, ticks: int = 1000, interrupted: Callable[[], bool] = lambda: False
    ) -> Iterator[Window]:
        """Follows the source to its end, if it has one, and yields a window after every so many
        ``ticks``. Raises StateError for a stream without a source."""
        if not self._sourced:
            raise StateError("the stream has no source: push inputs, or make it with a source")
        while self.tick < self.last_tick and not interrupted():
            before, updates = asdict(self.counts), self.updates
            until = int(min(self.tick // ticks * ticks + ticks, self.last_tick))
            answers = tuple(self.follow(until, interrupted))
            done = {key: value - before[key] for key, value in asdict(self.counts).items()}
            self.warn_of_silence()
            yield Window(self.tick, answers, Counts(**done), self.updates - updates)

    def warn_of_silence(self) -> None:
        """Warns once of populations that have something to send, and have sent nothing so far, as
        the thresholds of their channels are too high."""
        if (inference := self._inference) is not None:
            nudged = inference.nudge.active
            warn_of_thresholds(self.simulation, inference.tick, nudged)

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

    @compatibility.undisturbed()
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

    @property
    def updates(self) -> int:
        """How many weights have been moved since then, each counted once an update."""
        return 0 if self._inference is None else self._inference.synapses.updates

    # ---- as data -------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Returns all that the rest of the stream depends on, as tensors and numbers, between any
        two ticks. With the states of model and optimizer it goes on bit for bit: `from_state`."""
        copied = Copier()
        target = None if self._target is None else tuple(map(copied, self._target))
        saved = saving.save(self.simulation, self._inference, stream=True)
        return saved | {"stream": {"input": copied(self._input), "target": target}}

    @compatibility.undisturbed()
    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken, in a stream that is made the same way.

        Raises StateError where it is of another version, network, rule or schedule, or no stream.
        """
        simulation = self.simulation
        check(Mapping[str, Any], state=state)
        saving.check(simulation, dict(state), self._optimizer, stream=True)
        simulation.take_up(None)
        self._inference = None  # where the rest is not complete
        with complete("state"):
            copied, saved = Copier(simulation.state.device), state["stream"]
            came, target = copied(saved["input"]), saved["target"]
            aimed = None if target is None else (copied(target[0]),)
            loaded = saving.load(simulation, dict(state), self._optimizer, Endless)
        simulation.take_up(loaded)
        self._inference, self._input, self._target = loaded, came, aimed

    @classmethod
    def from_state(
        cls, simulation: Common, state: Mapping[str, Any], *how: Any, **more: Any
    ) -> Self:
        """Returns a stream, made of the other arguments, that goes on where `state` was taken.
        Raises what `load` does."""
        stream = cls(simulation, *how, **more)
        stream.load(state)
        return stream
