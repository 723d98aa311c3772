"""Networks: populations, projections, parameters, faults."""

from neurosim.families import gather
from neurosim.network.faults import Damage, Faults, Held
from neurosim.network.feedback import Feedback, LocalJacobian
from neurosim.network.file import file_models
from neurosim.network.initialization import Initialization
from neurosim.network.model import Model, check_shape, tensor_of
from neurosim.network.network import Network
from neurosim.network.parts import Population, Projection
from neurosim.network.placement import groups_of, placed

gather(__name__)
