"""What happens in a tick: states, wakes, messages, phases, plasticity."""

from neurosim.dynamics.cells import basal_potential, current_mean, output_potential
from neurosim.dynamics.counts import Counts
from neurosim.dynamics.feedback import learn_feedback
from neurosim.dynamics.news import News
from neurosim.dynamics.phases import Phases
from neurosim.dynamics.plasticity import contrastive_hebbian
from neurosim.dynamics.state import State
from neurosim.dynamics.tick import Compute, Ticker

__all__ = [
    "Compute",
    "Counts",
    "News",
    "Phases",
    "State",
    "Ticker",
    "basal_potential",
    "contrastive_hebbian",
    "current_mean",
    "learn_feedback",
    "output_potential",
]
