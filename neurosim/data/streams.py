"""Sources of streams: which sample each of some streams shows when, a family that is open from
outside, when its label is known, and what drifts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf, isqrt
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from neurosim.base import ConfigurationError, DataError, ticks_of
from neurosim.base import stream as generator
from neurosim.data.dataset import Split
from neurosim.families import (
    Count,
    Described,
    Fraction,
    Kind,
    NotNegative,
    Positive,
    Whole,
    register,
)


class Sample(NamedTuple):
    """What B streams show at the same time: x (B, *input), and its labels, classes (B,) or values
    (B, *output); None where nobody knows them."""

    x: Tensor
    y: Tensor | None


Samples = Callable[[int], Sample]  # by number, from 0: always the same


@dataclass(frozen=True)
class Target(Described):
    """Says when the label of a sample acts on the output.

    Times within a hold are parts of it. The prediction for a sample is read where ``window`` begins
    in its own hold, and the label acts within the window ``delay`` later: on whatever is shown
    then, or, with ``replay``, on its own input, which is shown once more instead.
    """

    delay: Annotated[NotNegative, Field(description="simulated time by which labels are late")] = (
        0.0
    )
    present: Annotated[Fraction, Field(description="the part of the samples that are labelled")] = (
        1.0
    )
    window: Annotated[
        tuple[Fraction, Fraction], Field(description="from when to when in a hold it acts, of 1")
    ] = (0.5, 1.0)
    replay: Annotated[
        Whole, Field(description="inputs that are kept, to be shown again with a late label")
    ] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.window[0] < self.window[1]:
            said = "window begins where it ends, or later: the target would never act"
            raise ConfigurationError(said, "window")


class Timing:
    """Says by the tick what is shown, and which label acts: ``hold`` and ``tick`` are simulated
    time. Raises ConfigurationError for a hold too short for its target."""

    def __init__(self, hold: float, target: Target, tick: float, seed: int) -> None:
        self._target, self._seed = target, seed
        self.hold = max(1, ticks_of(hold, tick))
        first, last = (round(part * self.hold) for part in target.window)
        self.read, self._length = first, last - first
        self._delay = ticks_of(target.delay, tick)
        if first < 1 or last <= first:
            raise ConfigurationError(
                f"a hold of {self.hold} ticks has the window {first} … {last}: the prediction is "
                "read before the label can act, so it has to begin a tick after the input or "
                "later, and last for one; hold longer, or move the window",
                ("target", "window"),
            )
        if target.replay and self._delay % self.hold:
            raise ConfigurationError(
                f"delay is {self._delay} ticks and hold {self.hold}: with replay labels are late "
                "by whole holds",
                ("target", "delay"),
            )

    def label(self, tick: int) -> int | None:
        """Returns the number of the sample whose label acts from ``tick`` on, if any does."""
        number, passed = divmod(tick - self.read - self._delay, self.hold)
        acts = number >= 0 and passed < self._length
        return number if acts and self.labelled(number) else None

    @property
    def delayed(self) -> bool:
        """Whether labels are late."""
        return self._delay > 0

    def labelled(self, number: int) -> bool:
        """Says if a sample has a label."""
        share = self._target.present
        return share == 1.0 or generator(self._seed, "present", str(number)).random() < share

    def input(self, tick: int) -> int:
        """Returns the number of the sample that is shown from ``tick`` on."""
        number, label = tick // self.hold, self.label(tick)
        again = label is not None and 0 < number - label <= self._target.replay
        return label if again and label is not None else number

    def following(self, tick: int) -> int:
        """Returns the first tick after ``tick`` in which any of this may change, or is read."""
        marks = (0, self.read, self.read + self._delay, self.read + self._delay + self._length)
        return min(tick + self.hold - (tick - mark) % self.hold for mark in marks)

    def reads(self, tick: int) -> int | None:
        """Returns the number of the sample whose prediction is read at ``tick``, if any is."""
        number, passed = divmod(tick, self.hold)
        return number if passed == self.read else None


# ---- drift ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drift(Kind, ABC, family="drift"):
    """Changes what a stream shows from a time on. Base class of the family."""

    at: Annotated[NotNegative, Field(description="the simulated time from which on it holds")] = 0.0
    every: Annotated[
        Positive | None,
        Field(description="simulated time after which it happens once more, and again"),
    ] = None

    def some_starts(self, end: float, most: int) -> list[float]:
        """Returns when it happens up to a simulated time, of ``most`` times or fewer, 2 at least;
        where it is more often, some of them, the first and the last."""
        last = self.times(end) - 1
        chosen = {place * last // (most - 1) for place in range(most)} if last >= 0 else ()
        return [self.at + number * (self.every or 0.0) for number in sorted(chosen)]

    def times(self, time: float) -> int:
        """Returns how often it has happened at a simulated time."""
        if time < self.at:
            return 0
        return 1 if self.every is None else 1 + int((time - self.at) / self.every + 1e-9)

    def happens(self, number: int, hold: float) -> bool:
        """Says if it happens as that sample comes, each of which is shown for ``hold``."""
        return self.times(number * hold) != self.times((number - 1) * hold)

    @abstractmethod
    def apply(self, sample: Sample, times: int, seed: int, classes: int | None) -> Sample:
        """Returns the sample as it is after so many ``times``, 1 at least."""


@register("permute")
@dataclass(frozen=True)
class Permute(Drift):
    """Gives the input values other places, the same in all samples; each time others."""

    def apply(self, sample: Sample, times: int, seed: int, classes: int | None) -> Sample:
        del classes
        x = sample.x.flatten(1)
        order = torch.from_numpy(generator(seed, "permute", str(times)).permutation(x.shape[1]))
        return Sample(x[:, order].view_as(sample.x), sample.y)


@register("rotate")
@dataclass(frozen=True)
class Rotate(Drift):
    """Turns images (C, H, W), or flat ones that are square, about their centre (bilinear)."""

    degrees: Annotated[float, Field(description="angle in degrees, each time")] = 90.0

    def apply(self, sample: Sample, times: int, seed: int, classes: int | None) -> Sample:
        del seed, classes
        x, shape = sample.x, sample.x.shape
        side = isqrt(shape[1:].numel())
        if len(shape) != 4 and side * side != shape[1:].numel():
            raise DataError(f"samples of shape {list(shape[1:])} are no images that can be turned")
        images = x if len(shape) == 4 else x.view(-1, 1, side, side)
        angle = torch.tensor(self.degrees * times, dtype=torch.float64).deg2rad()
        cos, sin, none = float(angle.cos()), float(angle.sin()), 0.0
        ratio = images.shape[2] / images.shape[3]
        turn = images.new_tensor([[cos, -sin * ratio, none], [sin / ratio, cos, none]])
        grid = affine_grid(turn.expand(len(x), 2, 3), list(images.shape), align_corners=False)
        return Sample(grid_sample(images, grid, align_corners=False).view(shape), sample.y)


@register("relabel")
@dataclass(frozen=True)
class Relabel(Drift):
    """Gives every class the label of the next one."""

    def apply(self, sample: Sample, times: int, seed: int, classes: int | None) -> Sample:
        del seed
        if classes is None:
            raise DataError("only classes can be relabelled, and the targets are values")
        return Sample(sample.x, None if sample.y is None else (sample.y + times) % classes)


def drifting(
    samples: Samples, drift: Sequence[Drift], hold: float, seed: int, classes: int | None
) -> Samples:
    """Returns the samples as they are when they are shown, ``hold`` after one another."""

    def drifted(number: int) -> Sample:
        sample = samples(number)
        for place, change in enumerate(drift):
            if times := change.times(number * hold):
                sample = change.apply(sample, times, seed + place, classes)
        return sample

    return drifted if drift else samples


# ---- sources -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source(Kind, ABC, family="source", bare=True, default="samples"):
    """Says what streams show, one sample after the other. Base class of the family."""

    hold: Annotated[Positive, Field(description="simulated time for which a sample is shown")] = (
        16.0
    )

    @abstractmethod
    def samples(self, split: Split, batch: int, seed: int) -> Samples:
        """Returns what gives the samples of ``batch`` streams by their number: always the same for
        a number, so that a stream can go on anywhere. ``split`` are the data of the scenario."""

    def length(self, split: Split, batch: int) -> float:
        """Returns after how many samples there are no more; ∞ by default."""
        del split, batch
        return inf

    def tasks_of(self, labels: Tensor, split: Split) -> Tensor | None:
        """Returns of which task each of the labels is, where it shows one task after the other."""
        del labels, split
        return None


@register("samples")
@dataclass(frozen=True)
class DataSamples(Source):
    """Shows the samples of the data, pass after pass.

    ``order``: a new random one in each pass; ``given``, of which each stream shows a part of its
    own (as a time series needs); ``sorted`` by class; or ``split``: the classes in so many
    ``tasks``, one after the other, at random within each.
    """

    order: Annotated[
        Literal["random", "given", "sorted", "split"] | None,
        Field(description="what comes next; default: given of data in time, random of others"),
    ] = None
    tasks: Annotated[Count, Field(description="of the order split: parts of the classes")] = 5

    def samples(self, split: Split, batch: int, seed: int) -> Samples:
        length, order = self._pass(split, batch), self._order_of(split)
        known: dict[int, Tensor] = {}

        def sample(number: int) -> Sample:
            epoch, place = divmod(number, length)
            if epoch not in known:
                known.clear()
                known[epoch] = self._drawn(split, seed, epoch)
            if order == "given":
                index = torch.arange(batch) * length + place
            else:
                index = known[epoch][place * batch : (place + 1) * batch]
            return Sample(split.take(index), split.labels[index])

        return sample

    def _pass(self, split: Split, batch: int) -> int:
        if batch > len(split):
            raise DataError(f"{batch} streams of {len(split)} samples; take fewer streams")
        return len(split) // batch

    def length(self, split: Split, batch: int) -> float:
        return self._pass(split, batch)

    def _order_of(self, split: Split) -> str:
        return self.order or ("given" if split.in_time else "random")

    def _drawn(self, split: Split, seed: int, epoch: int) -> Tensor:
        drawn = torch.from_numpy(generator(seed, "stream", str(epoch)).permutation(len(split)))
        if self._order_of(split) in ("random", "given"):
            return drawn
        labels = split.labels[drawn]
        if labels.is_floating_point():
            said = f"the order {self.order} is by classes, and the targets are values"
            raise ConfigurationError(said, ("source", "order"))
        tasks = self.tasks_of(labels, split)
        return drawn[(labels if tasks is None else tasks).argsort(stable=True)]

    def tasks_of(self, labels: Tensor, split: Split) -> Tensor | None:
        if self.order != "split":
            return None
        classes = int(split.labels.max()) + 1
        return labels * min(self.tasks, classes) // classes


KEPT = 1000  # samples of an iterable that are kept for late labels


def samples_of(pairs: Iterable[Any]) -> Samples:
    """Returns the pairs (x, y) of an iterable, or inputs alone, as samples by number.

    The last `KEPT` are kept; a stream that goes on takes them from the beginning. What it returns
    raises DataError past the end, and for what is no longer kept.
    """
    kept: dict[int, Sample] = {}
    numbered = enumerate(pairs)

    def sample(number: int) -> Sample:
        if kept and number < min(kept):
            raise DataError(f"sample {number} is no longer kept: labels may be late by {KEPT}")
        while number not in kept:
            count, pair = next(numbered, (0, None))
            if pair is None:  # nothing is left
                raise DataError(f"the source has no sample {number}: it has ended")
            x, y = pair if isinstance(pair, tuple | list) else (pair, None)
            kept[count] = Sample(torch.as_tensor(x), None if y is None else torch.as_tensor(y))
            kept.pop(count - KEPT, None)
        return kept[number]

    return sample
