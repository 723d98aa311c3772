"""Training: epochs of inferences, each followed by a local weight update and told to listeners."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import StateError, stream
from neurosim.data import Augmentation, Batches, Split, one_hot
from neurosim.dynamics import Counts
from neurosim.families import Count, Described
from neurosim.learning.evaluation import Evaluator
from neurosim.learning.events import (
    EndEvent,
    EpochEvent,
    EvaluationEvent,
    Listeners,
    StartEvent,
    Status,
    StepEvent,
    TraceEvent,
    TrainingEvent,
)
from neurosim.maths import LearningRate, OptimizerChoice
from neurosim.network import Model
from neurosim.simulation import Outcome, Prediction, Simulation
from neurosim.tensors import complete

Every = Annotated[Count, Field(description="1 for each, n for every n-th")]


@dataclass(frozen=True)
class TrainingPlan(Described):
    """Says how long and how to train.

    ``max_steps`` ends training early. ``loss_every``: a logged training loss every so many steps.
    ``accuracy_every``: evaluation every so many epochs (the last one always). ``trace_epochs``: the
    simulation's probes record the last inference of every so many epochs. ``augment``: `crop_flip`
    of what is trained on.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "evaluation", Prediction.of(self.evaluation))  # or its name
        super().__post_init__()


class Trainer:
    """Trains ``simulation.model`` on ``train`` and tells `Listener` objects what happens.

    ``validation`` chooses the best epoch if given. ``settled`` makes a fresh simulation for the
    n-th batch of an evaluation whose prediction settles. It can be interrupted in the middle of an
    inference, saved by `state_dict`, and continued bit for bit.

    Raises ConfigurationError for options that do not go together.
    """

    def __init__(
        self,
        simulation: Simulation,
        optimizer: torch.optim.Optimizer | OptimizerChoice,
        train: Split,
        test: Split,
        plan: TrainingPlan | None = None,
        *,
        validation: Split | None = None,
        settled: Callable[[int], Simulation] | None = None,
        seed: int = 0,
    ) -> None:
        self.simulation, self.plan = simulation, plan if plan is not None else TrainingPlan()
        self.model: Model = simulation.model
        if isinstance(optimizer, OptimizerChoice):
            optimizer = optimizer.make(self.model.parameters())
        self.optimizer = optimizer
        self.test, self.validation = test, validation
        self.evaluator = Evaluator(simulation, self.plan.evaluation, settled)
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        crops = None if self.plan.augment is None else stream(seed, "augmentation")
        batch, order = self.plan.batch_size, stream(seed, "batches")
        self.batches = Batches(train, batch, order, crops=crops)
        self.step = 0
        counts = dict.fromkeys(asdict(Counts()), 0)
        self.totals: dict[str, float] = {**counts, "ticks": 0, "time": 0.0}
        self._epoch_loss = 0.0
        self._labels: Tensor | None = None  # of the inference under way
        self._ending: int | None = None  # the epoch that is over but for its evaluation
        self._best: dict[str, Any] | None = None

    @property
    def epoch(self) -> int:
        """Epochs begun, from 0."""
        return self.step // len(self.batches)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        planned = self.plan.epochs * len(self.batches)
        return planned if self.plan.max_steps is None else min(planned, self.plan.max_steps)

    @property
    def done(self) -> bool:
        return self.step >= self.steps and self._ending is None

    def _now(self) -> tuple[int, int]:
        return -(-self.step // len(self.batches)), self.step

    def run(
        self, listeners: Sequence[object] = (), interrupted: Callable[[], bool] = lambda: False
    ) -> bool:
        """Trains to the end and tells the listeners; stops once ``interrupted()``, see `events`.

        Returns:
            Whether the training is over. If not, another call goes on.

        Raises:
            ConfigurationError: for an object that cannot be a listener.
            DivergenceError: where a state is no longer finite.
        """
        told = Listeners(listeners)
        before, self.simulation.before_step = self.simulation.before_step, told.gradients
        error: BaseException | None = None
        try:
            told.tell(StartEvent(*self._now(), self.steps, self.simulation))
            for event in self.events(interrupted):
                told.tell(event)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.simulation.before_step = before
            status: Status = "failed" if error else "finished" if self.done else "interrupted"
            told.tell(EndEvent(*self._now(), status, error))
        return self.done

    def events(self, interrupted: Callable[[], bool] = lambda: False) -> Iterator[TrainingEvent]:
        """Trains to the end and yields what happens, for those who would rather ask than be told.

        It stops at a tick, or between batches of an evaluation, once ``interrupted()``. Whoever
        gets an event may save the state.
        """
        while not self.done:
            if self._ending is None:
                yield from self._one_step(interrupted)
                if self._labels is not None:
                    return  # interrupted within an inference
            if self._ending is not None:
                yield from self._end_of_epoch(self._ending, interrupted)
                if self._ending is not None:
                    return  # interrupted within an evaluation, which then begins anew
            if interrupted():
                return

    def _one_step(self, interrupted: Callable[[], bool]) -> Iterator[TrainingEvent]:
        simulation, plan = self.simulation, self.plan
        per_epoch = len(self.batches)
        last = (self.step + 1) % per_epoch == 0 or self.step + 1 == self.steps
        if self._labels is None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = plan.learning_rate.at(self.step, rate, per_epoch, plan.epochs)
            x, self._labels = self.batches.next()
            traced = last and self.epoch % plan.trace_epochs == 0
            within = self.optimizer if simulation.learn_every else None
            simulation.start(x, self._target(self._labels), optimizer=within, record=traced)
        simulation.advance(interrupted=interrupted)
        if not simulation.done:
            return
        outcome = simulation.finish()
        if not simulation.learn_every:
            simulation.learn(self.optimizer)
        # The step is over before its events go out: whoever gets one may save the state.
        labels, self._labels = self._labels, None
        yield from self._after_step(outcome, labels, last)

    def _target(self, labels: Tensor) -> Tensor:
        output = self.model.network.output
        return one_hot(labels, output.size, self.model.dtype).view(-1, *output.shape)

    def _after_step(self, outcome: Outcome, labels: Tensor, last: bool) -> Iterator[TrainingEvent]:
        plan, epoch = self.plan, self.epoch
        prediction = outcome.prediction
        target = self._target(labels).to(prediction.device)
        loss = float(self.simulation.loss.mean(prediction, target))
        self._epoch_loss += loss
        for key, value in asdict(self.simulation.counts).items():  # learning included
            self.totals[key] += value
        self.totals["ticks"] += outcome.ticks
        self.totals["time"] += outcome.ticks * self.simulation.schedule.tick
        self.step += 1
        self._ending = epoch if last else None
        began, unit = self.simulation.tick - outcome.ticks, self.simulation.schedule.tick
        for kind in outcome.trace.kinds():
            for record in outcome.trace[kind]:
                # From the beginning of this inference: a carried one goes on where others ended.
                tick = record["tick"] - began
                values = record | {"tick": tick, "time": tick * unit}
                yield TraceEvent(epoch + 1, self.step, kind, values)
        rate = self.optimizer.param_groups[0]["lr"]
        logged = self.step % plan.loss_every == 0 or last
        yield StepEvent(epoch + 1, self.step, loss, rate, outcome.ticks, logged)

    def _end_of_epoch(self, epoch: int, interrupted: Callable[[], bool]) -> Iterator[TrainingEvent]:
        steps = (self.step - 1) % len(self.batches) + 1
        scores: dict[str, float] = {}
        due = (epoch + 1) % self.plan.accuracy_every == 0 or self.step >= self.steps
        # Of validation every epoch may be the best.
        for name, split in (("test", self.test if due else None), ("validation", self.validation)):
            if split is None:
                continue
            for so_far in self.evaluator.batches(split):
                yield EvaluationEvent(epoch + 1, self.step, name, so_far.images, len(split))
                if interrupted():
                    return
            scores[f"{name}_accuracy"] = so_far.correct / len(split)
            scores[f"{name}_loss"] = so_far.loss / len(split)
        accuracy = scores.get("validation_accuracy")
        if accuracy is not None and (self._best is None or accuracy > self._best["accuracy"]):
            weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self._best = {"accuracy": accuracy, "epoch": epoch + 1, "weights": weights}
        train_loss = self._epoch_loss / steps
        self._epoch_loss, self._ending = 0.0, None
        yield EpochEvent(epoch + 1, self.step, train_loss, dict(self.totals), **scores)

    def evaluate(self, split: Split, eps: float = 0.0) -> tuple[float, float]:
        """Measures accuracy and mean loss on a split, see `Evaluator.evaluate`."""
        return self.evaluator.evaluate(split, eps)

    def best(self) -> int | None:
        """Puts back the weights of the best validation accuracy.

        Returns:
            Its epoch, or None without validation.
        """
        if self._best is None:
            return None
        self.model.load_state_dict(self._best["weights"])
        return int(self._best["epoch"])

    @property
    def best_accuracy(self) -> float | None:
        """The best validation accuracy so far, or None without validation."""
        return None if self._best is None else float(self._best["accuracy"])

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the rest of the training depends on, parameters included."""
        return {
            "step": self.step,
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "simulation": self.simulation.state_dict(),
            "batches": self.batches.state_dict(),
            "totals": dict(self.totals),
            "epoch_loss": self._epoch_loss,
            "labels": self._labels,
            "ending": self._ending,
            "best": self._best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken. Raises StateError where it does not fit."""
        with complete("training"):
            try:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
            except (RuntimeError, ValueError, KeyError) as error:
                raise StateError(f"the saved training is of another model: {error}") from None
            within = self.optimizer if self.simulation.learn_every else None
            self.simulation.load_state_dict(state["simulation"], optimizer=within)
            self.batches.load_state_dict(state["batches"])
            self.totals = {key: state["totals"][key] for key in self.totals}
            self.step, self._epoch_loss = state["step"], state["epoch_loss"]
            self._labels, self._ending, self._best = (
                state[k] for k in ("labels", "ending", "best")
            )
