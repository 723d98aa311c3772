"""What the ``study`` section of a scenario may say: what to measure instead of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurosim.convergence import RESIDUAL, SWEEPS, TOLERANCE
from neurosim.scenario.sections.base import Count, Positive, Section

Sweeps = Annotated[int, Field(ge=1, le=10**6)]


class ReferenceSection(Section):
    """How exactly the fixed point is computed."""

    sweeps: Sweeps = Field(SWEEPS, description="synchronous sweeps at most")
    residual: Positive = Field(RESIDUAL, description="what a sweep may still move, relative")


class ConvergenceSection(Section):
    """One inference on real samples, measured from its start to the end of the schedule."""

    kind: Literal["convergence"]
    samples: Count = Field(50, description="the first so many samples, as one batch")
    split: Literal["test", "train"] = "test"
    weights: str | None = Field(
        None, description="a safetensors file of weights; default: the initial ones"
    )
    every: Count = Field(1, description="a record every so many ticks")
    tolerance: Positive = Field(TOLERANCE, description="of residual and distance, relative")
    reference: ReferenceSection = ReferenceSection()
