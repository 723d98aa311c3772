"""A simulation: model, rule, schedule, channels and probes put together, tick by tick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from neurosim.base import NEVER, InputError, StateError, check_choices, check_counts, stream
from neurosim.channels import Channels, Moment
from neurosim.dynamics import Compute, Counts, News, Phases, State, Ticker, learn_feedback
from neurosim.maths import Loss, Precision, check_precision
from neurosim.measures import Probe, Recorder, Trace, metrics
from neurosim.network import Faults, Model
from neurosim.rules import DualPropagation, Nudge, Rule
from neurosim.schedules import Clock, Layout, Schedule, Start, Unit
from neurosim.simulation.compatibility import (
    Init,
    accept_batch,
    check_length,
    check_phases,
    check_probes,
    check_start,
)
from neurosim.simulation.engine import Engine, Processes
from neurosim.simulation.outcome import Outcome, Stop
from neurosim.simulation.snapshot import Resumable
from neurosim.simulation.waking import Living
from neurosim.tensors import Ints, resolve_device


class Simulation(Resumable):
    """An asynchronous network of dyads, one batch at a time.

    ``init``: start each inference from ``zero`` states, from a ``feedforward`` pass, or ``carry``
    states, messages and time over (L-DP). ``nudge_after``: the tick from which the target acts.
    ``learn_every``: with an optimizer, update the weights after every so many ticks; None leaves it
    to `learn`. ``compute``: "dense" forces dense operations. ``precision``: "bf16-mixed" computes
    the products of projections in bfloat16, all else stays float32; None is the model's own dtype.
    ``processes``: one SimPy process per "population", or per unit ("neuron"); traces are identical.

    Raises ConfigurationError for parts that do not go together.
    """

    def __init__(
        self,
        model: Model,
        *,
        schedule: Schedule,
        rule: Rule | None = None,
        loss: Loss | str = "squared_error",
        channels: Channels | None = None,
        faults: Faults | None = None,
        init: Init = "feedforward",
        nudge_after: int | None = None,
        learn_every: int | None = None,
        probes: Sequence[Probe | str] = (),
        stop: Stop | None = None,
        device: str | torch.device = "cpu",
        compute: Compute = "auto",
        precision: Precision | None = None,
        processes: Processes = "population",
        seed: int = 0,
    ) -> None:
        self.rule = rule if rule is not None else DualPropagation()
        check_choices(init=(init, Init), compute=(compute, Compute))
        check_choices(processes=(processes, Processes))
        check_counts(learn_every=learn_every)
        check_counts(0, nudge_after=nudge_after)
        check_precision(precision, model.dtype)
        network = model.network
        self.probes = tuple(Probe.of(probe) for probe in probes)
        check_start(init, self.rule, network)
        check_probes(self.probes, network, self.rule)
        self.loss = Loss.of(loss)
        self.rule.check_loss(self.loss)
        self.rule.check_network(network)
        self.device = resolve_device(device)
        self.model = model.to(self.device)
        self.schedule, self.init, self.stop = schedule, init, stop
        self.learn_every, self.processes, self.precision = learn_every, processes, precision
        self.nudge_after = nudge_after or 0
        if nudge_after is None and not self.rule.phases:
            self.nudge_after = schedule.nudge_after(network.depth)
        self.layout = Layout(network, Unit.of(schedule.unit))
        self.channels = channels if channels is not None else Channels()
        self.faults = faults if faults is not None else Faults()
        resolved = self.channels.resolve(network, schedule.tick)
        check_phases(self.rule, resolved, nudge_after, learn_every)
        self.state = State(
            model,
            resolved,
            tick=schedule.tick,
            seed=seed,
            tracked=any(probe.tracks for probe in self.probes),
            damage=self.faults.damage(network, seed),
            precision=precision,
            paired=self.rule.paired,
            by_position=self.layout.unit.has_positions,
        )
        self._living = Living(self.layout, self.state)
        self.seed, self.random = seed, stream(seed, "schedule")
        self.inferences = 0  # begun so far: every one has noise of its own
        self.nudge = Nudge(self.loss)
        self._compute: Compute = compute
        self._phases = Phases(self.rule, self.state, self.nudge)
        self._recorder = Recorder(
            self.state, self.rule, self.nudge, self._phases, self.probes, schedule.tick
        )
        self._ticker: Ticker | None = None
        self._clock: Clock | None = None
        self._engine: Engine | None = None
        self._running = self._stopped = False
        self._began = 0  # the tick before the first of this inference
        self._tick = 0  # the last completed tick
        self._optimizer: torch.optim.Optimizer | None = None
        self._recording = True
        self.trace = Trace()
        # Is told of the gradients before each step of the optimizer; False from it is a veto.
        self.before_step: Callable[[dict[str, Tensor]], bool | None] | None = None
        # Whether what has not changed is left out. Never changes a result: to measure and test.
        self.caching = True

    # ---- an inference --------------------------------------------------------------------------

    def infer(
        self,
        x: Tensor,
        target: Tensor | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        record: bool = True,
    ) -> Outcome:
        """`start`, `advance` to the end, `finish`."""
        self.start(x, target, optimizer=optimizer, record=record)
        self.advance()
        return self.finish()

    @torch.no_grad()
    def start(
        self,
        x: Tensor,
        target: Tensor | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        record: bool = True,
    ) -> None:
        """Begins an inference on inputs x (B, *input) with targets (B, *output), if any.

        ``optimizer`` is for ``learn_every``; ``record`` switches the probes. Raises InputError for
        wrong shapes, values that are not finite, or another batch size than the carried one.
        """
        x, target = accept_batch(x, target, self.model)
        x = x.to(self.rule.state_dtype(x.dtype))
        previous = self._clock if self.init == "carry" else None
        if previous is None:
            self._tick = 0
        elif len(x) != self.state.batch:
            raise InputError(
                f"the batch has {len(x)} samples, but the carried states have {self.state.batch}; "
                "with init 'carry' the batch size is fixed"
            )
        self._began = self._tick
        self._running = self._stopped = False
        self._optimizer, self._recording = optimizer, record
        self.trace = Trace()
        self._engine = None
        self.inferences += 1
        self._clock = self._new_clock(self._start(self.random, previous), target is not None)
        self._ticker = self._new_ticker(Counts())
        self.nudge.target, self.nudge.gradient = target, None
        self.nudge.active = target is not None and self.nudge_after == 0
        self._phases.begin(self._tick)
        news, moment = News(), Moment(self.inferences, self._tick)
        self.state.forget_target()
        if previous is None:
            self._ticker.reset(x, moment)
            self.state.update_damping(self.rule)
            if self.init == "feedforward":
                self._ticker.feed_forward(moment)
                if target is not None and self.rule.needs_prediction:
                    prediction = self.state.output.plus.value
                    self.nudge.gradient = self.loss.gradient(prediction, target)
        else:
            self._check_weights()
            self._ticker.new_input(x, moment, news)
        self.state.output.stale.touch()
        self._living.hear(self._clock, self._tick + 1, news)
        if previous is not None:
            self._living.output_hears(self._clock, self._began + 1)
        elif not self.rule.paired:  # a feed-forward pass leaves feedback that nobody has seen
            self._living.all_hear(self._clock, self._began + 1)
        self._announce_nudge(self._began + 1)
        self._new_engine()
        self._running = True

    def advance(self, ticks: int | None = None) -> int:
        """Runs so many ticks, or to the end of the inference; the number of ticks that were run.

        Raises StateError outside of an inference, DivergenceError where a state is not finite.
        """
        if not self._running:
            raise StateError("there is no inference under way: call start first")
        assert self._engine is not None
        assert self._clock is not None
        self._check_weights()
        before = self._tick
        goal = NEVER if ticks is None else before + ticks
        try:
            with torch.no_grad():
                self._engine.run_until(min(self._clock.end, goal), lambda: self._over)
                while self._tick < goal and self._over and not self.done:
                    self._next_run()
                    self._engine.run_until(min(self._clock.end, goal), lambda: self._over)
        except BaseException:
            # A tick that was not completed leaves nothing that could be carried on.
            self._running, self._clock = False, None
            raise
        return self._tick - before

    @property
    def done(self) -> bool:
        """Whether the inference is over; an event-driven one also when nothing is due."""
        return self._over and not self._phases.follows(self._early)

    @property
    def phase(self) -> str | None:
        """The name of the present phase, in a rule that has any."""
        return self._phases.name

    @property
    def _early(self) -> bool:
        """Whether this run of the schedule ended before its time."""
        return self._stopped or self._tick < self._running_clock.end

    @property
    def _running_clock(self) -> Clock:
        if self._clock is None:
            raise StateError("there is no inference yet: call infer or start first")
        return self._clock

    @property
    def _over(self) -> bool:
        """Whether this run of the schedule is."""
        clock = self._running_clock
        if self._stopped or self._tick >= clock.end:
            return True
        if not clock.listens or self._tick == self._phases.began:
            return False
        # A target or a weight update still to come would wake what sleeps.
        expected = self._optimizer is not None and self.learn_every is not None
        waits = self.nudge.target is not None and not self.nudge.active
        expected |= waits and not self._phases.all
        if expected or not bool((clock.next > clock.end).all()):
            return False
        return all(line.last_arrival() <= self._tick + 1 for _, line in self.state.lines)

    @property
    def tick(self) -> int:
        """The last completed tick."""
        return self._tick

    @property
    def last_tick(self) -> int:
        """The tick at which the inference ends at the latest."""
        ahead = self._phases.runs_ahead()
        return self._running_clock.end + (ahead and ahead * self._longest_run)

    @property
    def time(self) -> float:
        """Simulated time."""
        return self._tick * self.schedule.tick

    @torch.no_grad()
    def finish(self) -> Outcome:
        """Ends the inference, with learning if it is due. What arrives at the tick after the last
        has been delivered."""
        if not self._running:
            raise StateError("there is no inference under way: call start first")
        if self._recording:
            self._recorder.close(self.trace, self.counts, self._tick)
        self._learn_if_due(self._tick + 1)
        self._running = False
        ticks, counts = self._tick - self._began, replace(self.counts)
        return Outcome.of(
            self.state, self._phases, self.time, ticks, counts, self.trace, self._stopped
        )

    @property
    def counts(self) -> Counts:
        """What this inference has done so far."""
        if self._ticker is None:
            raise StateError("there is no inference yet: call infer or start first")
        return self._ticker.counts

    def predict(self, x: Tensor) -> Tensor:
        """The feed-forward prediction (B, *output) of the network, faults and all, in the model's
        own dtype whatever the ``precision``."""
        return self.model.predict(x, self.state.damage)

    # ---- learning ------------------------------------------------------------------------------

    @torch.no_grad()
    def gradients(self) -> dict[str, Tensor]:
        """The local gradient of every parameter, batch mean, by the keys of ``model.state_dict()``.

        ∂L/∂W = −1/(βB) Σ (s⁺ − s⁻) s̄ᵀ (DP23 eq. 10), with the states as they are now. A rule with
        phases adds what their ends contribute; raises StateError before the last one.
        """
        if self._ticker is None:
            raise StateError("there are no states yet: call infer or start first")
        gradients, operations = self._phases.gradients()
        self.counts.weight_gradient += operations
        return gradients

    def objective(self) -> float:
        """(1/βB) Σ_k Σ_batch (s⁻ − s⁺)ᵀ a_k, whose derivative by the weights is `gradients`."""
        if self._ticker is None:
            raise StateError("there are no states yet: call infer or start first")
        if self.rule.phases:
            raise StateError(
                f"{type(self.rule).__name__} contrasts the ends of its phases; no present state "
                "has its objective"
            )
        return metrics.contrastive_objective(self.state, self.rule)

    def learn(self, optimizer: torch.optim.Optimizer) -> None:
        """Hands the local gradients to the optimizer and takes one step.

        ``before_step``, if set, is given the gradients first: it may change them, and return False
        to veto the step, which leaves every parameter as it is.
        """
        gradients = self.gradients()
        if self.before_step is not None and self.before_step(gradients) is False:
            return
        for name, parameter in self.model.named_parameters():
            parameter.grad = gradients[name]
        learn_feedback(self.state, self.rule, self.counts, self.seed, self.inferences, self._tick)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self._check_weights(written=True)

    def _learn_if_due(self, tick: int) -> None:
        """Plasticity precedes the commit of a tick, so it is due in the tick after every n-th."""
        passed = tick - 1 - self._began
        if self._optimizer and self.learn_every and passed and passed % self.learn_every == 0:
            self.learn(self._optimizer)

    def _check_weights(self, *, written: bool = False) -> None:
        """Takes note of changed weights: caches, damping, and news to every unit."""
        if self.state.check_weights(written=written):
            self.state.update_damping(self.rule)
            assert self._clock is not None
            if self._clock.listens:
                self._living.all_hear(self._clock, self._tick + 1)
                if self._engine is not None:
                    self._engine.alarm(self._tick)

    # ---- a tick --------------------------------------------------------------------------------

    def _on_tick(self, tick: int, units: Ints) -> None:
        assert self._ticker is not None
        assert self._clock is not None
        self._tick = tick
        self._learn_if_due(tick)
        if not self.nudge.active and self.nudge.target is not None and not self._phases.all:
            self.nudge.active = tick - self._began >= self.nudge_after
            if self.nudge.active:
                self.state.output.stale.touch()
        count, woken = self._living.wake(units)
        news = self._ticker.tick(Moment(self.inferences, tick), woken)
        self.counts.unit_wakes += count
        self._living.hear(self._clock, tick + 1, news)
        self._announce_nudge(tick + 1)
        if self._recording:
            passed = tick - self._began
            self._recorder.record(self.trace, self.counts, tick, passed, woken)
        if self.stop is not None and (tick - self._began) % self.stop.every == 0:
            self._stopped = self._recorder.settled(self.stop.residual)

    def _announce_nudge(self, tick: int) -> None:
        """A target that begins to act at ``tick`` is news to the output dyads."""
        if (
            not self._phases.all
            and self.nudge.target is not None
            and tick - self._began == max(1, self.nudge_after)
        ):
            assert self._clock is not None
            self._living.output_hears(self._clock, tick)

    def _next_run(self) -> None:
        """Another run of the schedule begins, perhaps in another phase."""
        tick = self._tick
        moment = Moment(self.inferences, tick)
        begun, operations = self._phases.advance(tick, self._early, moment)
        self.counts.weight_gradient += operations
        self._stopped = False
        # What is new after a switch is at the output: where the order can turn, downward first.
        start = Start(self.layout, tick, begun is not None, self.random, self._clock)
        self._clock = self.schedule.start(start)
        if begun is not None:
            hear = self._living.all_hear if begun.restored else self._living.output_hears
            hear(self._clock, tick + 1)
        self._new_engine()

    # ---- parts of an inference -----------------------------------------------------------------

    def _start(self, random: np.random.Generator, previous: Clock | None = None) -> Start:
        feedforward = self.init == "feedforward"
        return Start(self.layout, self._tick, feedforward, random, previous)

    def _new_clock(self, start: Start, nudged: bool) -> Clock:
        clock = self.schedule.start(start)
        check_length(clock.end - start.tick, self.nudge_after if nudged else 0, self.learn_every)
        return clock

    def check_schedule(self) -> None:
        """Raises the ConfigurationError that `start` would for this schedule and network."""
        self._new_clock(self._start(stream(0, "check")), True)

    @property
    def ticks(self) -> int:
        """Of one inference, at most."""
        return self._longest_run * max(1, sum(phase.runs for phase in self._phases.all))

    @property
    def _longest_run(self) -> int:
        return self.schedule.start(Start(self.layout, 0, False, stream(0, "check"))).end

    def _new_ticker(self, counts: Counts) -> Ticker:
        assert self._clock is not None
        listens = self._clock.listens
        ticker = Ticker(self.state, self.rule, self.nudge, self._compute, listens, counts)
        ticker.caching = self.caching
        return ticker

    def _new_engine(self) -> None:
        assert self._clock is not None
        self._engine = Engine(
            self._clock, self.layout.offsets, self._tick, self.processes, self._on_tick
        )
