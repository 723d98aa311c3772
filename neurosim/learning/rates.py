"""What sets the learning rate of each step: the plan, or a scheduler of torch."""

from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from neurosim.base import ConfigurationError, inside
from neurosim.families import check
from neurosim.learning.plan import TrainingPlan
from neurosim.maths import LearningRate

Every = Literal["epoch", "step"]


class Rates:
    """Sets the rates of an ``optimizer`` by the plan's `LearningRate`, or has a ``scheduler`` of
    torch do it, which takes its own step after ``every`` epoch or step. One that the plan names
    goes by the scores of each epoch.

    ``per_epoch`` and ``steps`` are those of the training. Raises ConfigurationError for a scheduler
    that would not have its way, and for rates that do not last so long.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        plan: TrainingPlan,
        scheduler: LRScheduler | None,
        every: Every,
        per_epoch: int,
        steps: int,
    ) -> None:
        check(Every, scheduler_every=every)
        self._optimizer, self._plan, self._per_epoch = optimizer, plan, per_epoch
        chosen = plan.learning_rate.scheduler(optimizer) if scheduler is None else None
        self._scheduler, self._every = scheduler or chosen, every if scheduler else "epoch"
        self._own = [float(group["lr"]) for group in optimizer.param_groups]
        if scheduler is None:
            with inside("learning_rate"):
                for rate in self._own:
                    self._at(steps - 1, rate)
            return
        problem = ""
        if not isinstance(scheduler, LRScheduler):
            problem = f"must be one of torch.optim.lr_scheduler, not {scheduler!r}; give a "
            problem += "LearningRate as learning_rate"
        elif scheduler.optimizer is not optimizer:
            problem = "is of another optimizer; make it with the optimizer of this training"
        elif plan.learning_rate != LearningRate.of("constant"):
            problem = "and learning_rate both say what the rate is; leave one of them out"
        elif isinstance(scheduler, ReduceLROnPlateau) and every == "step":
            problem = "goes by the scores of an epoch; leave scheduler_every out"
        if problem:
            raise ConfigurationError(f"the scheduler {problem}", "scheduler")

    @property
    def scheduler(self) -> str | None:
        """The name of the scheduler, where there is one."""
        return None if self._scheduler is None else type(self._scheduler).__name__

    def _at(self, step: int, rate: float) -> float:
        return self._plan.learning_rate.at(step, rate, self._per_epoch, self._plan.epochs)

    def check(self, labels: Tensor) -> None:
        """Raises ConfigurationError for a schedule that goes by an accuracy that ``labels`` of
        samples, which are values, do not have."""
        one = self._scheduler
        if isinstance(one, ReduceLROnPlateau) and one.mode == "max" and labels.is_floating_point():
            said = "mode: max goes by accuracy, which targets that are values do not have"
            raise ConfigurationError(f"{said}; say mode: min", "learning_rate")

    def begin(self, step: int) -> None:
        """Sets the rates of a step, counted from 0."""
        if self._scheduler is None:
            for group, rate in zip(self._optimizer.param_groups, self._own, strict=True):
                group["lr"] = self._at(step, rate)

    def end_step(self) -> float:
        """Returns the rate of the step that was taken, and lets a scheduler of steps go on."""
        rate = float(self._optimizer.param_groups[0]["lr"])
        if self._scheduler is not None and self._every == "step":
            self._scheduler.step()
        return rate

    def end_epoch(self, scores: dict[str, Any]) -> None:
        """Lets a scheduler of epochs go on, by the validation scores if it goes by any, or without
        validation by those of training."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            name = "loss" if self._scheduler.mode == "min" else "accuracy"
            self._scheduler.step(scores.get(f"validation_{name}", scores[f"train_{name}"]))
        elif self._scheduler is not None and self._every == "epoch":
            self._scheduler.step()

    def state_dict(self) -> dict[str, Any] | None:
        return None if self._scheduler is None else self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        if self._scheduler is not None and state is not None:
            self._scheduler.load_state_dict(state)
