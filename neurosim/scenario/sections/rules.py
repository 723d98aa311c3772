"""What the section ``rule`` of a scenario may say. A new rule is one class here and one entry in
its union."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from neurosim.rules import (
    LPOM,
    BackPropagation,
    ContrastiveHebbian,
    DampingName,
    DifferenceTargetPropagation,
    DualPropagation,
    EPVariant,
    EquilibriumPropagation,
    HolomorphicEP,
    LocalJacobian,
    NudgeName,
    Readout,
    Rule,
    Variant,
)
from neurosim.scenario.sections.base import BelowOne, Count, Fraction, Maker, Positive

FREE_RUNS = "how often the schedule runs in the free phase"


class RuleSection(Maker):
    """Common to all rules."""

    def make(self) -> Rule:
        rule = self.makes(**self.arguments())
        assert isinstance(rule, Rule)
        return rule


class DualPropagationSection(RuleSection):
    """Dual propagation in one of its variants."""

    makes = DualPropagation
    kind: Literal["dual_propagation"]
    alpha: Fraction = 0.5
    beta: Positive = 1.0
    variant: Variant = "aro"
    nudge: NudgeName = "potential"
    damping: DampingName = "strong"


class BackPropagationSection(RuleSection):
    """Back-propagation as messages between neurons."""

    makes = BackPropagation
    kind: Literal["backprop"]


class LPOMSection(RuleSection):
    """Lifted proximal operator machines."""

    makes = LPOM
    kind: Literal["lpom"]
    beta: Positive = 1.0


class LocalJacobianSection(Maker):
    """How feedback weights learn what their layer does; each but the momentum may be given by
    projection."""

    makes = LocalJacobian
    steps: Count | dict[str, Count] = 20
    std: Positive | dict[str, Positive] = 0.2
    rate: Positive | dict[str, Positive] = 1e-2
    momentum: BelowOne = 0.9


class DifferenceTargetPropagationSection(RuleSection):
    """Difference target propagation."""

    makes = DifferenceTargetPropagation
    kind: Literal["difference_target_propagation"]
    beta: Positive = 0.7
    jacobian: LocalJacobianSection | None = None

    def arguments(self) -> dict[str, Any]:
        jacobian = None if self.jacobian is None else self.jacobian.make()
        return super().arguments() | {"jacobian": jacobian}


class EquilibriumPropagationSection(RuleSection):
    """Equilibrium propagation: a free phase, then nudged ones."""

    makes = EquilibriumPropagation
    kind: Literal["equilibrium_propagation"]
    beta: Positive = 0.25
    variant: EPVariant = "centered"
    readout: Readout = "state"
    free: Count = Field(3, description=FREE_RUNS)


class HolomorphicEPSection(RuleSection):
    """Holomorphic equilibrium propagation: a free phase, then one for each of N complex nudges."""

    makes = HolomorphicEP
    kind: Literal["holomorphic_ep"]
    beta: Positive = 0.4
    points: int = Field(4, ge=2, le=10**6)
    readout: Readout = "static"
    free: Count = Field(3, description=FREE_RUNS)


class ContrastiveHebbianSection(RuleSection):
    """Contrastive Hebbian learning with layered discount: a free phase, then a clamped one."""

    makes = ContrastiveHebbian
    kind: Literal["chl"]
    discount: Annotated[float, Field(gt=0, le=1)] = 0.1
    free: Count = Field(1, description=FREE_RUNS)


AnyRule = Annotated[
    DualPropagationSection
    | BackPropagationSection
    | LPOMSection
    | DifferenceTargetPropagationSection
    | EquilibriumPropagationSection
    | HolomorphicEPSection
    | ContrastiveHebbianSection,
    Field(discriminator="kind"),
]
