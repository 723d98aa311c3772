"""Rules: what a neuron is and does when it wakes."""

from neurosim.rules.back_propagation import BackPropagation
from neurosim.rules.base import Nudge, Rule, Upward, Wake
from neurosim.rules.difference_target_propagation import (
    DifferenceTargetPropagation,
    LocalJacobian,
)
from neurosim.rules.dual_propagation import DualPropagation
from neurosim.rules.lpom import LPOM

__all__ = [
    "LPOM",
    "BackPropagation",
    "DifferenceTargetPropagation",
    "DualPropagation",
    "LocalJacobian",
    "Nudge",
    "Rule",
    "Upward",
    "Wake",
]
