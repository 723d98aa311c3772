"""Lifted proximal operator machines (Li, Fang & Lin 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from neurosim.families import Positive, register
from neurosim.maths import Loss, dyad, loop_gain
from neurosim.network import Network
from neurosim.rules.base import (
    Nudge,
    Rule,
    Upward,
    Wake,
    Woken,
    only_clipping,
    only_squared_error,
)


@register("lpom")
@dataclass(frozen=True)
class LPOM(Rule):
    """s ← f((a + Δ + D s) / (1 + D)), the mean message s, the difference message s − f(a).

    Δ = Wᵀ(s − f(a)) comes from above, and D is σ², the squared spectral norm of the projections
    upward (`loop_gain`): with it no wake of a population raises the objective

        E(s) = β ℓ(s_L) + Σ_k [G(s_k) − s_kᵀ a_k + G*(a_k)],    ∇G* = f,

    whose stationary points are the fixed points (with tanh, damping moves them: see
    `DualPropagation`). Output dyads take s = f((a + βy)/(1 + β)), so the loss is the squared error.
    s⁺ is s and s⁻ is f(a), which is not damped: the dyad of α = 1, with one of its compartments.
    The local gradient −(1/βB) Σ (s − f(a)) s̄ᵀ is that of E/β.
    """

    remedy: ClassVar[str] = "try a smaller learning rate or beta"

    beta: Annotated[Positive, Field(description="strength of the nudge")] = 1.0

    @property
    def gradient_scale(self) -> float:
        return -1.0 / self.beta

    @property
    def nudges_at_potential(self) -> bool:
        return False

    def check_loss(self, loss: Loss) -> None:
        only_squared_error(loss, "the output of lpom is", "use the loss 'squared_error'")

    def damping_of(self, upward: Sequence[Upward]) -> float:
        # Several projections upward act as one stacked operator: its norm² is at most the sum.
        return sum(loop_gain(*projection) for projection in upward)

    def check_network(self, network: Network) -> None:
        super().check_network(network)
        only_clipping(network, "the output of lpom has", "another rule")

    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """βy."""
        assert nudge.target is not None
        return nudge.target * self.beta

    def wake(self, woken: Woken) -> Wake:
        f, damping = woken.activation, woken.damping
        basal, apical = woken.basal, woken.pull
        stiffness = 0.0 if woken.force is None else self.beta
        predicted = f(basal)
        if apical is None and not damping:
            return Wake(predicted, predicted, predicted, None)
        state = dyad.relax(
            f, basal, apical, 1.0, state=woken.plus, damping=damping, stiffness=stiffness
        )
        if damping:
            difference = state - predicted
            return Wake(state, predicted, state, difference)
        assert apical is not None
        if stiffness:
            # (a + Δ)/(1 + β) − a, without the cancellation.
            apical = apical.sub(basal, alpha=stiffness) / (1.0 + stiffness)
        difference = f.difference(state, predicted, apical)
        return Wake(state, predicted, state, difference)
