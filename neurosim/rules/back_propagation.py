"""Back-propagation as messages between neurons (Rumelhart, Hinton & Williams 1986)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from neurosim.families import register
from neurosim.rules.base import Nudge, Rule, Wake, Woken


@register("backprop")
@dataclass(frozen=True)
class BackPropagation(Rule):
    """s = f(a), sent forward; δ = f'(a) Δ, sent back: both are the messages of one neuron.

    Δ = Wᵀδ is the apical potential; at the output it is −∇ℓ(f(a)), at the present potential. There
    is one state, s⁺ = s⁻ = s, and no β: δ = −∂ℓ/∂a, and the local gradient −(1/B) Σ δ s̄ᵀ is that of
    autograd once everything has woken after what it depends on: after one feed-forward pass and one
    sweep down, or, in any other order, as soon as every message has come through. With a cycle the
    fixed point is that of recurrent back-propagation (Almeida 1987, Pineda 1987). With random
    `Projection.feedback` it is feedback alignment (Lillicrap et al. 2016).
    """

    separate_feedback: ClassVar[bool] = True

    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """−∇ℓ(f(a))."""
        assert nudge.target is not None
        return nudge.loss.gradient(output, nudge.target).neg()

    def wake(self, woken: Woken) -> Wake:
        activation, basal, apical = woken.activation, woken.basal, woken.pull
        state = activation(basal)
        error = None if apical is None else activation.backward(basal, state, apical)
        return Wake(state, state, state, error).knowing(moderate=True)
