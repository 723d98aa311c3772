"""neurosim: asynchronous, event-driven simulation of networks of dyadic neurons."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neurosim._version import __version__

if TYPE_CHECKING:
    from neurosim import measures as metrics
    from neurosim import schedules
    from neurosim.base import (
        ConfigurationError,
        DataError,
        DivergenceError,
        DocumentError,
        InputError,
        NetworkError,
        NeurosimError,
        StateError,
    )
    from neurosim.channels import (
        Channel,
        Channels,
        Distribution,
        Effect,
        Exponential,
        Noise,
        Quantize,
        Uniform,
    )
    from neurosim.convergence import Convergence, FixedPoint, fixed_point, measure_convergence
    from neurosim.data import DataSource
    from neurosim.dynamics import Plasticity
    from neurosim.families import register
    from neurosim.learning import (
        EndEvent,
        EpochEvent,
        EvaluationEvent,
        Listener,
        ListenerChoice,
        StartEvent,
        StepEvent,
        TraceEvent,
        Trainer,
        TrainingEvent,
        TrainingPlan,
    )
    from neurosim.maths import Activation, LearningRate, Loss, Operator, OptimizerChoice
    from neurosim.measures import Probe, Trace
    from neurosim.network import (
        Faults,
        Feedback,
        Initialization,
        LocalJacobian,
        Model,
        Network,
        Population,
        Projection,
    )
    from neurosim.rules import (
        LPOM,
        BackPropagation,
        ContrastiveHebbian,
        CoupledLearning,
        DifferenceTargetPropagation,
        DualPropagation,
        EquilibriumPropagation,
        HolomorphicEP,
        Rule,
    )
    from neurosim.scenario import Scenario
    from neurosim.schedules import Schedule, Unit
    from neurosim.simulation import Outcome, Prediction, Simulation, Stop

# Where each name is: imported at first use, so that `neurosim --help` does not wait for torch.
_HOMES = {
    "Schedule": "schedules",
    "Rule": "rules",
    "Activation": "maths",
    "BackPropagation": "rules",
    "Channel": "channels",
    "Channels": "channels",
    "ConfigurationError": "base",
    "Convergence": "convergence",
    "DataError": "base",
    "DataSource": "data",
    "DifferenceTargetPropagation": "rules",
    "Distribution": "channels",
    "DivergenceError": "base",
    "Effect": "channels",
    "DocumentError": "base",
    "ContrastiveHebbian": "rules",
    "CoupledLearning": "rules",
    "DualPropagation": "rules",
    "HolomorphicEP": "rules",
    "EquilibriumPropagation": "rules",
    "Exponential": "channels",
    "Faults": "network",
    "Feedback": "network",
    "Initialization": "network",
    "Plasticity": "dynamics",
    "Prediction": "simulation",
    "FixedPoint": "convergence",
    "InputError": "base",
    "LPOM": "rules",
    "LocalJacobian": "network",
    "Loss": "maths",
    "Model": "network",
    "Network": "network",
    "NetworkError": "base",
    "NeurosimError": "base",
    "Noise": "channels",
    "Operator": "maths",
    "Outcome": "simulation",
    "Population": "network",
    "Probe": "measures",
    "Projection": "network",
    "Quantize": "channels",
    "Simulation": "simulation",
    "StateError": "base",
    "Stop": "simulation",
    "Trace": "measures",
    "Uniform": "channels",
    "Unit": "schedules",
    "EndEvent": "learning",
    "EpochEvent": "learning",
    "EvaluationEvent": "learning",
    "LearningRate": "maths",
    "Listener": "learning",
    "ListenerChoice": "learning",
    "OptimizerChoice": "maths",
    "StartEvent": "learning",
    "StepEvent": "learning",
    "TraceEvent": "learning",
    "Trainer": "learning",
    "TrainingEvent": "learning",
    "TrainingPlan": "learning",
    "Scenario": "scenario",
    "fixed_point": "convergence",
    "measure_convergence": "convergence",
    "register": "families",
}

# Folders that are public under a name.
_FOLDERS = {"metrics": "measures", "schedules": "schedules"}

__all__ = [
    "LPOM",
    "Activation",
    "BackPropagation",
    "Channel",
    "Channels",
    "ConfigurationError",
    "ContrastiveHebbian",
    "Convergence",
    "CoupledLearning",
    "DataError",
    "DataSource",
    "DifferenceTargetPropagation",
    "Distribution",
    "DivergenceError",
    "DocumentError",
    "DualPropagation",
    "Effect",
    "EndEvent",
    "EpochEvent",
    "EquilibriumPropagation",
    "EvaluationEvent",
    "Exponential",
    "Faults",
    "Feedback",
    "FixedPoint",
    "HolomorphicEP",
    "Initialization",
    "InputError",
    "LearningRate",
    "Listener",
    "ListenerChoice",
    "LocalJacobian",
    "Loss",
    "Model",
    "Network",
    "NetworkError",
    "NeurosimError",
    "Noise",
    "Operator",
    "OptimizerChoice",
    "Outcome",
    "Plasticity",
    "Population",
    "Prediction",
    "Probe",
    "Projection",
    "Quantize",
    "Rule",
    "Scenario",
    "Schedule",
    "Simulation",
    "StartEvent",
    "StateError",
    "StepEvent",
    "Stop",
    "Trace",
    "TraceEvent",
    "Trainer",
    "TrainingEvent",
    "TrainingPlan",
    "Uniform",
    "Unit",
    "__version__",
    "fixed_point",
    "measure_convergence",
    "metrics",
    "register",
    "schedules",
]


def __getattr__(name: str) -> Any:
    if name in _FOLDERS:
        return import_module(f"neurosim.{_FOLDERS[name]}")
    if name in _HOMES:
        return getattr(import_module(f"neurosim.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'neurosim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
