"""What the drawing of a network shows of an inference, tick by tick."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from neurosim.dynamics import current_mean
from neurosim.families import register
from neurosim.measures.gradients import norm
from neurosim.measures.metrics import residual
from neurosim.measures.probes import Observation, Probe, Record


@register("activity")
@dataclass(frozen=True)
class ActivityProbe(Probe):
    """Measures activity (root mean square of s̄) and residuals of each population, and counts the
    messages that each projection sends in a tick: the report animates them. With ``every`` above 1
    it misses those of the ticks between."""

    at_end: ClassVar[bool] = False

    def measure(self, seen: Observation) -> Record:
        found = residual(seen.state, seen.rule, seen.nudge)
        populations, projections = Record(), Record()
        for cell in seen.state.cells:
            size = sqrt(cell.plus.value.numel())
            populations[cell.name] = {
                "activity": norm(current_mean(cell, seen.rule)) / size,
                "residual_mean": found.mean[cell.name],
                "residual_difference": found.difference[cell.name],
            }
        for link in seen.state.links:
            projections[link.name] = {"mean_messages": 0, "difference_messages": 0}
        for outlet in seen.state.outlets:
            for link in outlet.links if outlet.last_tick == seen.tick else ():
                projections[link.name][f"{outlet.kind}_messages"] += outlet.last_count
        return {"populations": populations, "projections": projections}
