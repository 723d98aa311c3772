"""Rules: what a neuron is and does when it wakes."""

from neurosim.rules.base import Nudge, Phase, Rule, Wake
from neurosim.rules.dual_propagation import DualPropagation
from neurosim.rules.equilibrium_propagation import EquilibriumPropagation

__all__ = ["DualPropagation", "EquilibriumPropagation", "Nudge", "Phase", "Rule", "Wake"]
