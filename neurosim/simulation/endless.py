"""An inference without end: its input and its target change while it goes on."""

from collections.abc import Callable

from torch import Tensor

from neurosim.base import NEVER, ConfigurationError, StateError
from neurosim.dynamics import new_input, output_potential
from neurosim.schedules import Start
from neurosim.simulation.common import Common
from neurosim.simulation.inference import Inference


class Endless(Inference):
    """An inference that nothing ends: where a run of the schedule is over another one follows, and
    the states, the messages and the time go on.

    What comes from outside comes between two ticks. An update of the weights that is due there
    precedes it, for it belongs to what was seen until then; ``updated`` is the tick up to which
    all have been made. Without a target weights learn from what is left of the difference.
    """

    plain = (*Inference.plain, "updated")  # type: ignore[assignment]
    updated, endless = 0, True
    last_tick = NEVER

    @property
    def acts_at(self) -> int:
        return self.began

    def _check_whole(self) -> None:
        if self.failed:
            raise StateError("there is no stream any more: a tick failed; begin another one")

    @property
    def done(self) -> bool:
        """False. Raises StateError where a tick has failed."""
        self._check_whole()
        return False

    def _run_is_over(self) -> bool:
        return self.tick >= self.clock.end

    def _next_run(self) -> None:
        common, tick = self._common, self.tick
        self._learn_if_due(tick + 1)
        self.phases.began = tick
        start = Start(common.layout, tick, False, common.random, self.clock)
        self.clock = common.schedule.start(start)
        self._announce(tick + 1)

    def _keep_prediction(self) -> None:
        """Keeps none: the prediction is the present one."""

    def _learn_if_due(self, tick: int) -> None:
        if tick > self.updated:
            self.updated = tick
            super()._learn_if_due(tick)

    def advance(self, ticks: int | None, interrupted: Callable[[], bool]) -> int:
        if ticks is None:
            raise StateError("a stream has no end: say how many ticks it is to advance")
        return super().advance(ticks, interrupted)

    # ---- what comes from outside ---------------------------------------------------------------

    def push(self, x: Tensor) -> None:
        """Gives the input dyads the values x (B, *input): they send what has changed, as dyads that
        have woken in the present tick."""
        self._check_running()
        self._learn_if_due(self.tick + 1)
        self.synapses.advance(self.tick)
        x = x.to(self._common.rule.state_dtype(x.dtype))
        moment = self._moment(self.tick)
        reached = self._common.engine.speak(new_input, self._ticker, x, moment, at_once=False)
        self.news.tell(self.clock, self.tick + 1, reached)

    def aim(self, target: Tensor | None) -> None:
        """Puts another target (B, *output) in the place of the present one, or None: nothing acts
        on the output from the next tick on."""
        self._check_running()
        self._learn_if_due(self.tick + 1)
        state = self._common.state
        self.nudge.target, self.nudge.active = state.told(target), target is not None
        state.forget_target()
        state.output.stale.touch()
        self.news.to_all(self.clock, self.tick + 1, output=True)

    def read(self) -> Tensor:
        """Returns f(a) of the output, a as its dyads last computed it (B, *output)."""
        return output_potential(self._common.state.output)


def check_endless(common: Common) -> None:
    """Raises ConfigurationError where inferences of a simulation cannot go on for ever."""
    rule, problem, option = common.rule, "", "rule"
    depth = common.model.network.depth
    usual = {0, common.schedule.nudge_after(depth)} if depth is not None else {common.nudge_after}
    if rule.phases:
        names = ", ".join(phase.name for phase in rule.phases)
        problem = f"{rule.kind} contrasts the ends of its phases ({names}), and a stream has none"
        problem += "; use a rule that learns at any time, as dual_propagation"
    elif rule.needs_prediction:
        problem = "the nudge 'prediction' is frozen where an inference starts, and a stream starts "
        problem += "once; use the nudge 'potential' or 'proximal'"
    elif common.stop is not None:
        problem, option = "stop ends an inference, and a stream has no end; leave it out", "stop"
    elif common.nudge_after not in usual:
        problem, option = "nudge_after counts from the start of an inference", "nudge_after"
        problem += "; a stream starts once: say when its targets come, and leave it out"
    elif any(common.probes):
        problem, option = f"the probe {common.probes[0].kind} records within an inference", "probes"
        problem += ", whose records a stream would pile up; leave it out"
    if problem:
        raise ConfigurationError(problem, option)
