"""neurosim: asynchronous, event-driven simulation of networks of dyadic neurons."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neurosim._version import __version__

if TYPE_CHECKING:
    from neurosim import metrics, schedules
    from neurosim.channels import Channel, Channels, Noise, Quantize
    from neurosim.convergence import Convergence, measure_convergence
    from neurosim.distributions import Exponential, Uniform
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
    from neurosim.faults import Faults
    from neurosim.fixedpoint import FixedPoint, fixed_point
    from neurosim.model import Model
    from neurosim.network import Network
    from neurosim.outcome import Outcome, Stop
    from neurosim.populations import Population, Projection
    from neurosim.probes import Probe, Trace
    from neurosim.rules import (
        LPOM,
        BackPropagation,
        DifferenceTargetPropagation,
        DualPropagation,
        LocalJacobian,
    )
    from neurosim.simulation import Simulation
    from neurosim.units import Unit

# Where each name is: imported at first use, so that `neurosim --help` does not wait for torch.
_HOMES = {
    "BackPropagation": "rules",
    "Channel": "channels",
    "Channels": "channels",
    "ConfigurationError": "errors",
    "Convergence": "convergence",
    "DataError": "errors",
    "DifferenceTargetPropagation": "rules",
    "DivergenceError": "errors",
    "DocumentError": "errors",
    "DualPropagation": "rules",
    "Exponential": "distributions",
    "Faults": "faults",
    "FixedPoint": "fixedpoint",
    "InputError": "errors",
    "LPOM": "rules",
    "LocalJacobian": "rules",
    "Model": "model",
    "Network": "network",
    "NetworkError": "errors",
    "NeurosimError": "errors",
    "Noise": "channels",
    "Outcome": "outcome",
    "Population": "populations",
    "Probe": "probes",
    "Projection": "populations",
    "Quantize": "channels",
    "Simulation": "simulation",
    "StateError": "errors",
    "Stop": "outcome",
    "Trace": "probes",
    "Uniform": "distributions",
    "Unit": "units",
    "fixed_point": "fixedpoint",
    "measure_convergence": "convergence",
}

__all__ = [
    "LPOM",
    "BackPropagation",
    "Channel",
    "Channels",
    "ConfigurationError",
    "Convergence",
    "DataError",
    "DifferenceTargetPropagation",
    "DivergenceError",
    "DocumentError",
    "DualPropagation",
    "Exponential",
    "Faults",
    "FixedPoint",
    "InputError",
    "LocalJacobian",
    "Model",
    "Network",
    "NetworkError",
    "NeurosimError",
    "Noise",
    "Outcome",
    "Population",
    "Probe",
    "Projection",
    "Quantize",
    "Simulation",
    "StateError",
    "Stop",
    "Trace",
    "Uniform",
    "Unit",
    "__version__",
    "fixed_point",
    "measure_convergence",
    "metrics",
    "schedules",
]


def __getattr__(name: str) -> Any:
    if name in ("metrics", "schedules"):
        return import_module(f"neurosim.{name}")
    if name in _HOMES:
        return getattr(import_module(f"neurosim.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'neurosim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
