# The public names, and where each is: the only list of them. See __init__.py.

from neurosim import measures
from neurosim import schedules as schedules
from neurosim._version import __version__ as __version__
from neurosim.base import (
    ConfigurationError as ConfigurationError,
)
from neurosim.base import (
    DataError as DataError,
)
from neurosim.base import (
    DivergenceError as DivergenceError,
)
from neurosim.base import (
    DocumentError as DocumentError,
)
from neurosim.base import (
    InputError as InputError,
)
from neurosim.base import (
    NetworkError as NetworkError,
)
from neurosim.base import (
    NeurosimError as NeurosimError,
)
from neurosim.base import (
    PluginError as PluginError,
)
from neurosim.base import (
    StateError as StateError,
)
from neurosim.channels import (
    Channel as Channel,
)
from neurosim.channels import (
    Channels as Channels,
)
from neurosim.channels import (
    Distribution as Distribution,
)
from neurosim.channels import (
    Effect as Effect,
)
from neurosim.channels import (
    Exponential as Exponential,
)
from neurosim.channels import (
    Noise as Noise,
)
from neurosim.channels import (
    Quantize as Quantize,
)
from neurosim.channels import (
    Uniform as Uniform,
)
from neurosim.convergence import (
    Convergence as Convergence,
)
from neurosim.convergence import (
    FixedPoint as FixedPoint,
)
from neurosim.convergence import (
    fixed_point as fixed_point,
)
from neurosim.convergence import (
    measure_convergence as measure_convergence,
)
from neurosim.data import DataSource as DataSource
from neurosim.dynamics import Plasticity as Plasticity
from neurosim.families import register as register
from neurosim.learning import (
    EndEvent as EndEvent,
)
from neurosim.learning import (
    EpochEvent as EpochEvent,
)
from neurosim.learning import (
    EvaluationEvent as EvaluationEvent,
)
from neurosim.learning import (
    Listener as Listener,
)
from neurosim.learning import (
    ListenerChoice as ListenerChoice,
)
from neurosim.learning import (
    StartEvent as StartEvent,
)
from neurosim.learning import (
    StepEvent as StepEvent,
)
from neurosim.learning import (
    TraceEvent as TraceEvent,
)
from neurosim.learning import (
    Trainer as Trainer,
)
from neurosim.learning import (
    TrainingEvent as TrainingEvent,
)
from neurosim.learning import (
    TrainingPlan as TrainingPlan,
)
from neurosim.maths import (
    Activation as Activation,
)
from neurosim.maths import (
    LearningRate as LearningRate,
)
from neurosim.maths import (
    Loss as Loss,
)
from neurosim.maths import (
    Operator as Operator,
)
from neurosim.maths import (
    OptimizerChoice as OptimizerChoice,
)
from neurosim.measures import (
    Probe as Probe,
)
from neurosim.measures import (
    Trace as Trace,
)
from neurosim.network import (
    Faults as Faults,
)
from neurosim.network import (
    Feedback as Feedback,
)
from neurosim.network import (
    LocalJacobian as LocalJacobian,
)
from neurosim.network import (
    Model as Model,
)
from neurosim.network import (
    Network as Network,
)
from neurosim.network import (
    Population as Population,
)
from neurosim.network import (
    Projection as Projection,
)
from neurosim.rules import (
    LPOM as LPOM,
)
from neurosim.rules import (
    BackPropagation as BackPropagation,
)
from neurosim.rules import (
    ContrastiveHebbian as ContrastiveHebbian,
)
from neurosim.rules import (
    DifferenceTargetPropagation as DifferenceTargetPropagation,
)
from neurosim.rules import (
    DualPropagation as DualPropagation,
)
from neurosim.rules import (
    EquilibriumPropagation as EquilibriumPropagation,
)
from neurosim.rules import (
    HolomorphicEP as HolomorphicEP,
)
from neurosim.rules import (
    Rule as Rule,
)
from neurosim.scenario import Scenario as Scenario
from neurosim.schedules import (
    Schedule as Schedule,
)
from neurosim.schedules import (
    Unit as Unit,
)
from neurosim.simulation import (
    Outcome as Outcome,
)
from neurosim.simulation import (
    Prediction as Prediction,
)
from neurosim.simulation import (
    Simulation as Simulation,
)
from neurosim.simulation import (
    Stop as Stop,
)

metrics = measures
