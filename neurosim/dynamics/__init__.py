"""What happens in a tick: states, wakes, messages, phases, plasticity."""

from neurosim.dynamics.counts import Counts
from neurosim.dynamics.feedback import learn_feedback
from neurosim.dynamics.node import basal_potential, current_mean, output_potential
from neurosim.dynamics.phases import Phases
from neurosim.dynamics.plasticity import contrastive_hebbian
from neurosim.dynamics.reached import Reached
from neurosim.dynamics.start import feed_forward, new_input, reset
from neurosim.dynamics.state import State
from neurosim.dynamics.tick import Compute, Ticker, Woke

__all__ = [
    "Compute",
    "Counts",
    "Phases",
    "Reached",
    "State",
    "Ticker",
    "Woke",
    "basal_potential",
    "contrastive_hebbian",
    "current_mean",
    "feed_forward",
    "learn_feedback",
    "new_input",
    "output_potential",
    "reset",
]
