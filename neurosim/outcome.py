"""When an inference ends, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from neurosim.checks import check_counts, check_positive
from neurosim.messages import Counts
from neurosim.metrics import output_potential
from neurosim.phases import Phases
from neurosim.probes import Trace
from neurosim.state import State


@dataclass(frozen=True)
class Stop:
    """Ends an inference once both total residuals are at most ``residual``.

    Looked at every ``every`` ticks, and never before the difference has reached every population:
    a residual can be small because the nudge has not arrived yet.
    """

    residual: float
    every: int = 1

    def __post_init__(self) -> None:
        check_positive(residual=self.residual)
        check_counts(every=self.every)


@dataclass(frozen=True)
class Outcome:
    """What an inference came to. States are copies of shape (B, *shape), by population name.

    ``prediction`` is the basal potential of the output dyads (B, *output): the output without the
    nudge. In a rule with phases it is that at the end of the free one, and the states are those at
    the end of the last; a neuron with one state has it in both. ``time`` is simulated time;
    ``wakes`` counts dyads; ``messages`` counts both kinds; ``counts`` holds these and more.
    ``stopped`` tells whether the stopping condition ended it.
    """

    plus: dict[str, Tensor]
    minus: dict[str, Tensor]
    prediction: Tensor
    time: float
    ticks: int
    counts: Counts
    trace: Trace
    stopped: bool

    @classmethod
    def of(
        cls,
        state: State,
        phases: Phases,
        time: float,
        ticks: int,
        counts: Counts,
        trace: Trace,
        stopped: bool,
    ) -> Outcome:
        """The outcome of an inference that leaves this state."""
        plus = {cell.name: cell.plus.value.clone() for cell in state.cells}
        minus = {cell.name: cell.minus.value.clone() for cell in state.cells}
        prediction = phases.free_prediction
        if prediction is None:
            prediction = output_potential(state.output)
        return cls(plus, minus, prediction, time, ticks, counts, trace, stopped)

    @property
    def wakes(self) -> int:
        return self.counts.wakes

    @property
    def unit_wakes(self) -> int:
        return self.counts.unit_wakes

    @property
    def messages(self) -> int:
        return self.counts.messages
