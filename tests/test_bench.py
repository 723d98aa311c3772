"""The measurements: that they measure what they say, and their shape. No timing is asserted."""

from __future__ import annotations

import io
import json
import math
import platform
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from sizes import TINY
from torch import Tensor

from neurosim import Network, bench
from neurosim.base.errors import ConfigurationError
from neurosim.bench import laws, layers, scheduling, steps, timing, work
from neurosim.measures.gradients import true_gradient
from neurosim.schedules.units import UnitKind
from neurosim.simulation.engine import Processes
from neurosim.simulation.simulation import Simulation
from neurosim.tensors.machine import describe_machine as describe

RESULTS = [
    bench.Measurement("engine_over_bare_loop", 1.0625, "times", "at most 1.10"),
    bench.Measurement("bare_simpy_wakes_per_second", 212345.6, "wakes/s", "alone"),
]


SLOW = {"data_parallel_speedup"}  # starts processes


@pytest.mark.parametrize(
    "benchmark",
    [pytest.param(b, marks=[pytest.mark.slow] * (b.name in SLOW)) for b in bench.BENCHMARKS],
    ids=lambda b: b.name,
)
def test_every_benchmark_measures_something(benchmark: bench.Benchmark) -> None:
    measurement = benchmark.measure(TINY)
    assert measurement.name == benchmark.name
    assert math.isfinite(measurement.value)
    assert measurement.value > 0 or measurement.unit == "(exponent)"
    assert measurement.unit
    assert measurement.compared_with


def test_a_law_is_the_power_that_fits() -> None:
    value, unit, against = timing.law({n: 2e-3 * n**1.5 for n in (10, 30, 1000)}, "3/2")
    assert value == pytest.approx(1.5, abs=1e-12)
    assert unit == "(exponent)"
    assert against == "3/2; 10: 63.2 ms, 30: 329 ms, 1,000: 6.32e+04 ms; between the last two 1.50"


