"""What happens in a tick: states, wakes, messages, phases, plasticity."""

from neurosim.dynamics.feedback import learn_feedback
from neurosim.dynamics.node import (
    Node,
    Reached,
    basal_potential,
    current_mean,
    output_potential,
)
from neurosim.dynamics.outlet import Counts, Outlet
from neurosim.dynamics.phases import Phases
from neurosim.dynamics.plasticity import Gradients, Plasticity
from neurosim.dynamics.start import feed_forward, new_input, reset
from neurosim.dynamics.state import State
from neurosim.dynamics.synapses import Synapses
from neurosim.dynamics.tick import Compute, Ticker, Woke
from neurosim.families import gather

gather(__name__)
