"""A network in simulated time: the public object and the engine below it."""

from neurosim.families import gather
from neurosim.simulation.compatibility import Init
from neurosim.simulation.engine import Engine, Processes
from neurosim.simulation.outcome import Outcome, Stop
from neurosim.simulation.prediction import Prediction, why_none
from neurosim.simulation.simulation import Simulation

gather(__name__)
