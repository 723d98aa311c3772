"""A network in simulated time: the public object and the engine below it."""

from neurosim.families import gather
from neurosim.simulation.common import run_length
from neurosim.simulation.compatibility import (
    Init,
    accept_batch,
    check_optimizer,
    trained,
    undisturbed,
)
from neurosim.simulation.engine import Engine, Processes
from neurosim.simulation.episodes import Episodes
from neurosim.simulation.inference import Inference
from neurosim.simulation.outcome import Outcome, Stop
from neurosim.simulation.prediction import Prediction, why_none
from neurosim.simulation.simulation import Simulation
from neurosim.simulation.stream import Answer, Stream, Window

gather(__name__)
