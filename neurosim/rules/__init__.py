"""Rules: what a neuron is and does when it wakes."""

from neurosim.rules.back_propagation import BackPropagation
from neurosim.rules.base import Nudge, Phase, Rule, Upward, Wake, Woken
from neurosim.rules.contrastive_hebbian import ContrastiveHebbian, CoupledLearning
from neurosim.rules.difference_target_propagation import DifferenceTargetPropagation
from neurosim.rules.dual_propagation import DampingName, DualPropagation, NudgeName, Variant
from neurosim.rules.energy import Readout, Sides
from neurosim.rules.equilibrium_propagation import EquilibriumPropagation, HolomorphicEP
from neurosim.rules.lpom import LPOM
