# The public names, and where each is: the only list of them. See __init__.py.

from neurosim import measures, schedules as schedules
from neurosim._version import __version__ as __version__
from neurosim.base import (
    ConfigurationError as ConfigurationError,
    DataError as DataError,
    DivergenceError as DivergenceError,
    DocumentError as DocumentError,
    InputError as InputError,
    NetworkError as NetworkError,
    NeurosimError as NeurosimError,
    NeurosimWarning as NeurosimWarning,
    PluginError as PluginError,
    StateError as StateError,
)
from neurosim.channels import (
    Channel as Channel,
    Channels as Channels,
    Distribution as Distribution,
    Effect as Effect,
    Exponential as Exponential,
    Noise as Noise,
    Quantize as Quantize,
    Uniform as Uniform,
)
from neurosim.convergence import (
    Convergence as Convergence,
    FixedPoint as FixedPoint,
    fixed_point as fixed_point,
    measure_convergence as measure_convergence,
)
from neurosim.data import (
    Augmentation as Augmentation,
    DataSource as DataSource,
    Drift as Drift,
    Sample as Sample,
    Source as Source,
    Standardization as Standardization,
    Target as Target,
    TorchData as TorchData,
)
from neurosim.dynamics import Plasticity as Plasticity
from neurosim.families import register as register
from neurosim.learning import (
    EarlyStopping as EarlyStopping,
    EndEvent as EndEvent,
    EpochEvent as EpochEvent,
    EvaluationEvent as EvaluationEvent,
    Listener as Listener,
    ListenerChoice as ListenerChoice,
    Metric as Metric,
    Aim as Aim,
    MLflow as MLflow,
    StartEvent as StartEvent,
    StatesFile as StatesFile,
    StepEvent as StepEvent,
    StreamPlan as StreamPlan,
    StreamTrainer as StreamTrainer,
    TensorBoard as TensorBoard,
    TraceEvent as TraceEvent,
    Trainer as Trainer,
    TrainingEvent as TrainingEvent,
    TrainingPlan as TrainingPlan,
    WeightsAndBiases as WeightsAndBiases,
)
from neurosim.maths import (
    Activation as Activation,
    Clip as Clip,
    LearningRate as LearningRate,
    Loss as Loss,
    Operator as Operator,
    OptimizerChoice as OptimizerChoice,
)
from neurosim.measures import (
    Probe as Probe,
    Trace as Trace,
)
from neurosim.network import (
    Faults as Faults,
    Feedback as Feedback,
    Initialization as Initialization,
    LocalJacobian as LocalJacobian,
    Model as Model,
    Network as Network,
    Population as Population,
    Projection as Projection,
)
from neurosim.records import States as States
from neurosim.rules import (
    LPOM as LPOM,
    BackPropagation as BackPropagation,
    ContrastiveHebbian as ContrastiveHebbian,
    CoupledLearning as CoupledLearning,
    DifferenceTargetPropagation as DifferenceTargetPropagation,
    DualPropagation as DualPropagation,
    EquilibriumPropagation as EquilibriumPropagation,
    HolomorphicEP as HolomorphicEP,
    Rule as Rule,
)
from neurosim.runs import Dask as Dask, Inline as Inline, Local as Local
from neurosim.runs.door import (
    Run as Run,
    SweepResults as SweepResults,
    compare as compare,
    figures as figures,
    load_run as load_run,
    load_sweep as load_sweep,
    resume as resume,
    run as run,
    sweep as sweep,
)
from neurosim.scenario import Scenario as Scenario
from neurosim.schedules import (
    Schedule as Schedule,
    Unit as Unit,
)
from neurosim.simulation import (
    Outcome as Outcome,
    Prediction as Prediction,
    Simulation as Simulation,
    Stop as Stop,
    Stream as Stream,
)

metrics = measures
