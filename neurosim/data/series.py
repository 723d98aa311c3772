"""Samples in the order of time: series to foretell, generated or of a file, a concept that drifts,
and events. Their last part is for the test."""

import csv
from abc import abstractmethod
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, DataError, plain, stream
from neurosim.data.arrays import open_npy
from neurosim.data.dataset import Dataset, Split
from neurosim.data.lazy import Lazy, Samples, part
from neurosim.data.source import DataSource
from neurosim.data.standardization import NoStandardization, Standardization, kept_as
from neurosim.families import Count, Fraction, NotNegative, Portion, Positive, Whole, register

Values = npt.NDArray[np.float64]
_Whole = npt.NDArray[np.int64]
_PER, _ROUNDED = 10, 1e-9  # steps of a unit of time in an equation, and what is no part of one
_MOST, _STEPS = 2**24, 5 * 10**6  # numbers that are made at once, and one after the other


@dataclass(frozen=True)
class InTime(DataSource):
    """Samples in the order of time, of which the last part is for the test."""

    paths: ClassVar[tuple[str, ...]] = ()

    test: Annotated[Portion, Field(description="the part of the samples that is for the test")] = (
        field(default=0.2, kw_only=True)
    )

    def read(self, folder: Path) -> Dataset:
        x, y, classes = self._samples(folder)
        kept = len(x) - max(1, round(self.test * len(x)))
        if kept < 1:
            raise DataError(f"{self.kind}: {len(x)} samples, of which the test leaves none")
        images: Samples = x if isinstance(x, Lazy) else torch.from_numpy(x.astype(self._kept))
        labels = torch.from_numpy(y if classes is not None else y.astype(np.float32))
        train, test = (
            Split(part(images, which), labels[which], in_time=True)
            for which in (slice(kept), slice(kept, None))
        )
        return Dataset(self.kind, train, test, classes)

    @property
    def _kept(self) -> type[np.floating[Any]]:
        """What the numbers that are seen are kept as."""
        return np.float32

    @abstractmethod
    def _samples(self, folder: Path) -> tuple[Values | Lazy, Any, int | None]:
        """Returns what is seen (N, inputs) and what is to be learned: values (N, outputs), or
        classes (N,) and how many there are."""