@pytest.mark.parametrize("sizes", [timing.QUICK, timing.FULL], ids=["quick", "full"])
def test_a_law_of_wakes_has_ticks_enough_in_its_plan(
    sizes: bench.Sizes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more wakes than one inference may have."""
    monkeypatch.setattr(laws, "alternate", lambda ticks, repeats: {n: float(n) for n in ticks})
    assert laws.law_wakes.measure(sizes).value == pytest.approx(1.0, abs=1e-12)
    assert 1 + 1 + 3 * sizes.repeats < laws.PASSES  # the fewest ticks are one a pass


@pytest.mark.slow
def test_the_memory_of_a_sweep_on_vgg16() -> None:
    """It is counted, not measured: the same on every machine."""
    found = steps.vgg16_dp_peak_memory_over_bp.measure(timing.FULL)
    assert found.unit == "times"
    assert found.value <= 1.5


def test_peak_bytes_counts_what_is_alive_at_once() -> None:
    kept = torch.zeros(1000)

    def work() -> None:
        first = kept + 1  # 4,000 bytes
        second = torch.cat([first, first])  # 8,000
        del first
        torch.cat([second, kept])  # 12,000, when the first is gone

    assert timing.peak_bytes(work) == pytest.approx(20_000, abs=512)  # sizes are rounded up


def test_the_names_are_distinct_and_every_benchmark_is_described() -> None:
    names = [b.name for b in bench.BENCHMARKS]
    assert len(set(names)) == len(names)
    assert all(b.description for b in bench.BENCHMARKS)


def test_full_sizes_are_those_of_the_targets() -> None:
    assert bench.FULL.dyads is None
    assert sum(p.size for p in work.vgg16().dyadic) == 190_986
    assert len(work.vgg16().dyadic) == 16
    assert (bench.FULL.width, bench.FULL.batch) == (1000, 100)


def test_alternate_warms_up_and_takes_turns() -> None:
    calls = ""

    def note(name: str) -> None:
        nonlocal calls
        calls += name

    functions = {"a": lambda: note("a"), "b": lambda: note("b"), "c": lambda: note("c")}
    seconds = timing.alternate(functions, 3)
    assert calls == "abc" * 4
    assert list(seconds) == ["a", "b", "c"]
    assert min(seconds.values()) >= 0.0


def test_alternate_returns_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    durations = {"a": iter([100.0, 5.0, 1.0, 2.0]), "b": iter([100.0, 7.0, 7.0, 90.0])}

    def work(name: str) -> None:
        nonlocal now
        now += next(durations[name])

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    functions = {"a": lambda: work("a"), "b": lambda: work("b")}
    assert timing.alternate(functions, 3) == {"a": 2.0, "b": 7.0}


def test_what_takes_no_time_is_repeated_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whole turns."""
    now, calls = 0.0, {"a": 0, "b": 0}

    def work(name: str) -> None:
        nonlocal now
        now += 1.0
        calls[name] += 1

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    functions = {"a": lambda: work("a"), "b": lambda: work("b")}
    for least, turns in ((0.0, 3), (6.0, 3), (7.0, 4), (20.0, 10)):
        calls.update(a=0, b=0)
        timing.alternate(functions, 3, least)
        assert calls == {"a": turns + 1, "b": turns + 1}


@pytest.mark.parametrize("processes", ["neuron", "population"])
def test_processes_wake_as_often_as_bare_ones(processes: Processes) -> None:
    ticks, size = 50, 2000
    network = Network.from_dict({"input": [1], "layers": [{"dense": size}]})
    ours = scheduling.waking(network, processes, ticks)
    bare = scheduling.bare_waking(size, ticks, 2)
    for _ in range(2):
        ours()
        bare()
    assert ours.calls == bare.calls == 2
    expected = 2 * ticks * size * (1 - math.exp(-0.1))
    deviation = math.sqrt(expected)  # an upper bound: binomial
    assert abs(ours.count() - expected) < 5 * deviation
    assert abs(bare.count() - expected) < 5 * deviation


def test_the_bare_loop_skips_only_what_cannot_change() -> None:
    """Against the update that computes everything at every tick, in float64."""
    torch.manual_seed(0)
    sizes = [7, 6, 5, 4, 3]
    weights = [
        torch.randn(post, pre, dtype=torch.float64) / math.sqrt(pre)
        for pre, post in pairwise(sizes)
    ]
    biases = [torch.randn(post, dtype=torch.float64) * 0.1 for post in sizes[1:]]
    x, target = torch.rand(2, 7, dtype=torch.float64), torch.rand(2, 3, dtype=torch.float64)
    # The loop takes zero means to be unheard, so the comparison starts when all have been heard.
    for ticks in (4, 5, 6, 9, 16):
        means = [x] + [torch.zeros(2, size, dtype=torch.float64) for size in sizes[1:]]
        plus = list(means)
        minus = list(means)
        for tick in range(1, ticks + 1):
            old_means = [(p + m) / 2 for p, m in zip(plus, minus, strict=True)]
            old_differences = [p - m for p, m in zip(plus, minus, strict=True)]
            for k in range(1, 5):
                basal = old_means[k - 1] @ weights[k - 1].T + biases[k - 1]
                if k < 4:
                    apical = old_differences[k + 1] @ weights[k]
                    plus[k] = torch.relu(basal + apical / 2)
                    minus[k] = torch.relu(basal - apical / 2)
                else:
                    apical = target - basal if tick >= 4 else torch.zeros_like(basal)
                    plus[k], minus[k] = basal + apical / 2, basal - apical / 2
        found = work.bare_parallel(weights, biases, x, target, ticks)
        for mine, reference in zip(found, (plus, minus), strict=True):
            torch.testing.assert_close(mine, reference[1:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", layers.CONV_LAYERS)
@pytest.mark.parametrize("kind", ["column", "channel", "tile"])
def test_a_tenth_of_a_layer_wakes_and_computes(kind: UnitKind, layer: str) -> None:
    """Both potentials in every tick, for a tenth of the units over all of them."""
    simulation, ticks = layers.waking(layer, kind, 0.1, 1, 2 * layers.TICKS), layers.TICKS
    dyads = simulation.model.network.dyadic[0].size
    before = replace(simulation.counts)
    simulation.advance(ticks)
    after = simulation.counts
    assert (after.forward - before.forward, after.adjoint - before.adjoint) == (ticks, ticks)
    units = int((simulation.layout.population_of == 0).sum())
    woken = after.unit_wakes - before.unit_wakes
    assert woken == math.floor(0.1 * ticks * units)
    assert after.wakes - before.wakes == woken * dyads // units
    assert simulation.state.cells[0].difference.value.any()


SYSTEMS = {
    name.removeprefix("system_"): step
    for name, step in steps.STEPS.items()
    if name.startswith("system_")
}
WAKES = {"dpt": 16, "lpom": 16, "chl": 10 + 10, "ep": 60 + 2 * 20, "hep": 200 + 10 * 50}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_iterates_as_often_as_it_says(name: str) -> None:
    step = SYSTEMS[name]
    simulation, x, target = step.on(step.network(TINY))
    steps.step_of(simulation, x, target)()
    counts, dyads = simulation.counts, sum(p.size for p in simulation.model.network.dyadic)
    if name == "dtp":  # all but the feedback weights into the input learn
        assert counts.weight_gradient == 4 + 3 * 2 * 20
    else:
        assert counts.wakes == WAKES.get(name, 1) * dyads


@pytest.mark.parametrize("name", ["backprop", "dp", "dpt", "chl", "ep", "hep"])
def test_what_the_systems_compute_is_the_gradient(name: str) -> None:
    """That of the network's own prediction: feed-forward, or where it settles."""
    step = SYSTEMS[name]
    simulation, x, target = step.on(step.network(TINY))
    found = steps.step_of(simulation, x, target)()
    steps.check_angle(found, true_gradient_of(simulation))


def test_equilibrium_propagation_of_images() -> None:
    """Its first layer sees the same input at all times, and needs it once."""
    step = steps.STEPS["ep_step_over_bp"]
    simulation, x, target = step.on(step.network(TINY))
    found = steps.step_of(simulation, x, target)()
    counts, dyads = simulation.counts, sum(p.size for p in simulation.model.network.dyadic)
    assert counts.wakes == 100 * dyads
    assert 300 < counts.forward <= 1 + 4 * 100
    assert 300 < counts.adjoint <= 4 * 100
    steps.check_angle(found, true_gradient_of(simulation))
    assert [p.shape for p in work.convnet().dyadic] == [
        *((128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)),
        (10,),
    ]


def true_gradient_of(simulation: Simulation) -> dict[str, Tensor]:
    found = true_gradient(simulation.state, simulation.rule, simulation.nudge)
    assert found is not None
    return found


def test_run_benchmarks_takes_the_named_ones_and_tells_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench, "QUICK", TINY)
    told: list[str] = []
    names = ["random_order_tick_milliseconds", "engine_over_bare_loop"]
    found = bench.run_benchmarks(names, True, told.append)
    assert [m.name for m in found] == ["engine_over_bare_loop", "random_order_tick_milliseconds"]
    assert [text.partition(":")[0] for text in told] == [m.name for m in found]


def test_a_pattern_names_several(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = tuple(
        bench.Benchmark(b.name, b.description, lambda sizes: (1.0, "s", "nothing"))
        for b in bench.BENCHMARKS
    )
    monkeypatch.setattr(bench, "BENCHMARKS", fakes)
    found = bench.run_benchmarks(["system_*", "law_depth"], True, lambda text: None)
    assert [m.name for m in found] == [*(f"system_{name}" for name in SYSTEMS), "law_depth"]
    with pytest.raises(ConfigurationError, match="law_x"):
        bench.run_benchmarks(["law_x*"], True, lambda text: None)


def test_run_benchmarks_runs_all_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[bench.Sizes] = []

    def record(given: bench.Sizes) -> timing.Result:
        sizes.append(given)
        return 1.0, "s", "nothing"

    fakes = tuple(bench.Benchmark(b.name, b.description, record) for b in bench.BENCHMARKS)
    monkeypatch.setattr(bench, "BENCHMARKS", fakes)
    for quick, expected in ((True, bench.QUICK), (False, bench.FULL)):
        sizes.clear()
        found = bench.run_benchmarks(None, quick, lambda text: None)
        assert [m.name for m in found] == [b.name for b in fakes]
        assert sizes == [expected] * len(fakes)


def test_an_unknown_name_is_refused_before_anything_runs() -> None:
    told: list[str] = []
    with pytest.raises(ConfigurationError, match="did you mean 'engine_over_bare_loop'"):
        bench.run_benchmarks(
            ["random_order_tick_milliseconds", "engine_over_bare_lop"], True, told.append
        )
    assert not told


def test_json_holds_the_machine_and_the_measurements() -> None:
    data = json.loads(json.dumps(bench.to_json(RESULTS)))
    assert set(data) == {"neurosim", "machine", "measurements"}
    assert data["measurements"][0] == {
        "name": "engine_over_bare_loop",
        "value": 1.0625,
        "unit": "times",
        "compared_with": "at most 1.10",
    }
    assert [m["name"] for m in data["measurements"]] == [m.name for m in RESULTS]


def test_the_machine_is_described_but_not_named() -> None:
    machine = describe()
    for key in ("processor", "python", "torch", "numpy", "simpy"):
        assert machine[key]
    for key in ("cores", "threads"):
        assert isinstance(machine[key], int)
        assert int(machine[key]) >= 1
    assert not {"host", "hostname", "node"} & set(machine)
    assert platform.node() not in {str(value) for value in machine.values()}


def test_table_shows_every_measurement() -> None:
    table = bench.table(RESULTS)
    assert table.row_count == len(RESULTS)
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "bare_simpy_wakes_per_second" in text
    assert "1.06 times" in text
    assert "212,346 wakes/s" in text
    assert "at most 1.10" in text
