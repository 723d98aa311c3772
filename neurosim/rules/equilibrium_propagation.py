"""Equilibrium propagation (Scellier & Bengio 2017; centered: Laborieux et al. 2021)."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from neurosim.base import ConfigurationError
from neurosim.families import Count, Positive, register
from neurosim.rules.base import Phase
from neurosim.rules.energy import FREE_RUNS, NudgedEnergyRule, Readout

EPVariant = Literal["centered", "one_sided"]


@register("equilibrium_propagation")
@dataclass(frozen=True)
class EquilibriumPropagation(NudgedEnergyRule):
    """s_k ← f(a_k + W_{k+1}ᵀ s_{k+1}) in a free phase, then nudged by β, and by −β.

    The local gradient contrasts the ends of the phases: for ``centered``
    ∂L/∂W = −(1/2βB) Σ [s_k s_{k−1}ᵀ|₊β − s_k s_{k−1}ᵀ|₋β], both nudged phases starting from the
    free states; for ``one_sided`` −(1/βB) Σ [ · |₊β − · |₀]. It approaches the gradient of the loss
    at the free fixed point with an error of order β² or β. ``readout`` is explained in
    `NudgedEnergyRule`; ``free`` says how often the schedule runs in the free phase.

    Raises ConfigurationError unless β < 1 where −β acts on a readout ``state``.
    """

    beta: Annotated[Positive, Field(description="strength of the nudge")] = 0.25
    variant: EPVariant = "centered"
    readout: Readout = "state"
    free: Annotated[Count, Field(description=FREE_RUNS)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.centered and self.readout == "state" and self.beta >= 1.0:
            raise ConfigurationError(
                f"beta is {self.beta:g}; in the phase 'minus' the output (a - beta y)/(1 - beta) "
                "needs beta < 1: take a smaller one, or the variant 'one_sided'",
                "beta",
            )

    @property
    def centered(self) -> bool:
        return self.variant == "centered"

    @property
    def gradient_scale(self) -> float:
        return -1.0 / (2.0 * self.beta if self.centered else self.beta)

    @property
    def phases(self) -> tuple[Phase, ...]:
        if self.centered:
            return (
                Phase("free", runs=self.free),
                Phase("plus", self.beta, 1.0),
                Phase("minus", -self.beta, -1.0, restored=True),
            )
        return Phase("free", share=-1.0, runs=self.free), Phase("nudged", self.beta, 1.0)
