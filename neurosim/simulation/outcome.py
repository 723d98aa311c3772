"""When an inference ends, and what it came to."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from pydantic import Field
from torch import Tensor

from neurosim.base import html_table
from neurosim.dynamics import Counts
from neurosim.families import Count, Described, Positive
from neurosim.measures import Trace
from neurosim.tensors import Deferred, materialized


@dataclass(frozen=True)
class Stop(Described):
    """Ends an inference once both total residuals are at most ``residual``.

    Looked at every ``every`` ticks, and never before the difference has reached every population:
    a residual can be small because the nudge has not arrived yet.
    """

    residual: Annotated[Positive, Field(description="of mean and difference, relative")]
    every: Annotated[Count, Field(description="look after every so many ticks")] = 1


@dataclass(frozen=True)
class Outcome:
    """What an inference came to. ``plus`` and ``minus`` are copies of the states, (B, *shape), by
    population name.

    ``prediction`` (B, *output) knows no target, and is of before any update: what the feed-forward
    start gave; in a rule with phases f(a) of the potential a of the output at the end of the free
    one; else what `Simulation.predict` answered at the start. ``nudged_prediction`` is f(a) at the
    end: what feedback has made of it. Without a target both are that. The states are those at the
    end of the last phase; a neuron with one has it in both. ``time`` is simulated time;
    ``wakes`` counts dyads; ``messages`` counts both kinds; ``counts`` holds these and more.
    ``stopped`` tells whether the stopping condition ended it.
    """

    prediction: Tensor
    nudged_prediction: Tensor
    time: float
    ticks: int
    counts: Counts
    trace: Trace
    stopped: bool
    # By reference: whoever writes into one makes a copy of its own first. Most are never asked for.
    _plus: dict[str, Tensor | Deferred] = field(repr=False)
    _minus: dict[str, Tensor | Deferred] = field(repr=False)

    def __repr__(self) -> str:
        said = ", ".join(f"{key}={value}" for key, value in self._told())
        return f"Outcome({said})"

    def _repr_html_(self) -> str:
        return html_table(self._told())

    def _told(self) -> list[tuple[str, str]]:
        numbers = ("ticks", "time", "wakes", "messages", "stopped")
        shapes = {name: list(value.shape) for name, value in self._plus.items()}
        told = [("prediction", f"{list(self.prediction.shape)}"), ("states", f"{shapes}")]
        told += [(key, f"{getattr(self, key)}") for key in numbers]
        kinds = {kind: len(self.trace[kind]) for kind in self.trace.kinds()}
        return [*told, ("trace", f"{kinds}")]

    @cached_property
    def plus(self) -> dict[str, Tensor]:
        return {name: materialized(value).clone() for name, value in self._plus.items()}

    @cached_property
    def minus(self) -> dict[str, Tensor]:
        return {name: materialized(value).clone() for name, value in self._minus.items()}

    @property
    def wakes(self) -> int:
        """Counts wakes of dyads."""
        return self.counts.wakes

    @property
    def unit_wakes(self) -> int:
        """Counts wakes of units."""
        return self.counts.unit_wakes

    @property
    def messages(self) -> int:
        """Counts messages, means and differences, of all samples."""
        return self.counts.messages
