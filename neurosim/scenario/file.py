"""What a scenario file may say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field

from neurosim.documents import Document
from neurosim.documents import document as documents
from neurosim.dynamics import Compute
from neurosim.maths import Precision
from neurosim.network import Feedback
from neurosim.scenario.sections.base import Section
from neurosim.scenario.sections.channels import ChannelsSection, FaultsSection
from neurosim.scenario.sections.rules import AnyRule, DualPropagationSection
from neurosim.scenario.sections.schedules import (
    AnyData,
    AnyProbe,
    AnySchedule,
    PlasticitySection,
    RobustnessSection,
    StopSection,
    TrainingSection,
)
from neurosim.scenario.sections.study import ConvergenceSection
from neurosim.simulation import Init, Processes
from neurosim.tensors import PATTERN, check_device

DTYPES = {"float32": torch.float32, "float64": torch.float64}

Device = Annotated[str, AfterValidator(check_device), Field(json_schema_extra={"pattern": PATTERN})]

RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=100)]


class ScenarioFile(Section):
    """A neurosim scenario."""

    name: RunName = Field(description="names the folder of the run")
    network: str | dict[str, Any] = Field(description="a network file, or a network itself")
    feedback: Feedback | None = Field(
        None, description="feedback weights of all projections, in place of what the network says"
    )
    data: AnyData
    rule: AnyRule = DualPropagationSection(kind="dual_propagation")
    loss: Literal["squared_error", "cross_entropy"] = "squared_error"
    init: Init = "feedforward"
    schedule: AnySchedule
    nudge_after: int | None = Field(
        None,
        ge=0,
        description="the tick from which the target acts; default 0, parallel: the depth",
    )
    stop: StopSection | None = None
    channels: ChannelsSection = ChannelsSection()
    faults: FaultsSection = FaultsSection()
    plasticity: PlasticitySection = PlasticitySection()
    training: TrainingSection = TrainingSection()
    probes: list[AnyProbe] = Field(default=["accuracy"])
    robustness: RobustnessSection | None = Field(
        None, description="also measure this of the trained network"
    )
    study: ConvergenceSection | None = Field(None, description="measure this instead of training")
    seed: int = Field(0, ge=0, lt=2**63)
    device: Device = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    precision: Precision | None = Field(
        None, description="bf16-mixed: products in bfloat16; default: as dtype"
    )
    compute: Compute = "auto"
    processes: Processes = "population"
    threads: int | None = Field(None, ge=1, le=4096, description="threads of torch")


def overridden(document: Document, assignments: Sequence[str]) -> Document:
    """`documents.apply_overrides` for scenarios: ``network.activation=tanh`` changes the network
    that the scenario names."""
    return documents.apply_overrides(document, assignments, files=[("network",)])
