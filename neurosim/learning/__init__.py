"""Training: batches, weight updates, evaluation, checkpoints."""

from neurosim.learning.checkpoint import load_state, load_weights, save_state
from neurosim.learning.memory import Memory, Optimizer, check_memory, estimate
from neurosim.learning.optimizers import LearningRate, OptimizerChoice
from neurosim.learning.trainer import Evaluation, Event, Trainer, TrainingPlan

__all__ = [
    "Evaluation",
    "Event",
    "LearningRate",
    "Memory",
    "Optimizer",
    "OptimizerChoice",
    "Trainer",
    "TrainingPlan",
    "check_memory",
    "estimate",
    "load_state",
    "load_weights",
    "save_state",
]
