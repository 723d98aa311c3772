"""Rules: what a neuron is and does when it wakes."""

from neurosim.rules.base import Nudge, Phase, Rule, Wake
from neurosim.rules.contrastive_hebbian import ContrastiveHebbian
from neurosim.rules.dual_propagation import DualPropagation
from neurosim.rules.equilibrium_propagation import EquilibriumPropagation
from neurosim.rules.holomorphic_ep import HolomorphicEP

__all__ = [
    "ContrastiveHebbian",
    "DualPropagation",
    "EquilibriumPropagation",
    "HolomorphicEP",
    "Nudge",
    "Phase",
    "Rule",
    "Wake",
]
