"""What the section ``rule`` of a scenario may say. A new rule is one class here and one entry in
its union."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurosim.rules import LPOM, BackPropagation, DualPropagation, Rule
from neurosim.rules.dual_propagation import DampingName, NudgeName, Variant
from neurosim.sectionbase import Fraction, Maker, Positive


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


AnyRule = Annotated[
    DualPropagationSection | BackPropagationSection | LPOMSection, Field(discriminator="kind")
]
