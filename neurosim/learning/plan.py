"""How long and how to train, as data."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from neurosim.base import ConfigurationError, unknown
from neurosim.data import Augmentation, Remainder
from neurosim.families import BelowOne, Count, Described, NotNegative, Portion, check
from neurosim.learning.metrics import Metric
from neurosim.maths import LearningRate
from neurosim.simulation import Prediction

Every = Annotated[Count, Field(description="1 for each, n for every n-th")]
_OF_THE_OPTIMIZER = "; the optimizer has it: OptimizerChoice.of('adam', lr=…), or one of torch"
# Where what is no option of a training can be said.
_ELSEWHERE = {
    "lr": _OF_THE_OPTIMIZER,
    "weight_decay": _OF_THE_OPTIMIZER,
    "clip": "; the plasticity of the simulation has it: clip=ns.Clip(norm=…)",
}


@dataclass(frozen=True)
class EarlyStopping(Described):
    """Ends a training once validation has not improved for ``patience`` epochs."""

    patience: Annotated[Count, Field(description="epochs without an improvement")] = 10
    monitor: Annotated[
        Literal["accuracy", "loss"], Field(description="which of validation has to improve")
    ] = "accuracy"
    min_delta: Annotated[
        NotNegative, Field(description="an improvement is more than this, over the best so far")
    ] = 0.0

    def is_over(self, scores: Sequence[float]) -> bool:
        """Says if a training ends after these scores of its epochs, of which higher is better."""
        best, waited = -inf, 0
        for score in scores:
            better = score > best + self.min_delta
            best, waited = (score, 0) if better else (best, waited + 1)
        return waited >= self.patience

    def check(self, validation: object | None) -> None:
        """Raises ConfigurationError where there is no validation."""
        if validation is None:
            said = "early stopping goes by validation, for which no samples are held out"
            how = "say training.validation: 0.1, or give a Trainer validation=(x, y)"
            raise ConfigurationError(f"{said}; {how}", "early_stopping")


@dataclass(frozen=True)
class TrainingPlan(Described):
    """Says how long and how to train.

    ``max_steps`` ends training early. ``loss_every``: a logged training loss every so many steps.
    ``accuracy_every``: evaluation every so many epochs (the last one always). ``trace_epochs``: the
    simulation's probes record the last inference of every so many epochs. ``augment``: what is
    done at random to the samples that are trained on. ``shuffle``, ``remainder``: see `Batches`.
    ``label_smoothing`` ε: the target is (1 − ε) y + ε / classes, in training alone. ``ema``: the
    decay of an exponential moving average of the weights, see `Average`. ``metrics``: what an
    evaluation measures besides accuracy and loss. ``shards``: parts of every batch, which are
    computed one by one, in the processes of torchrun. Members of families may be given by their
    names.
    """

    epochs: Count = 10
    max_steps: Count | None = None
    batch_size: Count = 50
    evaluation: Prediction = Prediction.of("feedforward")
    learning_rate: LearningRate = LearningRate.of("constant")
    loss_every: Every = 10
    accuracy_every: Every = 1
    trace_epochs: Every = 1
    augment: Augmentation | None = None
    shuffle: bool = True
    remainder: Remainder = "drop"
    label_smoothing: BelowOne = 0.0
    ema: Portion | None = None
    early_stopping: EarlyStopping | None = None
    metrics: tuple[Metric, ...] = ()
    shards: Count = 1

    def __post_init__(self) -> None:
        if isinstance(self.learning_rate, LRScheduler):
            said = "a scheduler of torch is not in the plan: give it as Trainer(…, scheduler=…)"
            raise ConfigurationError(said, "learning_rate")
        named = {"evaluation": Prediction, "learning_rate": LearningRate, "augment": Augmentation}
        for name, family in named.items():
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, family.of(given))
        object.__setattr__(self, "metrics", Metric.all_of(self.metrics))
        super().__post_init__()

    def check(self, validation: object | None, labels: Tensor) -> None:
        """Raises ConfigurationError for what goes by validation, where there is none, or by
        classes or labels of 0 and 1, where the ``labels`` of samples are other values."""
        stopping = self.early_stopping
        if stopping is not None:
            stopping.check(validation)
        if not labels.is_floating_point():
            return
        if stopping is not None and stopping.monitor == "accuracy":
            said = "the targets are values, which have no accuracy; say monitor: loss"
            raise ConfigurationError(said, "early_stopping")
        if self.label_smoothing:
            said = "label_smoothing is for classes, and the targets are values; leave it out"
            raise ConfigurationError(said, "label_smoothing")
        for metric in self.metrics:
            if metric.of_classes:
                said = f"the metric {metric.kind} is of classes, and the targets are values"
                raise ConfigurationError(
                    f"{said}; use mse or r2, or for labels of 0 and 1 f1", "metrics"
                )
            if metric.of_labels and not ((labels == 0) | (labels == 1)).all():
                said = f"the metric {metric.kind} is of labels, 0 or 1, and some targets are others"
                raise ConfigurationError(f"{said}; use mse or r2", "metrics")


def chosen_plan(
    plan: TrainingPlan | None, options: dict[str, Any], batch_size: int | None
) -> TrainingPlan:
    """Returns the ``plan`` with other ``options``, and the batch size of a loader where none is
    said. Raises ConfigurationError for an option that no plan has."""
    known = [one.name for one in fields(TrainingPlan)]
    for key in (one for one in options if one not in known):
        said = unknown("option of a training", key, known)
        raise ConfigurationError(said + _ELSEWHERE.get(key, ""), key)
    if plan is None and batch_size is not None:
        options = {"batch_size": batch_size, **options}
    return replace(check(TrainingPlan | None, plan=plan) or TrainingPlan(), **options)
