"""Training: epochs of inferences, each followed by a local weight update; evaluation.

A `Trainer` is advanced batch by batch, hands out events (plain dictionaries), and can be saved in
the middle of an inference and continued bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from neurosim.base import StateError, check_choices, check_counts, stream
from neurosim.data import Augmentation, Batches, Split, one_hot
from neurosim.dynamics import Counts
from neurosim.learning.optimizers import LearningRate
from neurosim.measures import fgsm, lipschitz_bound, metrics, spectral_norms
from neurosim.network import Model
from neurosim.simulation import Outcome, Simulation
from neurosim.tensors import complete

Evaluation = Literal["feedforward", "settled"]
Event = dict[str, Any]
EVALUATION_BATCH = 500


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how to train.

    ``loss_every``: training loss every so many steps. ``accuracy_every``: evaluation every so many
    epochs (the last one always). ``trace_epochs``: the simulation's probes record the last
    inference of every so many epochs. ``max_steps`` ends training early. ``augment``: `crop_flip`
    of what is trained on.
    """

    epochs: int = 10
    max_steps: int | None = None
    batch_size: int = 50
    evaluation: Evaluation = "feedforward"
    learning_rate: LearningRate = LearningRate()
    loss_every: int = 10
    accuracy_every: int = 1
    trace_epochs: int = 1
    augment: Augmentation | None = None

    def __post_init__(self) -> None:
        check_counts(
            epochs=self.epochs,
            max_steps=self.max_steps,
            batch_size=self.batch_size,
            loss_every=self.loss_every,
            accuracy_every=self.accuracy_every,
            trace_epochs=self.trace_epochs,
        )
        check_choices(evaluation=(self.evaluation, Evaluation))
        if self.augment is not None:
            check_choices(augment=(self.augment, Augmentation))


