"""Training: epochs of inferences, each followed by a local weight update and told to listeners."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields
from math import isnan
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from neurosim.base import ConfigurationError, StateError, stream
from neurosim.data import Batches, Split, batch_of, targets
from neurosim.dynamics import Counts
from neurosim.families import Seed, check
from neurosim.learning.average import Average
from neurosim.learning.checkpoint import check_best, digest_of_weights, load_optimizer
from neurosim.learning.display import Progress, TrainingDisplay, console_of
from neurosim.learning.distributed import Ranks
from neurosim.learning.evaluation import Evaluator, SoFar, split_for
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
from neurosim.learning.plan import TrainingPlan, chosen_plan
from neurosim.learning.rates import Every, Rates
from neurosim.learning.shards import Shards, Taken, check_shards
from neurosim.maths import OptimizerChoice, finite_norm
from neurosim.measures import metrics
from neurosim.simulation import Outcome, Simulation, check_optimizer
from neurosim.tensors import complete, restore

Data = Any  # samples and labels: what `split_for` takes


class Trainer:
    """Trains ``simulation.model`` on ``train`` and tells `Listener` objects what happens.

    Images and labels are a `Split`, a pair of arrays (N, *input) and (N,), or a Dataset or
    DataLoader of torch, whose batch size counts where no other is given. ``validation`` chooses the
    best epoch if given. ``optimizer`` is one of torch, or an `OptimizerChoice` or its name. Its
    rate follows the plan, or a ``scheduler`` of torch, which takes its step after each epoch, or
    after each step with ``scheduler_every``. Other options are those of the plan (``epochs=3``). It
    can be interrupted within an inference of a second or more, saved, and continued bit for bit.

    Raises ConfigurationError for options that do not go together.
    """

    step = 0
    _labels: Tensor | None = None  # of the inference under way
    _ending: int | None = None  # the epoch that is over but for its evaluation
    _best: dict[str, Any] | None = None

    def __init__(
        self,
        simulation: Simulation,
        optimizer: torch.optim.Optimizer | OptimizerChoice | str,
        train: Data,
        test: Data,
        plan: TrainingPlan | None = None,
        *,
        validation: Data | None = None,
        scheduler: LRScheduler | None = None,
        scheduler_every: Every = "epoch",
        seed: int = 0,
        **options: Any,
    ) -> None:
        check(Simulation, simulation=simulation)
        seed = check(Seed, seed=seed)
        self.simulation, self.model = simulation, simulation.model
        self.plan = chosen_plan(plan, options, batch_of(train))
        if not isinstance(optimizer, torch.optim.Optimizer):
            optimizer = OptimizerChoice.of(optimizer).make_for(self.model.named_parameters())
        check_optimizer(optimizer, self.model)
        self.optimizer = optimizer
        train, test = (split_for(data, simulation) for data in (train, test))
        validation = None if validation is None else split_for(validation, simulation)
        self.plan.check(validation, train.labels)
        self._average: Average | None = None
        if self.plan.ema is not None:
            self._average = average = Average(self.model, self.plan.ema)
            optimizer.register_step_post_hook(lambda *_: average.update())
        self.train, self.test, self.validation = train, test, validation
        self.evaluator = Evaluator(simulation, self.plan.evaluation, self.plan.metrics)
        how: Any = {"shuffle": self.plan.shuffle, "remainder": self.plan.remainder}
        if (augment := self.plan.augment) is not None:
            how |= {"augmentation": augment, "draws": stream(seed, "augmentation")}
        batch = self.plan.batch_size
        self.batches = Batches(train, batch, stream(seed, "batches"), **how)
        if simulation.init == "carry" and len(train) // batch < len(self.batches):
            said = "init is carry, which needs batches of one size, and the remainder is kept"
            raise ConfigurationError(f"{said}; drop it, or start inferences otherwise", "init")
        self.ranks = Ranks(simulation.device)
        check_shards(simulation, self.plan.shards, self.batches.least)
        self._shards = Shards(simulation, self.plan.shards, self.ranks)
        counts = dict.fromkeys(asdict(Counts()), 0)
        self.totals: dict[str, float] = {**counts, "updates": 0, "ticks": 0, "time": 0.0}
        self._sums = dict.fromkeys(("train_loss", "train_accuracy"), 0.0)  # of this epoch's steps
        self._validated: list[float] = []  # a score of every epoch, for early stopping
        per = self.per_epoch, self.steps
        self.rates = Rates(optimizer, self.plan, scheduler, scheduler_every, *per)
        self.rates.check(train.labels)

    def __repr__(self) -> str:
        return f"Trainer({self.model.network!r}, step {self.step:,} of {self.steps:,})"

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return len(self.batches)

    @property
    def epoch(self) -> int:
        """Epochs begun, from 0."""
        return self.step // self.per_epoch

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        planned = self.plan.epochs * self.per_epoch
        return planned if self.plan.max_steps is None else min(planned, self.plan.max_steps)

    @property
    def shown(self) -> int:
        """Samples that have been shown to learn from, each as often as it was."""
        epochs, steps = divmod(self.step, self.per_epoch)
        return epochs * self._shown_in(self.per_epoch) + self._shown_in(steps)

    @property
    def done(self) -> bool:
        """Says if the training is over, its last evaluation too."""
        return (self.step >= self.steps or self.stopped) and self._ending is None

    @property
    def stopped(self) -> bool:
        """Whether early stopping has ended the training."""
        return (one := self.plan.early_stopping) is not None and one.is_over(self._validated)

    def _now(self) -> tuple[int, int]:
        return -(-self.step // self.per_epoch), self.step

    def fit(
        self,
        listeners: Sequence[object] = (),
        interrupted: Callable[[], bool] = lambda: False,
        *,
        progress: Progress = None,
    ) -> list[dict[str, Any]]:
        """Trains to the end, tells the listeners, and shows ``progress`` as `neurosim.run` does;
        stops once ``interrupted()``, see `events`.

        Returns:
            The record of each epoch that has ended: losses, accuracies, other metrics, counts. If
            the training is not ``done`` another call goes on.

        Raises:
            ConfigurationError: for an object that cannot be a listener.
            DivergenceError: where a state, a gradient, a weight or a prediction is not finite.
        """
        shown = () if progress is False else (TrainingDisplay(console_of(progress)),)
        told = Listeners(listeners, *shown) if self.ranks.leads else Listeners(())
        error: BaseException | None = None
        before, epochs = self.simulation.before_step, []
        try:
            self.ranks.join()
            self.simulation.before_step = self.ranks.led(told.gradients, told.change_gradients)
            told.tell(StartEvent(*self._now(), self.steps, self.simulation))
            for event in self.events(interrupted):
                told.tell(event)
                if isinstance(event, EpochEvent):
                    epochs.append(event.record())
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.simulation.before_step = before
            status: Status = "failed" if error else "finished" if self.done else "interrupted"
            told.tell(EndEvent(*self._now(), status, error))
        return epochs

    def events(self, interrupted: Callable[[], bool] = lambda: False) -> Iterator[TrainingEvent]:
        """Trains to the end and yields what happens, for those who would rather ask than be told.

        It stops at a tick, or between batches of an evaluation, once ``interrupted()``. Whoever
        gets an event may save the state.
        """
        self.ranks.join()
        interrupted = self.ranks.agreed(interrupted)
        self.ranks.share(list(self.model.state_dict().values()))
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
        simulation, shards = self.simulation, self._shards
        last = (self.step + 1) % self.per_epoch == 0 or self.step + 1 == self.steps
        if self._labels is None:
            self.rates.begin(self.step)
            x, labels = self.batches.next()
            traced = last and self.epoch % self.plan.trace_epochs == 0
            target = self._smoothed(self._target(labels))
            if shards.count > 1:  # interrupted between steps only
                taken = shards.take(self.optimizer, (x, target, labels), self._scores, traced)
                yield from self._after_step(taken, len(labels), last)
                return
            self._labels, within = labels, self.optimizer if simulation.learns_within else None
            simulation.start(x, target, optimizer=within, record=traced, ahead=True)
        if not simulation.done:
            simulation.advance(interrupted=interrupted)
        if not simulation.done:
            return
        outcome = simulation.finish()
        if not simulation.learns_within:
            simulation.learn(self.optimizer)
        # The step is over before its events go out: whoever gets one may save the state.
        labels, self._labels = self._labels, None
        counts = asdict(simulation.counts) | {"updates": simulation.inference.synapses.updates}
        began, ticks = simulation.tick - outcome.ticks, outcome.ticks
        taken = Taken(*self._scores(outcome, labels), counts, ticks, outcome.trace, began)
        yield from self._after_step(taken, len(labels), last)

    def _target(self, labels: Tensor) -> Tensor:
        return targets(labels, self.model.network.output.shape, self.model.dtype)

    def _smoothed(self, target: Tensor) -> Tensor:
        smoothing, ones = self.plan.label_smoothing, [1] * (target.dim() - 1)
        mean = target.flatten(1).mean(1).view(-1, *ones)
        return target.lerp(mean, smoothing) if smoothing else target

    def _scores(self, outcome: Outcome, labels: Tensor) -> tuple[float, float]:
        """Returns loss and accuracy of a prediction of before the step, without the target."""
        prediction = outcome.prediction
        target = self._smoothed(self._target(labels)).to(prediction.device)
        loss = float(self.simulation.loss.mean(prediction, target))
        return loss, metrics.accuracy(prediction, labels.to(prediction.device))

    def _after_step(self, taken: Taken, samples: int, last: bool) -> Iterator[TrainingEvent]:
        plan, epoch, unit = self.plan, self.epoch, self.simulation.schedule.tick
        share = samples / plan.batch_size  # 1, but of a remainder that is kept
        scores = taken.loss, taken.accuracy
        for key, found in zip(self._sums, scores, strict=True):
            self._sums[key] += found * share
        spent = {**taken.counts, "ticks": taken.ticks, "time": taken.ticks * unit}
        self.totals = {key: total + spent[key] for key, total in self.totals.items()}
        self.step += 1
        rate = self.rates.end_step()
        self._ending = epoch if last else None
        for kind in taken.trace.kinds():
            for record in taken.trace[kind]:
                # From the beginning of this inference: a carried one goes on where others ended.
                tick = record["tick"] - taken.began
                values = record | {"tick": tick, "time": tick * unit}
                yield TraceEvent(epoch + 1, self.step, kind, values)
        logged = self.step % plan.loss_every == 0 or last
        yield StepEvent(epoch + 1, self.step, *scores, rate, taken.ticks, logged)

    def _end_of_epoch(self, epoch: int, interrupted: Callable[[], bool]) -> Iterator[TrainingEvent]:
        steps = self._shown_in((self.step - 1) % self.per_epoch + 1) / self.plan.batch_size
        where, weights = f"after step {self.step} the weight", dict(self.model.named_parameters())
        finite_norm(weights, where, self.simulation.rule.remedy)
        scores = {key: found / steps for key, found in self._sums.items()}
        validated, stopping = self._validated, self.plan.early_stopping
        due = (epoch + 1) % self.plan.accuracy_every == 0 or self.step >= self.steps
        # Of validation every epoch may be the best, or the last.
        for name, split in (("validation", self.validation), ("test", self.test)):
            if split is None or (name == "test" and not due):
                continue
            for so_far in self._batches(split):
                yield EvaluationEvent(epoch + 1, self.step, name, so_far.samples, len(split))
                if interrupted():
                    return
            scores |= {f"{name}_{key}": value for key, value in self.evaluator.of(so_far).items()}
            if stopping is not None and name == "validation":
                score = scores[f"validation_{stopping.monitor}"]
                validated = [*validated, -score if stopping.monitor == "loss" else score]
                due |= stopping.is_over(validated)
        if self.ranks.size > 1:  # machines of different kinds may round differently
            self.ranks.check_same({"weights": digest_of_weights(self.model)})
        accuracy = scores.get("validation_accuracy")
        if accuracy is not None:
            score = -scores["validation_loss"] if isnan(accuracy) else accuracy
            if self._best is None or score > self._best["accuracy"]:
                self._best = {"accuracy": score, "epoch": epoch + 1, "weights": self._weights()}
        self._ending = None
        if self.step % self.per_epoch == 0:  # one that is cut short goes on when it is prolonged
            self._sums, self._validated = dict.fromkeys(self._sums, 0.0), validated
            self.rates.end_epoch(scores)
        known = [one.name for one in fields(EpochEvent)]
        metrics = {key: scores.pop(key) for key in list(scores) if key not in known}
        yield EpochEvent(epoch + 1, self.step, totals={**self.totals}, metrics=metrics, **scores)

    def _shown_in(self, steps: int) -> int:
        """Returns how many samples so many steps of an epoch show."""
        return min(steps * self.plan.batch_size, len(self.batches.split))

    def evaluate(self, split: Data, eps: float = 0.0) -> tuple[float, float]:
        """Measures accuracy and mean loss on a split or a pair of arrays, see `Evaluator.evaluate`,
        of the averaged weights where there are any."""
        with self._averaged():
            return self.evaluator.evaluate(split_for(split, self.simulation), eps)

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._average is None else self._average.in_force()

    def _batches(self, split: Split) -> Iterator[SoFar]:
        """Evaluates as `evaluate` does. In between, the model has its own weights again."""
        batches = self.evaluator.batches(split, ranks=self.ranks)
        while True:
            with self._averaged():
                so_far = next(batches, None)
            if so_far is None:
                return
            yield so_far

    def _weights(self) -> dict[str, Tensor]:
        """Returns copies of the weights that are evaluated."""
        with self._averaged():
            return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def best(self) -> int | None:
        """Makes the weights that count the model's: those of the best validation accuracy, or
        without validation the last ones, averaged where there is an average.

        Returns:
            The best epoch, or None without validation.
        """
        self.model.load_state_dict(self._weights() if self._best is None else self._best["weights"])
        if self._average is not None:
            self._average.weights.clear()
        return None if self._best is None else int(self._best["epoch"])

    @property
    def best_accuracy(self) -> float | None:
        """The best validation accuracy so far, or None without validation or classes."""
        known = self._best is not None and not self.test.labels.is_floating_point()
        return float(self._best["accuracy"]) if self._best is not None and known else None

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the rest of the training depends on, parameters included."""
        return {
            "step": self.step,
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "simulation": self._simulated(),
            "batches": self.batches.state_dict(),
            "totals": dict(self.totals),
            "sums": dict(self._sums),
            "labels": self._labels,
            "ending": self._ending,
            "best": self._best,
            "average": None if self._average is None else dict(self._average.weights),
            "validated": list(self._validated),
            "scheduler": self.rates.state_dict(),
        }

    def _simulated(self) -> dict[str, Any]:
        return self.simulation.state_dict()

    def _simulate(self, state: dict[str, Any]) -> None:
        within = self.optimizer if self.simulation.learns_within else None
        self.simulation.load_state_dict(state, optimizer=within)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken. Raises StateError where it does not fit."""
        with complete("training"):
            if (done := state["step"]) > self.steps:
                raise StateError(f"of {self.steps:,} steps {done:,} are done already; train longer")
            try:
                check_best(self.model, state["best"])
                self.model.load_state_dict(state["model"])
                load_optimizer(self.optimizer, state["optimizer"])
                average = state["average"]
                if self._average is not None:
                    self._average.load(average)
            except (RuntimeError, ValueError, KeyError) as error:
                raise StateError(f"the saved training is of another model: {error}") from None
            self._simulate(state["simulation"])
            self.batches.load_state_dict(state["batches"])
            self.totals = {key: state["totals"][key] for key in self.totals}
            self._sums = {key: state["sums"][key] for key in self._sums}
            for name in ("step", "_labels", "_ending", "_best"):
                restore(self, name, state[name.strip("_")])
            self._validated = list(state["validated"])
            self.rates.load_state_dict(state["scheduler"])
