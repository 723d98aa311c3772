"""What a measurement is, and how things are measured side by side."""

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import log
from statistics import median
from typing import TypeVar

import numpy as np
from torch.profiler import ProfilerActivity, profile

Key = TypeVar("Key")
Work = Callable[[], object]  # what is timed
Result = tuple[float, str, str]  # value, unit, compared with


@dataclass(frozen=True)
class Measurement:
    """One result; ``compared_with`` says what it is to be read against."""

    name: str
    value: float
    unit: str
    compared_with: str


@dataclass(frozen=True)
class Sizes:
    """How much is measured. ``dyads`` of None stands for VGG16; ``planes`` is the batch of conv
    layers, ``images`` that of networks of images, whose widths are divided by ``thinner``, and of
    the learning systems, ``samples`` the size of a data set. ``span`` are the multiples of the
    smallest size at which a law is measured. What takes seconds is repeated less often, and
    steps and ticks that take milliseconds until all turns have taken ``least`` seconds."""

    dyads: int | None = None
    neuron_ticks: int = 5
    population_ticks: int = 200
    width: int = 1000
    batch: int = 100
    passes: int = 12
    planes: int = 32
    images: int = 32
    thinner: int = 1
    digits: int = 100
    samples: int = 60_000
    span: tuple[int, ...] = (1, 3, 10, 30)
    repeats: int = 11
    least: float = 1.0


FULL = Sizes()
QUICK = Sizes(
    dyads=20_000,
    neuron_ticks=20,
    population_ticks=50,
    width=500,
    passes=4,
    planes=8,
    images=8,
    thinner=4,
    digits=20,
    samples=2000,
    span=(1, 4, 16),
    repeats=5,
    least=0.0,
)


@dataclass(frozen=True)
class Benchmark:
    """A named measurement."""

    name: str
    description: str
    function: Callable[[Sizes], Result]

    def measure(self, sizes: Sizes) -> Measurement:
        return Measurement(self.name, *self.function(sizes))


def benchmark(description: str) -> Callable[[Callable[[Sizes], Result]], Benchmark]:
    """Makes a measurement of a function, and names it like that."""
    return lambda function: Benchmark(function.__name__, description, function)


def alternate(functions: Mapping[Key, Work], repeats: int, least: float = 0.0) -> dict[Key, float]:
    """Median seconds of each function: all once to warm up, then in turns A, B, A, B, …, so many
    and for ``least`` seconds."""
    for function in functions.values():
        function()
    gc.collect()
    seconds: dict[Key, list[float]] = {name: [] for name in functions}
    while repeats > 0 or least > 0:
        repeats -= 1
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(took := time.perf_counter() - began)
            least -= took
    return {name: median(values) for name, values in seconds.items()}


def ratio(
    ours: Work,
    other: Work,
    repeats: int,
    target: str,
    what: str,
    calls: int = 1,
    least: float = 0.0,
) -> Result:
    """How much longer ours takes; in a turn of the other it is called so many times. ``repeats``
    and ``least`` are those of `alternate`."""

    def turn() -> None:
        for _ in range(calls):
            other()

    seconds = alternate({"ours": ours, "other": turn}, repeats, least)
    once = seconds["other"] / calls
    return seconds["ours"] / once, "times", f"{target}; {what}: {1e3 * once:,.1f} ms"


def law(points: Mapping[int, float], expected: str) -> Result:
    """The exponent p of t ∝ nᵖ that fits seconds by n best, in logarithms; and of the last two."""
    n, t = ([log(value) for value in values] for values in (points, points.values()))
    exponent, last = (float(np.polyfit(n[first:], t[first:], 1)[0]) for first in (0, -2))
    listed = ", ".join(f"{key:,}: {1e3 * seconds:,.3g} ms" for key, seconds in points.items())
    return exponent, "(exponent)", f"{expected}; {listed}; between the last two {last:.2f}"


def peak_bytes(function: Work) -> int:
    """The most bytes of tensors on the CPU that are alive at once during a call, besides those
    from before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler tells that it starts and stops
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        function()
    assert found.profiler is not None
    events = found.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    return max(accumulate(size for _, size in sorted(changes)), default=0)
