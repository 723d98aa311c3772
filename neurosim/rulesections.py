"""What the section ``rule`` of a scenario may say. A new rule is one class here and one entry in
its union."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from neurosim.rules import (
    LPOM,
    BackPropagation,
    DifferenceTargetPropagation,
    DualPropagation,
    LocalJacobian,
    Rule,
)
from neurosim.rules.dual_propagation import DampingName, NudgeName, Variant
from neurosim.sectionbase import BelowOne, Count, Fraction, Maker, Positive


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


AnyRule = Annotated[
    DualPropagationSection
    | BackPropagationSection
    | LPOMSection
    | DifferenceTargetPropagationSection,
    Field(discriminator="kind"),
]
