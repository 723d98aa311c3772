"""Rules: what a neuron is and does when it wakes."""

from neurosim.rules.base import Nudge, Rule, Upward, Wake
from neurosim.rules.dual_propagation import DualPropagation

__all__ = ["DualPropagation", "Nudge", "Rule", "Upward", "Wake"]
