"""The objective whose saddle point inference looks for.

DP23 (Høier, Staudt & Zach, ICML 2023) eq. 3 and DP24 (Høier & Zach, ICML 2024) eq. 5.
"""

import torch
from torch import Tensor

from neurosim.dynamics import State, basal_potential, current_mean
from neurosim.rules import DualPropagation, Nudge, Rule


@torch.no_grad()
def alpha_objective(state: State, rule: Rule, nudge: Nudge) -> float | None:
    """Computes L_α of the present states, the batch mean of one sample's

        α ℓ(s⁺_L) + (1−α) ℓ(s⁻_L) + Σ_k (1/β) [G_k(s⁺_k) − G_k(s⁻_k) + (s⁻_k − s⁺_k)ᵀ a_k]

    with a_k the potential of the present means below and ∇G_k the inverse of the activation. The
    nudges ``prediction`` and ``potential`` put gᵀs in the place of ℓ(s), g = ∇ℓ at the feed-forward
    prediction or at a_L. A target counts from the start, even where it acts later; without one
    there is no ℓ.

    At a fixed point L_α is stationary in all states, and its derivative by the weights is the local
    gradient.

    Returns:
        None where it is not the objective: ``lagrangian`` with α ≠ ½, and rules that are no dual
        propagation.
    """
    if not isinstance(rule, DualPropagation):
        return None
    if rule.variant == "lagrangian" and rule.alpha != 0.5:
        return None
    means = {name: current_mean(cell, rule) for name, cell in state.by_name.items()}
    total = 0.0
    for cell in state.cells:
        # In float32 G(s⁺) − G(s⁻) cancels to nothing.
        plus, minus = cell.plus.value.double(), cell.minus.value.double()
        basal = basal_potential(cell, means)
        primitive = cell.population.activation.inverse_primitive
        energy = primitive(plus) - primitive(minus)
        total += float((energy + (minus - plus) * basal.double()).sum()) / rule.beta
        if cell is state.output and nudge.target is not None:
            total += rule.alpha * _loss(rule, nudge, plus, basal)
            total += (1.0 - rule.alpha) * _loss(rule, nudge, minus, basal)
    return total / state.batch


def _loss(rule: DualPropagation, nudge: Nudge, output: Tensor, basal: Tensor) -> float:
    """Returns ℓ of these outputs, or gᵀs in its place, summed over the batch."""
    assert nudge.target is not None
    match rule.nudge:
        case "prediction":
            assert nudge.gradient is not None
            return float((nudge.gradient.double() * output).sum())
        case "potential":
            return float((nudge.loss.gradient(basal, nudge.target).double() * output).sum())
        case "proximal":
            return float(nudge.loss.value(output, nudge.target.double()).sum())
