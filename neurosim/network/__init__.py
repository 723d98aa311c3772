"""Networks: populations, projections, parameters, faults."""

from neurosim.network.faults import Damage, Faults, Held
from neurosim.network.file import ChainFile, GraphFile
from neurosim.network.model import Model, check_shape
from neurosim.network.network import Network
from neurosim.network.parts import MAX_DYADS, Feedback, Population, Projection

__all__ = [
    "MAX_DYADS",
    "ChainFile",
    "Damage",
    "Faults",
    "Feedback",
    "GraphFile",
    "Held",
    "Model",
    "Network",
    "Population",
    "Projection",
    "check_shape",
]
