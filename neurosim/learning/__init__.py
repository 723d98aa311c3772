"""Training: batches, weight updates, evaluation, events and their listeners, checkpoints."""

from neurosim.families import gather
from neurosim.learning.checkpoint import (
    load_optimizer,
    load_state,
    load_weights,
    save_state,
    save_weights,
)
from neurosim.learning.display import (
    Display,
    How,
    Progress,
    Relay,
    TrainingDisplay,
    Unasked,
    console_of,
)
from neurosim.learning.distributed import Ranks, says
from neurosim.learning.events import (
    EndEvent,
    EpochEvent,
    EvaluationEvent,
    Listener,
    ListenerChoice,
    Listeners,
    StartEvent,
    StepEvent,
    TraceEvent,
    TrainingEvent,
    listed,
)
from neurosim.learning.memory import Memory, check_memory, estimate
from neurosim.learning.metrics import Metric
from neurosim.learning.plan import EarlyStopping, TrainingPlan
from neurosim.learning.recording import StatesFile
from neurosim.learning.shards import check_shards
from neurosim.learning.streaming import FOREVER, StreamPlan, StreamTrainer
from neurosim.learning.trackers import Aim, MLflow, TensorBoard, WeightsAndBiases
from neurosim.learning.trainer import Trainer

gather(__name__)