# ---- series --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Series(InTime):
    """A series to foretell. A sample sees its last ``taps`` values, the present one last, and is to
    say what comes ``ahead`` steps later."""

    taps: Annotated[Count, Field(description="how many values are seen, the last the present")] = (
        field(default=1, kw_only=True)
    )
    ahead: Annotated[Count, Field(description="by how many steps to foretell")] = field(
        default=1, kw_only=True
    )
    standardize: Annotated[
        Standardization,
        Field(description="which numbers are seen; what is foretold stays as it is"),
    ] = field(default=NoStandardization(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "standardize", Standardization.of(self.standardize))
        super().__post_init__()

    def read(self, folder: Path) -> Dataset:
        data = super().read(folder)
        if isinstance(self.standardize, NoStandardization):
            return data
        found = self.standardize.fit(self._by_tap(data.train).permute(0, 3, 2, 1), 1)
        mean, std = (_across(numbers, self.taps) for numbers in (found.mean, found.std))
        standard = replace(found, mean=mean, std=std)
        train, test = (
            replace(one, images=self._by_tap(one), standard=standard, view=one.shape)
            for one in (data.train, data.test)
        )
        return replace(data, train=train, test=test)

    def _by_tap(self, split: Split) -> Tensor:
        """Returns samples as (N, 1, taps, columns), of which the columns are what images call
        channels."""
        return split.images[:].view(len(split), 1, self.taps, -1)

    @abstractmethod
    def _values(self, folder: Path) -> Values:
        """Returns the series (N, columns)."""

    def _samples(self, folder: Path) -> tuple[Values, Any, int | None]:
        values = self._values(folder)
        count = len(values) - self.taps - self.ahead + 1
        if count < 2:
            said = f"{len(values)} values are too few for {self.taps} taps and {self.ahead} ahead"
            raise DataError(f"{self.kind}: {said}")
        _check_size(self.kind, count * self.taps * values.shape[1], "fewer taps")
        seen = np.stack([values[tap : tap + count] for tap in range(self.taps)], 1)
        return seen.reshape(count, -1), values[self.taps + self.ahead - 1 :], None


@register("series")
@dataclass(frozen=True)
class FileSeries(Series):
    """Reads a series: the columns of a text file of numbers (CSV), or an array (N,) or (N, columns)
    of NumPy (.npy)."""

    paths = ("file",)

    file: Annotated[str, Field(description="the file, seen from the scenario")]
    header: Annotated[bool, Field(description="of CSV: the first row has names, no numbers")] = True

    @property
    def _kept(self) -> type[np.floating[Any]]:
        return kept_as(self.standardize)

    def _values(self, folder: Path) -> Values:
        path = folder / Path(self.file).expanduser()
        values = read_numbers(path, header=self.header)
        return values[:, None] if values.ndim == 1 else values


def _across(numbers: Any, taps: int) -> Any:
    """Returns numbers of columns (C,), or of each of their taps (C, taps, 1), as (1, taps, C)."""
    if np.ndim(numbers) == 0:
        return numbers
    found = torch.as_tensor(numbers, dtype=torch.float64)
    return found.expand(1, taps, -1) if found.ndim == 1 else found.permute(2, 1, 0)


@register("mackey_glass")
@dataclass(frozen=True)
class MackeyGlass(Series):
    """The series of Mackey and Glass (1977): dx/dt = β x(t−τ) / (1 + x(t−τ)ⁿ) − γ x(t), β = 0.2,
    γ = 0.1, n = 10; a value after each ``step`` of time.

    It is integrated by Runge and Kutta's fourth order in steps of a tenth, with what was before,
    and what lies between, interpolated; at first x is ``start``.
    """

    length: Annotated[Count, Field(description="number of values")] = 10_000
    tau: Annotated[
        Positive, Field(description="the delay, in its own time; chaotic from about 17 on")
    ] = 17.0
    washout: Annotated[Whole, Field(le=10**12, description="first values that are left out")] = 500
    step: Annotated[
        Positive, Field(description="time from one value to the next, in its own time")
    ] = 1.0
    start: Annotated[Positive, Field(description="the value of all times before the first")] = 1.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tau < 1.0 / _PER or abs(_PER * self.tau - round(_PER * self.tau)) > _ROUNDED:
            said = f"tau is {self.tau:g}, which is no number of steps of {1.0 / _PER:g}"
            raise ConfigurationError(said, "tau")

    def _values(self, folder: Path) -> Values:
        del folder
        per = _PER
        steps = per * (self.step * (self.length + self.washout) + self.tau)
        _check_size(self.kind, steps, "less length, washout, step or tau", _STEPS)
        lag = round(per * self.tau)  # the steps of the delay
        step, total = 1.0 / per, ceil(per * self.step * (self.length + self.washout))
        known = np.full(lag + 1 + total, self.start)  # at k − lag steps

        def slope(x: float, late: float) -> float:
            return 0.2 * late / (1.0 + late**10) - 0.1 * x

        for k in range(lag, lag + total):
            x, late, later = known[k], known[k - lag], known[k - lag + 1]
            middle = (late + later) / 2
            one = slope(x, late)
            two = slope(x + step / 2 * one, middle)
            three = slope(x + step / 2 * two, middle)
            four = slope(x + step * three, later)
            known[k + 1] = x + step / 6 * (one + 2 * two + 2 * three + four)
        at = per * self.step * np.arange(self.washout, self.washout + self.length)
        values: Values = np.interp(at, np.arange(total + 1), known[lag:])
        return values[:, None]


# ---- a drifting concept --------------------------------------------------------------------------


@register("hyperplane")
@dataclass(frozen=True)
class Hyperplane(InTime):
    """The moving hyperplane of Hulten, Spencer and Domingos (2001): x uniform in [0, 1]ᵈ has the
    class 1 where Σ wᵢ xᵢ ≥ ½ Σ wᵢ.

    The first ``drifting`` of the weights change by ±``change`` with every sample, and turn back
    with a probability of ``turning``; of the labels a part, ``noise``, is wrong.
    """

    length: Annotated[Count, Field(description="number of samples")] = 10_000
    inputs: Annotated[Count, Field(description="number d of inputs")] = 10
    drifting: Annotated[Whole, Field(description="weights that change")] = 2
    change: Annotated[NotNegative, Field(description="of a weight, with every sample")] = 0.001
    turning: Annotated[Fraction, Field(description="how probably a weight turns back")] = 0.1
    noise: Annotated[Fraction, Field(description="the part of the labels that is wrong")] = 0.05
    draw: Annotated[Whole, Field(description="which random one")] = 0

    def _samples(self, folder: Path) -> tuple[Values, Any, int | None]:
        del folder
        _check_size(self.kind, self.length * self.inputs, "less length or fewer inputs")
        random, shape = stream(self.draw, "hyperplane"), (self.length, self.inputs)
        x, first = random.random(shape), random.random(self.inputs)
        turns = np.where(random.random(shape) < self.turning, -1.0, 1.0)
        moves = turns.cumprod(0) * self.change * (np.arange(self.inputs) < self.drifting)
        weights = first + moves.cumsum(0)
        classes = (x * weights).sum(1) >= weights.sum(1) / 2
        wrong = random.random(self.length) < self.noise
        return x, (classes ^ wrong).astype(np.int64), 2


# ---- events --------------------------------------------------------------------------------------


@register("events")
@dataclass(frozen=True)
class Events(InTime):
    """Reads sparse events: rows t, index, value of a CSV file, or an array (N, 3) of NumPy (.npy).

    From the time t on the input of that index has that value, and 0 before its first event; an
    index of −1 says which class it is from t on. Every ``step`` of time is a sample: the inputs as
    they are at its end. What is before the first class is left out. Only the events are held in
    memory, and samples are made of them as they are taken.
    """

    paths = ("file",)

    file: Annotated[str, Field(description="the file, seen from the scenario")]
    inputs: Annotated[Count, Field(description="how many inputs there are")]
    classes: Annotated[Count, Field(description="how many classes there are")]
    step: Annotated[Positive, Field(description="time of a sample, in the unit of the file")] = 1.0
    header: Annotated[bool, Field(description="of CSV: the first row has names, no numbers")] = True

    def _samples(self, folder: Path) -> tuple[Lazy, Any, int | None]:
        path = folder / Path(self.file).expanduser()
        _check_size(self.kind, self.inputs, "fewer inputs")
        rows = read_numbers(path, header=self.header)
        if rows.ndim != 2 or rows.shape[1] != 3:
            raise DataError(f"{path}: needs rows of three numbers: t, index, value")
        rows = rows[rows[:, 0].argsort(kind="stable")]
        time, index, value = rows.T
        classes = index == -1
        ranges = ((index, -1, self.inputs, "index"), (value[classes], 0, self.classes, "class"))
        for numbers, low, end, what in ranges:
            bad = (numbers < low) | (numbers >= end) | (numbers != np.round(numbers))
            if bad.any():
                found = f"the {what} {numbers[bad][0]:g} is not in {low} … {end - 1}"
                raise DataError(f"{path}: {found}")
        if not classes.any():
            raise DataError(f"{path}: no event says a class (index -1)")
        with np.errstate(over="ignore"):
            steps = (time - time[0]) / self.step
        if steps[-1] > _MOST:
            raise DataError(f"{path}: {steps[-1]:,.0f} samples are too many; take a longer step")
        # Within (k·step, (k+1)·step], counted from the first event.
        place = np.maximum(0, np.ceil(steps - 1e-9).astype(np.int64) - 1)
        numbers = np.arange(place[classes][0], place[-1] + 1)
        said = place[classes].searchsorted(numbers, "right") - 1
        held = _Held(place[~classes], index[~classes], value[~classes], self.inputs)
        seen = Lazy(held, (self.inputs,), torch.float32, torch.from_numpy(numbers))
        return seen, value[classes][said].astype(np.int64), self.classes


class _Held:
    """Gives what the inputs hold at the end of any step of time, from the events alone: their
    places, as numbers of steps in ascending order, indices and values."""

    def __init__(self, place: _Whole, index: Values, value: Values, inputs: int) -> None:
        # By input, each of which begins with 0, and then by time; of several of an input at the
        # same place the last counts.
        self._length = int(place[-1]) + 2 if len(place) else 1
        self._begins = np.arange(inputs) * self._length
        keys = np.concatenate([self._begins, index.astype(np.int64) * self._length + place + 1])
        order = keys.argsort(kind="stable")
        keys = keys[order]
        last = np.append(keys[1:] != keys[:-1], True)
        self._keys = keys[last]
        self._values = np.append(np.zeros(inputs), value)[order[last]].astype(np.float32)
        places = self._keys % self._length - 1
        self._in_time = places.argsort(kind="stable")
        self._places = places[self._in_time]

    def __call__(self, which: torch.Tensor) -> torch.Tensor:
        """Returns the samples of these numbers (B,), as (B, inputs)."""
        numbers = which.numpy()
        found = np.empty((len(numbers), len(self._begins)), dtype=np.float32)
        ends = self._places.searchsorted(numbers, "right")
        follows = np.append(False, np.diff(numbers) == 1)
        for row, number in enumerate(numbers):
            if follows[row]:  # the one before, but for what happens at this place
                new = self._in_time[ends[row - 1] : ends[row]]
                found[row] = found[row - 1]
                found[row, self._keys[new] // self._length] = self._values[new]
            else:
                known = self._begins + min(number + 1, self._length - 1)
                found[row] = self._values[self._keys.searchsorted(known, "right") - 1]
        return torch.from_numpy(found)


def _check_size(kind: str, numbers: float, how: str, most: int = _MOST) -> None:
    """Raises DataError where so many numbers would be made that it takes long, or much memory."""
    if numbers > most:
        raise DataError(f"{kind}: {numbers:,.0f} numbers to be made, at most {most:,}; take {how}")


def read_numbers(path: Path, *, header: bool) -> Values:
    """Reads an array of NumPy, or rows of numbers. Raises DataError where there are none."""
    try:
        if path.suffix == ".npy":
            found = open_npy(path).array()
        else:
            with plain(path).open(encoding="utf-8-sig", newline="") as file:
                found = _numbers_of(csv.reader(file, strict=True), header=header)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: does not hold rows of numbers ({error})") from None
    if found.dtype.kind not in "buif" or found.ndim not in (1, 2) or not found.size:
        raise DataError(f"{path}: is {found.dtype} {found.shape}, not numbers (N,) or (N, columns)")
    values: Values = found.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: has a value that is not finite")
    return values


def _numbers_of(rows: Iterable[list[str]], *, header: bool) -> Values:
    """Returns rows of numbers, after a header. Raises ValueError where they are none."""
    numbers, widths = array("d"), set[int]()  # of lists many would take much more memory
    for row in islice(filter(None, rows), int(header), None):
        numbers.extend(map(float, row))
        widths.add(len(row))
    if len(widths) > 1:
        raise ValueError(f"they have from {min(widths)} to {max(widths)} columns")
    return np.array(numbers).reshape(-1, *widths)
