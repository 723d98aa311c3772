"""Side-by-side measurements: what the program costs, against the same work done without it.

Whatever is compared runs in turns in one process, so that both sides feel the same machine. The
medians are what is reported; targets belong to a machine that has nothing else to do.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from rich.table import Table

from neurosim._version import __version__
from neurosim.base import ConfigurationError, unknown
from neurosim.bench import arithmetic, laws, laziness, scale, scheduling
from neurosim.bench.layers import TENTHS, tenth_over_dense
from neurosim.bench.systems import SYSTEMS, ep_of_images, over_bp
from neurosim.bench.timing import FULL, QUICK, Benchmark, Measurement, Sizes
from neurosim.tensors import describe_machine

BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark("neuron_processes_wakes_per_second", "a process per dyad", scheduling.neurons),
    Benchmark("bare_simpy_wakes_per_second", "bare SimPy processes", scheduling.bare_simpy),
    Benchmark(
        "population_unit_wakes_per_second", "a process per population", scheduling.populations
    ),
    Benchmark(
        "engine_over_bare_loop",
        "parallel ticks over a loop by hand",
        arithmetic.engine_over_bare_loop,
    ),
    Benchmark(
        "mlp_dp_step_over_bp", "a dual-propagation sweep over autograd", arithmetic.dp_step_over_bp
    ),
    Benchmark(
        "delayed_tick_over_ideal", "delays of 8 ticks over ideal channels", arithmetic.delayed_tick
    ),
    Benchmark(
        "random_order_tick_milliseconds", "neurons in random order", arithmetic.random_order_tick
    ),
    *(
        Benchmark(
            f"{kind}_tenth_over_dense",
            f"a tenth of the {kind}s of a conv layer over all",
            partial(tenth_over_dense, kind),
        )
        for kind in TENTHS
    ),
    Benchmark("vgg16_dp_step_over_bp", "VGG16: a sweep over autograd", scale.dp_step),
    Benchmark(
        "vgg16_fwk16_alpha0_over_bp", "VGG16: 16 sweeps of DPT, alpha 0", scale.sweeps_alpha0
    ),
    Benchmark(
        "vgg16_fwk16_alpha05_over_bp", "VGG16: 16 sweeps of DPT, alpha 1/2", scale.sweeps_alpha05
    ),
    Benchmark(
        "vgg16_async_tick_over_dense", "VGG16: a tenth of the neurons over all", scale.async_tick
    ),
    Benchmark("vgg16_dp_peak_memory_over_bp", "VGG16: memory of a sweep", scale.peak_memory),
    Benchmark("lazy_wakes_fraction", "send-on-delta on real digits", laziness.wakes_fraction),
    *(
        Benchmark(f"system_{name}", f"{system.title}: a step over autograd", partial(over_bp, name))
        for name, system in SYSTEMS.items()
    ),
    Benchmark(
        "ep_step_over_bp", "equilibrium propagation of images: a step over autograd", ep_of_images
    ),
    Benchmark("law_batch", "a step by its batch", laws.batch),
    Benchmark("law_depth", "a step by the depth", laws.depth),
    Benchmark("law_width", "a step by the width", laws.width),
    Benchmark("law_wakes", "a tick by the neurons that wake", laws.wakes),
    Benchmark("law_delay", "a tick by the delay of its messages", laws.delay),
)


def run_benchmarks(
    names: Sequence[str] | None, quick: bool, progress: Callable[[str], None]
) -> list[Measurement]:
    """The named measurements, or all, in their own order; ``progress`` is told of each.

    A name may be a pattern, as ``law_*``. ``quick`` takes smaller sizes. Raises ConfigurationError
    for an unknown name.
    """
    known = [benchmark.name for benchmark in BENCHMARKS]
    for name in names or ():
        if not any(fnmatchcase(benchmark, name) for benchmark in known):
            raise ConfigurationError(unknown("benchmark", name, known))
    found = []
    for benchmark in BENCHMARKS:
        if names is None or any(fnmatchcase(benchmark.name, name) for name in names):
            progress(f"{benchmark.name}: {benchmark.description}")
            found.append(benchmark.measure(QUICK if quick else FULL))
    return found


# ---- showing -----------------------------------------------------------------------------------


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
