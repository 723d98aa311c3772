"""neurosim: asynchronous, event-driven simulation of networks of dyadic neurons."""

from neurosim import metrics, schedules
from neurosim._version import __version__
from neurosim.channels import Channel, Channels
from neurosim.errors import (
    ConfigurationError,
    DataError,
    DivergenceError,
    DocumentError,
    InputError,
    NetworkError,
    NeurosimError,
    StateError,
)
from neurosim.model import Model
from neurosim.network import Network
from neurosim.outcome import Outcome, Stop
from neurosim.populations import Population, Projection
from neurosim.probes import Probe, Trace
from neurosim.rules import DualPropagation
from neurosim.simulation import Simulation
from neurosim.units import Unit

__all__ = [
    "Channel",
    "Channels",
    "ConfigurationError",
    "DataError",
    "DivergenceError",
    "DocumentError",
    "DualPropagation",
    "InputError",
    "Model",
    "Network",
    "NetworkError",
    "NeurosimError",
    "Outcome",
    "Population",
    "Probe",
    "Projection",
    "Simulation",
    "StateError",
    "Stop",
    "Trace",
    "Unit",
    "__version__",
    "metrics",
    "schedules",
]
