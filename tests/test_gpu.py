"""On a CUDA device: the same as on the CPU, hardly ever waited for, in the memory announced."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

import neurosim as ns
from neurosim import metrics
from neurosim.learning.checkpoint import load_state, save_state
from neurosim.learning.memory import estimate
from neurosim.runs import run as runner
from neurosim.scenario.scenario import Scenario
from neurosim.schedules import Poisson, RandomOrder
from neurosim.tensors.devices import repeatable
from tests.conformance.cases import Case, Setup

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
ROOT = Path(__file__).parents[1]
CUDA: dict[str, Any] = {"device": "cuda"}


@pytest.fixture(autouse=True)
def repeating() -> Iterator[None]:
    """As the command line has it."""
    with repeatable():
        yield


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].device.type == "cuda"
        assert torch.allclose(found[name].cpu(), values, rtol=0.0, atol=1e-10), name


CASES = [
    Case("mlp", "forward_backward", init="feedforward"),
    Case("mlp", "random_order", "neuron", effects=True),
    Case("conv", "parallel"),
    Case("conv", "random_order", "tile"),
    Case("conv", "poisson", "channel", "carry"),
    Case("conv", "lazy", "block"),
    Case("skip", "odd_even", learn_every=3),
    Case("skip", "periodic", "neuron", "carry", effects=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_as_on_the_cpu(case: Case) -> None:
    """States and gradients, in float64."""
    found, expected = case.build(**CUDA), case.build()
    for number in range(2):
        one, other = found.infer(number), expected.infer(number)
        close(one.plus, other.plus)
        close(one.minus, other.minus)
        close(found.simulation.gradients(), expected.simulation.gradients())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_goes_on_bit_for_bit(case: Case, tmp_path: Path) -> None:
    whole, part = case.build(**CUDA), case.build(**CUDA)
    whole.start(0)
    whole.simulation.advance(4)
    simulation, optimizer = whole.simulation, whole.optimizer
    tree = {"simulation": simulation.state_dict(), "model": dict(simulation.model.state_dict())}
    tree["optimizer"] = {} if optimizer is None else optimizer.state_dict()
    save_state(tmp_path / "state", tree)
    tree = load_state(tmp_path / "state")
    part.simulation.model.load_state_dict(tree["model"])
    if part.optimizer is not None:
        part.optimizer.load_state_dict(tree["optimizer"])
    part.simulation.load_state_dict(tree["simulation"], optimizer=part.optimizer)
    for setup in (whole, part):
        setup.simulation.advance()
    one, other = part.simulation.finish(), whole.simulation.finish()
    for name, values in other.plus.items():
        assert torch.equal(one.plus[name], values)
        assert torch.equal(one.minus[name], other.minus[name])
    assert one.counts == other.counts


def synchronizations(setup: Setup) -> list[int]:
    """Of each tick, as torch sees them."""
    found = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        setup.start(0)
        torch.cuda.set_sync_debug_mode("warn")  # which warns that it does not see all of them
        try:
            while not setup.simulation.done:
                caught.clear()
                setup.simulation.advance(1)
                found.append(sum("synchronizing" in str(w.message) for w in caught))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.05])
@pytest.mark.parametrize("delay", [0.0, 2.0])
@pytest.mark.parametrize("schedule", ["forward_backward", "parallel", "random_order"])
@pytest.mark.parametrize("unit", ["population", "tile"])
def test_one_synchronization_in_a_tick(
    schedule: str, unit: str, delay: float, threshold: float
) -> None:
    channel = ns.Channel(threshold=threshold, delay=delay)
    channels = ns.Channels(channel, channel)
    setup = Case("conv", schedule, unit).build(channels=channels, probes=[], **CUDA)
    found = synchronizations(setup)
    assert max(found) == 1, found


@pytest.mark.parametrize("precision", ["float32", "bf16-mixed"])
def test_memory(precision: Any) -> None:
    """No more is taken than announced, but for the work space of the libraries."""
    network = ns.Network.from_yaml(ROOT / "networks/vgg16.yaml")
    batch, device = 100, torch.device("cuda")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    model = ns.Model(network, seed=0)
    channels = ns.Channels(ns.Channel(delay=2.0), ns.Channel(delay=2.0))
    schedule = ns.schedules.Parallel(20)
    sim = ns.Simulation(model, schedule=schedule, channels=channels, precision=precision, **CUDA)
    optimizer = torch.optim.Adam(model.parameters())
    sim.infer(torch.rand(batch, *network.input.shape), torch.eye(10)[torch.arange(batch) % 10])
    sim.learn(optimizer)
    taken = torch.cuda.max_memory_allocated(device) - before
    announced = estimate(sim, batch, "adam").total
    assert 0.3 * announced < taken < 1.2 * announced + 2**29


def test_bfloat16_is_close() -> None:
    network = ns.Network.from_yaml(ROOT / "networks/digits_conv.yaml")
    found = []
    x, y = torch.rand(32, *network.input.shape), torch.eye(10)[torch.arange(32) % 10]
    for precision in ("float32", "bf16-mixed"):
        model, schedule = ns.Model(network, seed=0), ns.schedules.Parallel(12)
        sim = ns.Simulation(model, schedule=schedule, precision=precision, **CUDA)  # type: ignore[arg-type]
        sim.infer(x, y)
        found.append(sim.gradients())
    aligned = metrics.alignment(found[1], found[0])
    assert 0.01 < max(one.angle for one in aligned.values()) < 3.0


def test_a_run(tmp_path: Path) -> None:
    """A scenario takes the device where there is one."""
    short = ["training.epochs=1", "training.max_steps=3", "data.limit=200"]
    scenario = Scenario.load(ROOT / "scenarios/sweep.yaml", short)
    folder = runner.run(scenario, tmp_path, Console(quiet=True), "it")
    assert (folder / "summary.json").is_file()
    assert torch.cuda.get_device_name() in (folder / "environment.json").read_text()


@pytest.mark.parametrize("compute", ["auto", "graph"])
def test_a_graph_computes_the_same_bits(compute: Any) -> None:
    """As an inference that is run tick by tick, for batches and weights that change."""
    network = ns.Network.from_dict({"input": 12, "layers": [{"dense": 16}, {"dense": 4}]})
    options: dict[str, Any] = {"schedule": "parallel", **CUDA}
    one = ns.Simulation(ns.Model(network), compute=compute, **options)
    other = ns.Simulation(ns.Model(network), **options)
    random = torch.Generator().manual_seed(0)
    for _ in range(8):
        x, target = torch.rand(5, 12, generator=random), torch.rand(5, 4, generator=random)
        found = one.infer(x, target)
        other.start(x, target)
        other.advance()
        expected = other.finish()
        pairs = [(found.plus[key], values) for key, values in expected.plus.items()]
        gradients = one.gradients(), other.gradients()
        pairs += [(gradients[0][key], values) for key, values in gradients[1].items()]
        assert all(torch.equal(a, b) for a, b in pairs)
        for simulation, found_there in zip((one, other), gradients, strict=True):
            with torch.no_grad():
                for key, parameter in simulation.model.named_parameters():
                    parameter -= 0.1 * found_there[key]
    graphs = [known._tape.graph for known in one._repeats._kinds.values() if known is not None]
    assert any(graphs)


@pytest.mark.parametrize("channel", [ns.Channel(), ns.Channel(delay=2.0), ns.Channel(noise=0.05)])
@pytest.mark.parametrize("kind", ["random_order", "poisson"])
def test_running_ahead_computes_the_same_bits(kind: str, channel: ns.Channel) -> None:
    """As an inference in which each tick asks, and waits but a few times."""
    layers = [{"dense": 64}, {"dense": 48}, {"dense": 10}]
    network = ns.Network.from_dict({"input": 32, "layers": layers})
    options: dict[str, Any] = {"channels": ns.Channels(channel, channel), **CUDA}
    if kind == "poisson":
        options["schedule"] = Poisson("neuron", duration=12.0, tick=0.5)
    else:
        options["schedule"] = RandomOrder("neuron", groups=8, passes=4)
    one, other = (ns.Simulation(ns.Model(network), **options) for _ in range(2))
    random = torch.Generator().manual_seed(0)
    for number in range(4):
        x, target = torch.rand(40, 32, generator=random), torch.rand(40, 10, generator=random)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            found = one.infer(x, target)
            torch.cuda.set_sync_debug_mode("default")
        other.start(x, target)
        other.advance()
        expected = other.finish()
        assert asdict(found.counts) == asdict(expected.counts)
        assert all(torch.equal(found.plus[key], values) for key, values in expected.plus.items())
        gradients = one.gradients()
        assert all(torch.equal(gradients[k], v) for k, v in other.gradients().items())
        waits = sum("synchronizing" in str(w.message) for w in caught)
        assert waits < found.ticks / 2 or not number, waits
