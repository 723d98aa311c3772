"""One inference under way: everything that changes from its start to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from neurosim.base import NEVER, StateError
from neurosim.channels import Moment
from neurosim.dynamics import (
    Counts,
    Gradients,
    Phases,
    Synapses,
    Ticker,
    Woke,
    feed_forward,
    learn_feedback,
    new_input,
    output_potential,
    reset,
)
from neurosim.families import Whole, check
from neurosim.maths import finite_norm
from neurosim.measures import MEASURES, Recorder, Trace
from neurosim.rules import Nudge
from neurosim.schedules import Clock, Start
from neurosim.simulation.common import Common, Learned, first_prediction, run_length
from neurosim.simulation.compatibility import chosen_gradients, trained, undisturbed
from neurosim.simulation.news import News
from neurosim.simulation.outcome import Outcome
from neurosim.simulation.silence import warn_of_silence
from neurosim.tensors import Arrays, Copier, Flags, Ints, save_arrays


class Inference(Arrays):
    """An inference of a simulation, from `begin` to `finish`; its states are carried by the next.

    ``number`` counts the inferences, each of which has noise of its own; ``began`` is the tick
    before its first, ``tick`` the last completed one. It is ``running`` until it is finished, after
    ``seconds``, and ``failed`` if a tick was not completed: then nothing can be carried on.
    ``prediction`` knows no target; None while the present output is that.
    """

    plain = ("number", "began", "tick", "running", "stopped", "recording", "prediction")
    number = began = tick = 0
    recording = True
    running = stopped = failed = endless = False
    learned: Callable[[Inference], Gradients] | None = None
    prediction: Tensor | None = None
    seconds: float = NEVER

    def __init__(
        self,
        common: Common,
        clock: Clock,
        target: Tensor | None,
        *,
        number: int,
        tick: int,
        optimizer: Optimizer | None = None,
        record: bool = True,
        moderate: bool = False,
    ) -> None:
        self._common, self.clock, self.optimizer = common, clock, optimizer
        self.moderate = moderate  # whether that is known of the input, see `Slot`
        self.number, self.began, self.tick, self.recording = number, tick, tick, record
        rule, state, nudged = common.rule, common.state, target is not None
        self._updates = frozenset(common.schedule.update_ticks)
        self.nudge = Nudge(common.loss, state.told(target))
        self.phases = Phases(rule, state, common.plasticity, nudged, tick, (common.seed, number))
        self._moment = partial(Moment, number, sample=common.sample)
        self.counts, self.trace, self._since = Counts(), Trace(), monotonic()
        self.news = News(common.units, state, tick)
        self.synapses = Synapses(state, common.plasticity, common.schedule.tick, tick)
        self.woken: tuple[int, Woke] = tick, ()  # the last tick with a wake, and who woke in it
        parts, how = (state, rule, self.nudge), (common.compute, clock.listens, self.counts)
        self._ticker = Ticker(*parts, *how, caching=common.caching)
        self._recorder = Recorder(
            *parts, self.phases, common.probes, common.schedule.tick, common.sink
        )
        self._measures = {name: MEASURES[name](state, rule) for name in clock.wants}

    def arrays(self) -> dict[str, Any]:
        parts = {"state": self._common.state, "phases": self.phases, "measures": self._measures}
        parts |= {"news": self.news, "counts": self.counts, "synapses": self.synapses}
        return super().arrays() | parts

    @property
    def acts_at(self) -> int:
        """The tick from which the target acts."""
        return self.began + self._common.nudge_after

    def ask(self, read: Callable[[Tensor], list[int]]) -> None:
        """Has numbers of a device read by a function in the place of `tensors.read`."""
        self._ticker.flags = partial(Flags, read)

    # ---- from start to end ---------------------------------------------------------------------

    def begin(self, x: Tensor, *, carried: bool) -> None:
        """Shows the input x (B, *input) to states that are ``carried`` or start anew. Raises
        DivergenceError where the feed-forward pass is not finite."""
        common, clock, moment = self._common, self.clock, self._moment(self.tick)
        state, rule, news, nudge = common.state, common.rule, self.news, self.nudge
        self.failed, first = True, self.tick + 1  # failed, until it has started
        self.decide_nudge()
        state.forget_target()
        if carried:
            self.check_weights()
            news.tell(clock, first, common.engine.speak(new_input, self._ticker, x, moment))
        else:
            passes = common.init == "feedforward"
            reset(state, x, moment, empty=passes, moderate=self.moderate)
            state.update_damping(rule)
            if passes:
                feed_forward(self._ticker, moment)
                everything = [(index, None) for index in range(len(state.cells))]
                self._note(everything, Nudge(common.loss))  # the pass knows of no target
                if nudge.target is not None and rule.needs_prediction:
                    nudge.gradient = common.loss.gradient(state.output.plus.value, nudge.target)
        if nudge.target is not None:
            self.prediction = first_prediction(common, nudge, x, carried=carried)
        state.output.stale.touch()
        if carried or not rule.paired:  # a feed-forward pass leaves feedback that nobody has seen
            news.to_all(clock, first, output=carried)
        self._announce(first)
        self.running, self.failed = True, False

    def advance(self, ticks: int | None, interrupted: Callable[[], bool]) -> int:
        """Runs so many ticks, or to the end; see `Simulation.advance`."""
        self._check_running()
        if ticks is None:
            ticks = NEVER
        elif type(ticks) is not int or ticks < 0:  # asked first: `check` takes as long as a tick
            ticks = check(Whole, ticks=ticks)
        self.check_weights()
        before = self.tick
        goal = min(NEVER, before + ticks)
        try:
            with undisturbed():
                self._run_to(goal, interrupted)
                while self.tick < goal and self._run_is_over() and not self.done:
                    self._next_run()
                    self._run_to(goal, interrupted)
        except BaseException:
            # A tick that was not completed leaves nothing that could be carried on.
            self.failed, self.running = True, False
            raise
        return self.tick - before

    def _run_to(self, goal: int, interrupted: Callable[[], bool]) -> None:
        def stop() -> bool:
            return self._run_is_over() or interrupted()

        run, goal = self._common.engine.run, min(self.clock.end, goal)
        self.tick = run(self.clock, self.tick, goal, self._due_after, self._on_tick, stop)

    @property
    def learns(self) -> bool:
        """Whether weights are still to be updated in it."""
        return self.running and self.optimizer is not None

    def _check_running(self) -> None:
        if not self.running:
            raise StateError("there is no inference under way: call start first")

    def _check_whole(self) -> None:
        if self.failed:
            raise StateError("there is no inference any more: a tick failed; call start first")

    @property
    def done(self) -> bool:
        """Whether the inference is over; an event-driven one also when nothing is due."""
        self._check_whole()
        return self._run_is_over() and not self.phases.follows(self._early)

    @property
    def _early(self) -> bool:
        """Says if this run of the schedule ended before its time."""
        return self.stopped or self.tick < self.clock.end

    def _run_is_over(self) -> bool:
        clock, nudge = self.clock, self.nudge
        if self.stopped or self.tick >= clock.end:
            return True
        if not clock.listens or self.tick == self.phases.began:
            return False
        # A target or a weight update still to come would wake what sleeps.
        expected = self.optimizer is not None and self._common.learns_within
        waits = nudge.target is not None and not nudge.active
        expected |= waits and not self.phases.all
        return not expected and self.news.none(clock, self.tick)

    @property
    def phase_over(self) -> bool:
        """Whether the present phase is over, or an inference without phases."""
        return self._run_is_over() and not self.phases.repeats(self._early)

    def end_phase(self) -> bool:
        """Ends the present phase now, as a stopping condition does. Says if another follows."""
        self.stopped = True
        return not self.done

    @property
    def last_tick(self) -> int:
        """The tick at which the inference ends at the latest."""
        ahead = self.phases.runs_ahead()
        return self.clock.end + (ahead and ahead * run_length(self._common))

    @undisturbed()
    def finish(self) -> Outcome:
        """Ends the inference, with learning if it is due; see `Simulation.finish`."""
        self._check_running()
        if self.recording:
            self._recorder.close(self.trace, self.counts, self.tick)
        self._learn_if_due(self.tick + 1)
        learns, nudged = self.optimizer is not None, self.nudge.target is not None
        warn_of_silence(self._common, self._updates, self.tick - self.began, learns, nudged)
        self.running, self.seconds = False, monotonic() - self._since
        state = self._common.state
        potential = output_potential(state.output)
        return Outcome(
            (potential if self.prediction is None else self.prediction).clone(),
            potential,
            self.tick * self._common.schedule.tick,
            self.tick - self.began,
            replace(self.counts),
            self.trace,
            self.stopped,
            {cell.name: cell.plus.shared() for cell in state.cells},
            {cell.name: cell.minus.shared() for cell in state.cells},
        )

    # ---- a tick --------------------------------------------------------------------------------

    def _due_after(self, tick: int) -> int:
        """Returns the first tick after ``tick`` in which anything but a wake is due: an arrival, an
        update of the weights, the target, a record, or the question if it has come to rest."""
        common, nudge, passed = self._common, self.nudge, tick - self.began
        if self._measures:
            return tick + 1  # the clock decides anew for every tick
        # What arrives at a tick is shown at the end of the one before.
        due = [line.next_arrival(tick + 2) - 1 for _, line in common.state.lines]
        periods = [one.every for one in common.probes if self.recording and not one.of_wakes]
        periods += [one.every for one in (common.stop, common.sink) if one is not None]
        due += [self.began + (passed // every + 1) * every for every in periods]
        every = common.plasticity.every
        if self.optimizer and every:
            due.append(self.began + 1 + max(1, (passed - 1) // every + 1) * every)
        if self.optimizer:
            due += [n for u in self._updates if (n := self.phases.began + 1 + u) > tick]
        if nudge.target is not None and self.phases.present is None:
            due += [t for t in (self.acts_at - 1, self.acts_at) if t > tick]
        return min(due, default=NEVER)

    def _on_tick(self, tick: int, units: Ints) -> None:
        common, self.tick = self._common, tick
        self._learn_if_due(tick)
        if not self.nudge.active:
            self.decide_nudge()
            if self.nudge.active:
                common.state.output.stale.touch()
        self.synapses.advance(tick, woken=len(units) > 0)
        count, woken = common.units.wake(units)
        self._note(woken, self.nudge)
        self.woken = tick, woken
        reached = self._ticker.tick(self._moment(tick), woken)
        self._keep_prediction()
        self.counts.unit_wakes += count
        self.news.after(self.clock, tick, reached)
        self._announce(tick + 1)
        passed, trace = tick - self.began, self.trace if self.recording else None
        self._recorder.record(trace, self.counts, tick, passed, woken)
        if common.stop is not None and passed % common.stop.every == 0:
            self.stopped = self._recorder.settled(common.stop.residual)

    def _note(self, woken: Woke, nudge: Nudge) -> None:
        for measure in self._measures.values():
            measure.note(woken, nudge)

    def decide_nudge(self) -> None:
        """Decides if the target acts now: a rule's phase says so, or the time that has passed."""
        nudge, phase = self.nudge, self.phases.present
        if phase is None:
            acts = self.tick >= self.acts_at
        else:
            nudge.strength, nudge.settled = phase.strength, self.phases.settled
            acts = phase.strength != 0
        nudge.active = acts and nudge.target is not None

    def _keep_prediction(self) -> None:
        """Keeps the output when the target begins to act: what that moves is seen a tick later."""
        if self.nudge.active and self.prediction is None:
            self.prediction = output_potential(self._common.state.output)

    def _announce(self, tick: int) -> None:
        """Tells the clock what it has to know of ``tick``: that the target begins to act at the
        output, and what it has measured, where it goes by that."""
        common, nudge = self._common, self.nudge
        begins = tick == max(self.began + 1, self.acts_at)
        if begins and self.phases.present is None and nudge.target is not None:
            self.news.to_all(self.clock, tick, output=True)
        if self._measures:
            found = {name: m.by_unit(common.layout, nudge) for name, m in self._measures.items()}
            self.clock.decide(tick, found)

    def _next_run(self) -> None:
        """Begins another run of the schedule, perhaps in another phase."""
        common, tick = self._common, self.tick
        begun, operations = self.phases.advance(tick, self._early, self._moment(tick))
        self.counts.weight_gradient += operations
        self.stopped = False
        self.decide_nudge()
        self._keep_prediction()
        # What is new after a switch is at the output: where the order can turn, downward first.
        start = Start(common.layout, tick, begun is not None, common.random, self.clock)
        self.clock = common.schedule.start(start)
        if begun is not None:
            self.news.to_all(self.clock, tick + 1, output=not begun.restored)
        self._announce(tick + 1)

    # ---- learning ------------------------------------------------------------------------------

    def _prepare_to_learn(self, at: int | None = None) -> None:
        """Brings up to date what gradients are made of, as they are ``at`` a tick."""
        self._check_whole()
        self.check_weights()
        self.synapses.look(self.tick if at is None else at)

    def gradients(self, at: int | None = None) -> tuple[dict[str, Tensor], bool]:
        """Returns the local gradients of all parameters, and if they are known to be finite."""
        self._prepare_to_learn(at)
        found, operations, sure = self.learned(self) if self.learned else self.phases.gradients()
        self.counts.weight_gradient += operations
        return found, sure

    def each_gradient(self) -> Iterator[tuple[str, Tensor]]:
        """Yields them with their names as they are known, those of the output first."""
        self._prepare_to_learn()
        for one in self.phases.each_gradient(self.learned and self.learned(self)):
            self.counts.weight_gradient += one.operations
            yield one.name, one.value

    @undisturbed()
    def learn(self, optimizer: Optimizer, gradients: Learned = None, at: int | None = None) -> None:
        """Takes a step, unless vetoed, with the local gradients of what the optimizer moves, or
        those given. Raises DivergenceError, before anything changes, for one that is not finite."""
        common, nudge = self._common, self.nudge
        taught = self.endless or nudge.target is not None or common.rule.exchange is not None
        if common.plasticity.needs_target and not taught:  # feedback weights may learn by noise
            said = "there is nothing to learn from an inference without a target: give it one"
            raise StateError(said)
        moved = trained(common.model, optimizer)
        found, sure = self.gradients(at) if gradients is None else (gradients, False)
        gradients = chosen_gradients(found, moved)
        if common.before_step is not None and common.before_step(gradients) is False:
            return
        norm, clip = None, common.plasticity.clip
        if not sure or common.before_step is not None or (clip is not None and clip.norm):
            said = f"at tick {self.tick} the gradient of"
            norm = finite_norm(gradients, said, common.rule.remedy)
        learn_feedback(common.state, common.rule, self.counts, common.seed, self.number, self.tick)
        self.synapses.take_step(optimizer, moved, gradients, norm)
        self.check_weights(written=True)

    def _learn_if_due(self, tick: int) -> None:
        """Plasticity precedes the commit of a tick, so it is due in the tick after every n-th, or
        after those that the schedule names."""
        if self.optimizer is None:
            return
        passed, plasticity = tick - 1 - self.began, self._common.plasticity
        due = plasticity.every and passed and passed % plasticity.every == 0
        due = due or tick - 1 - self.phases.began in self._updates
        if due and plasticity.learns(self.nudge):
            self.learn(self.optimizer, at=tick - 1)

    @undisturbed()
    def check_weights(self, *, written: bool = False) -> None:
        """Takes note of weights that have changed, or all been ``written``, as every unit does."""
        if self._common.state.check_weights(written=written):
            self._common.state.update_damping(self._common.rule)
            self._recorder.truth.forget()
            self.news.to_all(self.clock, self.tick + 1)

    # ---- as data -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the rest of the inference depends on, as tensors and numbers."""
        saved: dict[str, Any] = save_arrays(self, copied := Copier())
        return saved | {
            "nudge": {"target": copied(self.nudge.target), "gradient": copied(self.nudge.gradient)},
            "clock": self.clock.state_dict(),
            "trace": self.trace.state_dict(),
        }