class Trainer:
    """Trains ``simulation.model`` on ``train``; ``validation`` chooses the best epoch if given.

    ``settled`` makes a fresh simulation for the n-th batch of an evaluation by the settled network.
    """

    def __init__(
        self,
        simulation: Simulation,
        optimizer: torch.optim.Optimizer,
        train: Split,
        test: Split,
        plan: TrainingPlan,
        *,
        classes: int,
        validation: Split | None = None,
        settled: Callable[[int], Simulation] | None = None,
        seed: int = 0,
    ) -> None:
        self.simulation, self.optimizer, self.plan = simulation, optimizer, plan
        self.model: Model = simulation.model
        self.test, self.validation, self.classes = test, validation, classes
        self._settled = settled
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        crops = None if plan.augment is None else stream(seed, "augmentation")
        self.batches = Batches(train, plan.batch_size, stream(seed, "batches"), crops=crops)
        self.step = 0
        self.totals = _zero_totals()
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

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Trains to the end; stops at a tick, or between batches of an evaluation, once
        ``interrupted()``. Whoever gets an event may save the state.

        An ``event`` is a ``trace`` (a record of a probe), a ``step``, an ``epoch``, or the progress
        of an ``evaluation``, which is no result.
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

    def _one_step(self, interrupted: Callable[[], bool]) -> Iterator[Event]:
        simulation, plan = self.simulation, self.plan
        per_epoch = len(self.batches)
        last = (self.step + 1) % per_epoch == 0 or self.step + 1 == self.steps
        if self._labels is None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = plan.learning_rate.at(self.step, rate, per_epoch, plan.epochs)
            x, self._labels = self.batches.next()
            traced = last and self.epoch % plan.trace_epochs == 0
            target = one_hot(self._labels, self.classes, self.model.dtype)
            target = target.view(-1, *self.model.network.output.shape)
            within = self.optimizer if simulation.learn_every else None
            simulation.start(x, target, optimizer=within, record=traced)
        while not simulation.done:
            if interrupted():
                return
            simulation.advance(1)
        outcome = simulation.finish()
        if not simulation.learn_every:
            simulation.learn(self.optimizer)
        # The step is over before its events go out: whoever gets one may save the state.
        labels, self._labels = self._labels, None
        yield from self._events(outcome, labels, last)

    def _events(self, outcome: Outcome, labels: Tensor, last: bool) -> Iterator[Event]:
        plan, epoch = self.plan, self.epoch
        target = one_hot(labels, self.classes, self.model.dtype).to(outcome.prediction.device)
        prediction = outcome.prediction
        loss = float(self.simulation.loss.mean(prediction, target.view_as(prediction)))
        self._epoch_loss += loss
        for key, value in asdict(self.simulation.counts).items():  # learning included
            self.totals[key] += value
        self.totals["ticks"] += outcome.ticks
        self.totals["time"] += outcome.ticks * self.simulation.schedule.tick
        self.step += 1
        self._ending = epoch if last else None
        where = {"epoch": epoch + 1, "step": self.step}
        began, unit = self.simulation.tick - outcome.ticks, self.simulation.schedule.tick
        for kind in outcome.trace.kinds():
            for record in outcome.trace[kind]:
                # From the beginning of this inference: a carried one goes on where others ended.
                tick = record["tick"] - began
                when = {"tick": tick, "time": tick * unit}
                yield {"event": "trace", "probe": kind} | where | record | when
        if self.step % plan.loss_every == 0 or last:
            rate = self.optimizer.param_groups[0]["lr"]
            yield {"event": "step", "loss": loss, "lr": rate} | where

    def _end_of_epoch(self, epoch: int, interrupted: Callable[[], bool]) -> Iterator[Event]:
        steps = (self.step - 1) % len(self.batches) + 1
        where: Event = {"epoch": epoch + 1, "step": self.step}
        found: Event = {}
        due = (epoch + 1) % self.plan.accuracy_every == 0 or self.step >= self.steps
        # Of validation every epoch may be the best.
        for name, split in (("test", self.test if due else None), ("validation", self.validation)):
            if split is None:
                continue
            for so_far in self._evaluation(split):
                images = {"split": name, "images": so_far[0], "of": len(split)}
                yield {"event": "evaluation"} | where | images
                if interrupted():
                    return
            _, correct, loss = so_far
            found |= {f"{name}_accuracy": correct / len(split), f"{name}_loss": loss / len(split)}
        accuracy = found.get("validation_accuracy")
        if accuracy is not None and (self._best is None or accuracy > self._best["accuracy"]):
            weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self._best = {"accuracy": accuracy, "epoch": epoch + 1, "weights": weights}
        event = {"event": "epoch"} | where | {"train_loss": self._epoch_loss / steps}
        self._epoch_loss, self._ending = 0.0, None
        yield event | self.totals | found

    # ---- evaluation ----------------------------------------------------------------------------

    def best(self) -> int | None:
        """Puts back the weights of the best validation accuracy; its epoch, or None without."""
        if self._best is None:
            return None
        self.model.load_state_dict(self._best["weights"])
        return int(self._best["epoch"])

    @property
    def best_accuracy(self) -> float | None:
        """The best validation accuracy so far, or None without validation."""
        return None if self._best is None else float(self._best["accuracy"])

    def evaluate(self, split: Split, eps: float = 0.0) -> tuple[float, float]:
        """Accuracy and mean loss on a split, feed-forward or by the settled network.

        With ``eps`` of the images after an attack by `fgsm`, which follows the gradient of the
        feed-forward prediction.
        """
        *_, (_, correct, loss) = self._evaluation(split, eps)
        return correct / len(split), loss / len(split)

    @torch.no_grad()
    def _evaluation(self, split: Split, eps: float = 0.0) -> Iterator[tuple[int, float, float]]:
        """How many images are done, how many of them are right, and their summed loss: as often as
        somebody may want to look up or to stop."""
        low, high = (b.to(self.model.device, self.model.dtype) for b in split.bounds)
        correct = loss = 0.0
        predict, measured = self.simulation.predict, self.simulation.loss
        for number, start in enumerate(range(0, len(split), EVALUATION_BATCH)):
            which = slice(start, start + EVALUATION_BATCH)
            images = split.take(which).to(self.model.device, self.model.dtype)
            labels = split.labels[which].to(self.model.device)
            target = one_hot(labels, self.classes, self.model.dtype)
            target = target.view(-1, *self.model.network.output.shape)
            if eps:
                images = fgsm(predict, measured, images, target, eps, low, high)
            if self.plan.evaluation == "feedforward":
                prediction = predict(images)
            else:
                assert self._settled is not None
                # A state of its own per batch: what is evaluated must not depend on training.
                settling = self._settled(number)
                settling.start(images, record=False)
                while not settling.done:
                    settling.advance(1)
                    yield start, correct, loss
                prediction = settling.finish().prediction
            correct += metrics.accuracy(prediction, labels) * len(labels)
            loss += float(measured.value(prediction, target).sum())
            yield start + len(labels), correct, loss

    def robustness(self, eps: float) -> dict[str, Any]:
        """Of the present weights: spectral norms, the Lipschitz bound that they give, and accuracy
        and loss on the test images after an attack of ``eps``."""
        norms = spectral_norms(self.model)
        accuracy, loss = self.evaluate(self.test, eps)
        return {
            "attack_eps": eps,
            "attack_accuracy": accuracy,
            "attack_loss": loss,
            "lipschitz_bound": lipschitz_bound(self.model.network, norms),
            "spectral_norms": norms,
        }

    # ---- state as data -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, parameters included."""
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
            self._load(state)

    def _load(self, state: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        except (RuntimeError, ValueError, KeyError) as error:
            raise StateError(f"the saved training is of another model: {error}") from None
        within = self.optimizer if self.simulation.learn_every else None
        self.simulation.load_state_dict(state["simulation"], optimizer=within)
        self.batches.load_state_dict(state["batches"])
        self.step, self._epoch_loss = state["step"], state["epoch_loss"]
        self.totals = {key: state["totals"][key] for key in _zero_totals()}
        self._labels, self._best = state["labels"], state["best"]
        self._ending = state["ending"]


def _zero_totals() -> dict[str, float]:
    return {**dict.fromkeys(asdict(Counts()), 0), "ticks": 0, "time": 0.0}
