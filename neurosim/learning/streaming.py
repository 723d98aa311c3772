"""Training on a stream: the network never stops, and every sample is a test, then learned."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil, inf
from statistics import fmean
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.base import stream as generator
from neurosim.data import Drift, Sample, Source, Split, Target, drifting
from neurosim.families import BelowOne, Count, Described, Positive, Whole, check
from neurosim.learning.evaluation import split_for
from neurosim.learning.events import FOREVER, EpochEvent, StepEvent, TrainingEvent
from neurosim.learning.plan import TrainingPlan
from neurosim.learning.trainer import Trainer
from neurosim.maths import LearningRate, OptimizerChoice
from neurosim.measures import Prequential, metrics
from neurosim.simulation import Episodes, Simulation, Stream
from neurosim.tensors import complete, restore

OLD = 10  # drifts whose tasks are tested again


@dataclass(frozen=True)
class StreamPlan(Described):
    """Says what a network is shown without end, and how that is evaluated."""

    source: Annotated[Source, Field(description="what is shown, and for how long")] = Source.of(
        "samples"
    )
    streams: Annotated[
        Count, Field(description="independent streams that the same weights see, B")
    ] = 1
    target: Annotated[Target, Field(description="when labels come, and how long they stay")] = (
        Target()
    )
    drift: Annotated[tuple[Drift, ...], Field(description="what changes, and when")] = ()
    horizon: Annotated[
        Positive | Literal["forever"] | None,
        Field(description="simulated time; forever: until Ctrl-C; default: once through the data"),
    ] = None
    window: Annotated[
        Count, Field(description="samples of each stream from one record to the next")
    ] = 100
    fading: Annotated[
        BelowOne, Field(description="of the faded accuracy: the weight that a sample keeps")
    ] = 0.99
    leak: Annotated[
        bool, Field(description="compare with a twin that has no target, which costs as much again")
    ] = False
    foretell: Annotated[
        Whole,
        Field(description="of series: so many values of the test are foretold by its own answers"),
    ] = 0
    episodes: Annotated[
        bool,
        Field(description="a baseline: each sample takes an inference, and what comes is missed"),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episodes and self.leak:
            raise ConfigurationError("episodes leave no leak to measure: leave it out", "leak")

    def check(self, simulation: Simulation, rate: LearningRate) -> None:
        """Raises ConfigurationError for a simulation that cannot do it, or a learning rate that
        needs an end which there is not."""
        if self.horizon == "forever" and rate.kind == "torch":
            # It is replayed from the start, to the last step before a training begins.
            said = "a scheduler of torch needs a stream that ends: say a horizon"
            raise ConfigurationError(said, "learning_rate")
        if not (simulation.learns_within or self.episodes):
            raise ConfigurationError(
                "a stream has no inferences after which weights could learn: say after how many "
                "ticks they do, as every: 16 of the plasticity",
                "learn_every",
            )
        self.stream(simulation, None, None)

    def stream(self, simulation: Simulation, source: Any, optimizer: Any, **options: Any) -> Stream:
        """Returns the stream of a source, see `Stream`, or the `Episodes`."""
        made = Episodes if self.episodes else Stream
        options = {"target": self.target, **options}
        return made(simulation, source, optimizer, hold=self.source.hold, **options)


class StreamTrainer(Trainer):
    """Trains on one stream without end, see `Stream`: a step is a sample of every stream, and an
    epoch a window of them.

    The loss and accuracy of a step are of the prediction that was read before the label could act,
    the test is made with a frozen copy: the weights as they are, one pass or settled as
    ``plan.evaluation`` says. Raises ConfigurationError for options that a stream has not.
    """

    # Loss and accuracy of this hold, once it has been read.
    _found: tuple[float, float] | None = None

    def __init__(
        self,
        streaming: StreamPlan,
        simulation: Simulation,
        optimizer: torch.optim.Optimizer | OptimizerChoice | str,
        train: Split,
        test: Split,
        plan: TrainingPlan | None = None,
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        check(StreamPlan, streaming=streaming)
        check(Simulation, simulation=simulation)
        self.streaming, self._classes = streaming, None
        train, test = (split_for(split, simulation) for split in (train, test))
        plan = check(TrainingPlan | None, plan=plan) or TrainingPlan()
        if plan.augment is not None or plan.label_smoothing:
            said = "a stream shows samples as they are: leave augment and label_smoothing out"
            raise ConfigurationError(said, "augment")
        streaming.check(simulation, plan.learning_rate)
        streams, source = streaming.streams, streaming.source
        if not train.labels.is_floating_point():
            self._classes = simulation.model.network.output.size
        shown = drifting(
            source.samples(train, streams, seed), streaming.drift, source.hold, seed, self._classes
        )
        self._shown, self._seed, self._hold = shown, seed, source.hold
        self._length = self._ends(source.length(train, streams), simulation.schedule.tick)
        super().__init__(
            simulation,
            optimizer,
            train,
            test,
            replace(plan, batch_size=streams, epochs=ceil(self._length / streaming.window)),
            seed=seed,
            **options,
        )
        self.stream, self._twin = self._stream(simulation, self.optimizer), self._made_twin()
        self.prequential = Prequential(streaming.fading, source.hold, streams)
        network, tick = simulation.model.network, simulation.schedule.tick
        self._check_foretelling()
        self._trip = simulation.channels.round_trip(network, tick)

    def _check_foretelling(self) -> None:
        test, count, said = self.test, self.streaming.foretell, ""
        if not count:
            return
        if not test.labels.is_floating_point():
            said = "foretell is of values, and the targets are classes"
        elif len(test) < max(count, 2):
            said = f"foretell is {count}, and the test has {len(test)} samples"
        else:
            x, y = test.images[:2].flatten(1), test.labels[:1].flatten()
            if not torch.equal(x[1], torch.cat([x[0], y])[-x.shape[1] :]):
                said = "foretell needs samples that go on with their targets, as those of a series "
                said += "with ahead: 1"
        if said:
            raise ConfigurationError(said, ("stream", "foretell"))

    @torch.no_grad()
    def _foretold(self) -> float:
        """Returns the sMAPE of the first values of the test: the first sample is seen, and from
        there on the network, of frozen weights, sees what it has answered itself."""
        model, values = self.simulation.model, list[Tensor]()
        x = self.test.images[:1].to(model.device, model.dtype)
        for _ in range(self.streaming.foretell):
            seen = self.test.finish(x)
            values.append(self.simulation.predict(seen).flatten(1).to(x.device))
            x = torch.cat([x.flatten(1), values[-1]], 1)[:, -x.numel() :].view_as(x)
        known = self.test.labels[: len(values)].flatten(1)
        return float(metrics.smape(torch.cat(values).cpu(), known).mean())

    def _ends(self, length: float, tick: float) -> int:
        """Returns the samples of the whole stream."""
        horizon = self.streaming.horizon
        if horizon == "forever":
            return FOREVER
        if horizon is None and length == inf:
            said = "the source has no end: say the horizon, or forever"
            raise ConfigurationError(said, ("stream", "horizon"))
        hold = self.streaming.source.hold
        return int(length) if horizon is None else max(1, int(float(horizon) / hold + 1e-9))

    def _stream(self, simulation: Simulation, optimizer: torch.optim.Optimizer | None) -> Stream:
        plan = self.streaming
        target = plan.target if optimizer is not None else replace(plan.target, present=0.0)
        return plan.stream(simulation, self._shown, optimizer, target=target)

    def _made_twin(self) -> Stream | None:
        """The same stream without a target, of the same weights, wakes and noise."""
        if not self.streaming.leak:
            return None
        twin = self.simulation.twin()
        twin.random, twin.inferences = generator(self.simulation.seed, "schedule"), 0
        return self._stream(twin, None)

    @property
    def per_epoch(self) -> int:
        return self.streaming.window

    @property
    def steps(self) -> int:
        limit = self.plan.max_steps
        return self._length if limit is None else min(self._length, limit)

    def _shown_in(self, steps: int) -> int:
        return steps * self.plan.batch_size

    # ---- a step ----------------------------------------------------------------------------------

    def _one_step(self, interrupted: Callable[[], bool]) -> Iterator[TrainingEvent]:
        stream, number = self.stream, self.step
        begin = number * stream.timing.hold
        read, end = begin + stream.timing.read, begin + stream.timing.hold
        if self._labels is None:
            self.rates.begin(number)
            self._labels = self._shown(number).y
            if self._labels is None:
                raise ConfigurationError("the source gives no labels to learn", "source")
            if self._drifts(number):
                self.prequential.drifts()
        labels = self._labels
        while stream.tick < end:
            looks = self._twin is not None or (self._classes is not None and stream.tick < read)
            until = stream.tick + 1 if looks else read if stream.tick < read else end
            for _ in stream.follow(until, interrupted):
                pass  # it is read below, with the answers before it
            if stream.tick < until:
                return
            for _ in () if self._twin is None else self._twin.follow(until):
                pass
            if until <= read and self._classes is not None:
                passed = (until - begin) * self.simulation.schedule.tick
                self.prequential.look(stream.read().cpu(), labels, passed)
            if until == read:
                self._score(stream.read(), labels)
        yield self._after_hold()

    def _score(self, prediction: Tensor, labels: Tensor) -> None:
        leak = 0.0
        if self._twin is not None:
            without = self._twin.read()
            leak = float((prediction - without).norm() / without.norm().clamp(min=1e-12))
        prediction = prediction.cpu()
        loss = float(self.simulation.loss.mean(prediction, self._target(labels)))
        self._found = loss, metrics.accuracy(prediction, labels)
        self.prequential.add(prediction, labels, leak)

    def _after_hold(self) -> StepEvent:
        assert self._found is not None
        (loss, accuracy), epoch, timing = self._found, self.epoch, self.stream.timing
        for key, found in zip(self._sums, self._found, strict=True):
            self._sums[key] += found
        self.totals |= asdict(self.stream.counts) | {"updates": self.stream.updates}
        self.totals["ticks"] = self.stream.tick
        self.totals["time"] = self.stream.tick * self.simulation.schedule.tick
        self._labels = self._found = None
        self.step += 1
        last = self.step % self.per_epoch == 0 or self.step == self.steps
        rate, self._ending = self.rates.end_step(), epoch if last else None
        logged = self.step % self.plan.loss_every == 0 or last
        return StepEvent(epoch + 1, self.step, loss, accuracy, rate, timing.hold, logged)

    def _end_of_epoch(self, epoch: int, interrupted: Callable[[], bool]) -> Iterator[TrainingEvent]:
        for event in super()._end_of_epoch(epoch, interrupted):
            if isinstance(event, EpochEvent):
                self.stream.warn_of_silence()
                counts, updates, leaks = (
                    self.stream.counts,
                    self.stream.updates,
                    self.streaming.leak,
                )
                ends = self.step % self.per_epoch == 0  # or it goes on when it is prolonged
                found = self.prequential.scores(counts, updates, leaks=leaks, ends=ends)
                if self.streaming.foretell and event.test_loss is not None:
                    with self._averaged():
                        found["foretold_smape"] = self._foretold()
                if self._trip is not None:
                    found["trips_per_hold"] = self.stream.timing.hold / self._trip
                if (first := self._first_drift()) is not None:
                    found["drifted_at"] = first * self._hold
                if event.test_accuracy is not None and self.streaming.drift:
                    changed, same = self._changed_test(), event.test_accuracy
                    now = same if changed is None else self.evaluate(changed)[0]
                    found["drifted_test_accuracy"] = now
                if event.test_accuracy is not None and (old := self._old_tests()):
                    found["old_tasks_accuracy"] = fmean(self.evaluate(test)[0] for test in old)
                event = replace(event, metrics={**event.metrics, **found})
            yield event

    def _drifts(self, number: int) -> bool:
        """Says if something drifts as the sample of that number comes."""
        drift = self.streaming.drift
        return number > 0 and any(change.happens(number, self._hold) for change in drift)

    def _first_drift(self) -> int | None:
        """Returns the first sample of the present window at which something drifts."""
        begin = (self.step - 1) // self.per_epoch * self.per_epoch
        return next(filter(self._drifts, range(begin, self.step)), None)

    def _changed_test(self) -> Split | None:
        """Returns the test samples as they are now, where anything has drifted."""
        now = max(0, self.step - 1)
        drifts = any(change.times(now * self._hold) for change in self.streaming.drift)
        return self._test_at(now) if drifts else None

    def _test_at(self, number: int) -> Split:
        """Returns the test samples as they are when a sample of that number is shown."""
        every = Sample(self.test.take(slice(None)), self.test.labels)
        drift, seed = self.streaming.drift, self._seed
        x, y = drifting(lambda _: every, drift, self._hold, seed, self._classes)(number)
        assert y is not None
        return Split(x, y)

    def _old_tests(self) -> list[Split]:
        """Returns what tests the tasks before the present one: of tasks of classes the samples of
        each, of a drift all samples as they then were, at most `OLD` times."""
        now, source, plan = max(0, self.step - 1), self.streaming.source, self.streaming
        tasks = source.tasks_of(self.test.labels, self.train)
        if tasks is None:
            end = now * self._hold
            starts = {t for change in plan.drift for t in change.some_starts(end, OLD)}
            begun = sorted({0, *(ceil(t / self._hold - 1e-9) for t in starts)})
            return [self._test_at(number) for number in begun[:-1][-OLD:]]
        shown = source.samples(self.train, plan.streams, self._seed)(now).y
        present = None if shown is None else source.tasks_of(shown, self.train)
        assert present is not None
        again, first = now >= source.length(self.train, plan.streams), int(present.min())
        known = sorted({*tasks.tolist()} - {*present.tolist()})
        old = [task for task in known if again or task < first]
        test = self._changed_test() or self.test
        return [test.part((tasks == task).nonzero().flatten()) for task in old]

    # ---- as data ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        found = None if self._found is None else list(self._found)
        return super().state_dict() | {"scores": self.prequential.state_dict(), "found": found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        with complete("training"):
            self.prequential.load_state_dict(state["scores"])
            found = state["found"]
            restore(self, "_found", tuple(found) if isinstance(found, list) else found)

    def _simulated(self) -> dict[str, Any]:
        twin = None if self._twin is None else self._twin.state()
        return {"stream": self.stream.state(), "twin": twin}

    def _simulate(self, state: dict[str, Any]) -> None:
        self.stream.load(state["stream"])
        if self._twin is not None:
            self._twin.load(state["twin"])
