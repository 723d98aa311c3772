"""Side-by-side measurements: what the program costs, against the same work done without it.

Whatever is compared runs in turns in one process, so that both sides feel the same machine. The
medians are what is reported; targets belong to a machine that has nothing else to do.
"""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from neurosim._version import __version__
from neurosim.base import ConfigurationError, unknown
from neurosim.bench import host, laws, layers, processes, reading, scheduling, steps, ticks
from neurosim.bench.timing import FULL, QUICK, Benchmark, Measurement, Sizes
from neurosim.tensors import describe_machine

BENCHMARKS: tuple[Benchmark, ...] = (
    scheduling.neuron_processes_wakes_per_second,
    scheduling.bare_simpy_wakes_per_second,
    scheduling.population_unit_wakes_per_second,
    ticks.engine_over_bare_loop,
    ticks.delayed_tick_over_ideal,
    ticks.random_order_tick_milliseconds,
    *layers.TENTHS,
    ticks.vgg16_async_tick_over_dense,
    ticks.lazy_wakes_fraction,
    steps.vgg16_dp_peak_memory_over_bp,
    *steps.OVER_BP,
    *laws.LAWS,
    *host.ALL,
    *reading.READING,
    processes.data_parallel_speedup,
)


def run_benchmarks(
    names: Sequence[str] | None, quick: bool, progress: Callable[[str], None]
) -> list[Measurement]:
    """The named measurements, or all, in their own order; ``progress`` is told of each.

    A name may be a pattern, as ``law_*``. ``quick`` takes smaller sizes. Raises ConfigurationError
    for an unknown name.
    """
    known = [benchmark.name for benchmark in BENCHMARKS]
    wanted = {name: fnmatch.filter(known, name) for name in names or known}
    for name, meant in wanted.items():
        if not meant:
            raise ConfigurationError(unknown("benchmark", name, known))
    found = []
    for benchmark in BENCHMARKS:
        if any(benchmark.name in meant for meant in wanted.values()):
            progress(f"{benchmark.name}: {benchmark.description}")
            found.append(benchmark.measure(QUICK if quick else FULL))
    return found


def to_json(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """The measurements with the machine they were taken on, fit for JSON."""
    return {
        "neurosim": __version__,
        "machine": describe_machine(),
        "measurements": [asdict(measurement) for measurement in measurements],
    }


def table(measurements: Sequence[Measurement]) -> Table:
    """The measurements for a terminal."""
    result = Table()
    result.add_column("measurement", no_wrap=True)
    result.add_column("value", justify="right", no_wrap=True)
    result.add_column("compared with")
    for m in measurements:
        value = f"{m.value:,.0f}" if m.value >= 1000 else f"{m.value:.3g}"
        result.add_row(m.name, f"{value} {m.unit}", m.compared_with)
    return result
