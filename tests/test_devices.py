"""Devices: their names, and what a simulation on one of them waits for.

Most of it runs on a device that is not there (`away`). It computes with the same operations as the
CPU, so that the results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from away import AWAY, Away, Elsewhere, here
from click.testing import CliRunner
from torch import Tensor

import neurosim as ns
from neurosim.base.random import stream
from neurosim.cli.main import main
from neurosim.tensors.devices import Flags, resolve_device, upload
from tests.conformance.cases import SCHEDULES, Case, Setup

pytestmark = pytest.mark.slow

# ---- names ---------------------------------------------------------------------------------------


def test_names() -> None:
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("meta").type == "meta"


@pytest.mark.parametrize(
    "name", ["tpu", "mps", "cpu:0", "cuda:", "cuda:-1", "cuda:128x", "", "CPU"]
)
def test_other_names(name: str) -> None:
    with pytest.raises(ns.ConfigurationError, match="it must be 'auto', 'cpu', 'cuda' or") as found:
        resolve_device(name)
    assert found.value.option == ("device",)


@pytest.mark.parametrize("name", ["gpu", "GPU", "gpu0", "gpu:0", "nvidia", "cuda0", "CUDA"])
def test_what_was_meant(name: str) -> None:
    with pytest.raises(ns.ConfigurationError, match="did you mean 'cuda', or 'auto'"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("built", "devices", "message"),
    [
        (False, 0, r"'cuda:2', but torch \S+ is built without CUDA; install a build that has it"),
        (True, 0, "'cuda:2', but torch finds no CUDA device here; 'auto' takes"),
        (True, 2, "'cuda:2', but there are only 2 CUDA devices here, numbered from 0"),
        (True, 3, None),
    ],
)
def test_cuda(
    monkeypatch: pytest.MonkeyPatch, built: bool, devices: int, message: str | None
) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    if message is None:
        assert resolve_device("cuda:2") == torch.device("cuda", 2)
        assert resolve_device("cuda").type == resolve_device("auto").type == "cuda"
        return
    with pytest.raises(ns.ConfigurationError, match=message):
        resolve_device("cuda:2")


COMMANDS = {
    "run": ["training.max_steps=1", "data.limit=60"],
    "converge": ["study.samples=2", "data.limit=60", "schedule.passes=1"],
    "sweep": ["training.max_steps=1", "data.limit=60", "--jobs", "0"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_on_the_command_line(command: str, tmp_path: Path) -> None:
    scenario = Path(__file__).parents[1] / "scenarios/random_order.yaml"
    arguments = [command, str(scenario), *COMMANDS[command], "--quiet", "--out", str(tmp_path)]
    refused = CliRunner().invoke(main, [*arguments, "--device", "gpu"])
    assert refused.exit_code == 2
    assert "device: device is 'gpu'; it must be 'auto', 'cpu', 'cuda' or" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    done = CliRunner().invoke(main, [*arguments, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    (written,) = tmp_path.rglob("scenario.yaml")
    assert "\ndevice: cpu\n" in written.read_text()


# ---- a device that is not there ------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """On."""
    with Elsewhere() as found:
        yield found


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert isinstance(found[name], Away)
        assert torch.equal(here(found[name]), values), name


def compare(found: Setup, expected: Setup, inferences: int) -> None:
    for number in range(inferences):
        one, other = found.infer(number), expected.infer(number)
        same(one.plus, other.plus)
        same(one.minus, other.minus)
        assert torch.equal(here(one.prediction), other.prediction)
        assert asdict(one.counts) == asdict(other.counts)
        assert one.trace.state_dict() == other.trace.state_dict()
        assert (one.ticks, one.time) == (other.ticks, other.time)
        same(found.simulation.gradients(), expected.simulation.gradients())


# "damped" asks for spectral norms wherever weights change, which takes long here.
ALL = [
    Case(network, schedule, unit, init, learn_every and "aro", learn_every, effects)
    for network in ("mlp", "conv", "skip")
    for schedule in SCHEDULES
    for unit in ("population", "neuron", "tile", "channel")
    for init, learn_every in (("zero", None), ("feedforward", 3), ("carry", None))
    for effects in (False, True)
]


@pytest.mark.parametrize("case", ALL[::11], ids=str)
def test_the_same_elsewhere(case: Case, elsewhere: Elsewhere) -> None:
    """Nothing is mixed with what is on the host, and nothing depends on where it is."""
    compare(case.build(device=AWAY), case.build(), 2)


def test_faults_are_there_too(elsewhere: Elsewhere) -> None:
    faults = ns.Faults(dead=0.2, stuck=0.2, stuck_at=0.5, weight_noise=0.1)
    case = Case("conv", "random_order", "tile")
    found, expected = (case.build(device=d, faults=faults) for d in (AWAY, "cpu"))
    compare(found, expected, 2)
    x = expected.data[0][0]
    prediction = found.simulation.predict(x.to(AWAY))
    assert torch.equal(here(prediction), expected.simulation.predict(x))


def test_probes_measure_there(elsewhere: Elsewhere) -> None:
    probes: list[Any] = ["residual", "gradient_angle", "reach", "messages", "in_flight"]
    case = Case("mlp", "parallel", effects=True)
    compare(*(case.build(device=d, probes=[*probes, "staleness"]) for d in (AWAY, "cpu")), 1)  # type: ignore[misc]


def test_goes_on_there(elsewhere: Elsewhere) -> None:
    case = Case("conv", "lazy", "channel", effects=True)
    whole, part = case.build(device=AWAY), case.build(device=AWAY)
    whole.start(0)
    whole.simulation.advance(4)
    part.simulation.load_state_dict(whole.simulation.state_dict())
    for setup in (whole, part):
        setup.simulation.advance()
    found, expected = part.simulation.finish(), whole.simulation.finish()
    same(found.plus, {name: here(values) for name, values in expected.plus.items()})
    assert asdict(found.counts) == asdict(expected.counts)


def test_another_default_of_torch_is_refused_in_words() -> None:
    network = ns.Network.from_dict({"input": 4, "layers": [{"dense": 3}]})
    model = ns.Model(network)
    said = "torch makes its tensors on 'meta' by default .* give device='cuda'"
    with torch.device("meta"):
        with pytest.raises(ns.ConfigurationError, match=said):
            ns.Model(network)
        with pytest.raises(ns.ConfigurationError, match=said):
            ns.Simulation(model, schedule="parallel")


# ---- how often it is waited for ------------------------------------------------------------------


def waits(setup: Setup, mode: Elsewhere, inferences: int = 2) -> list[list[str]]:
    """What each tick waits for."""
    found = []
    for number in range(inferences):
        setup.start(number)
        while not setup.simulation.done:
            found.append(mode.during(lambda: setup.simulation.advance(1)))
        setup.simulation.finish()
    return found


QUIET: dict[str, Any] = {"probes": []}
CLOCKED = ["forward", "backward", "forward_backward", "odd_even", "parallel", "random_order"]
CHANNELS = {
    "ideal": ns.Channel(),
    "threshold": ns.Channel(threshold=0.05),
    "refresh": ns.Channel(threshold=0.05, refresh=2),
    "delay": ns.Channel(delay=2.0),
    "delay and threshold": ns.Channel(threshold=0.05, delay=2.0),
    "quantize": ns.Channel(delay=1.0, quantize=ns.Quantize(8, 4.0)),
    "noise": ns.Channel(delay=2.0, noise=0.1),
    "stochastic": ns.Channel(quantize=ns.Quantize(6, 4.0, "stochastic")),
}


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("schedule", CLOCKED)
@pytest.mark.parametrize("network", ["mlp", "conv", "skip"])
def test_once_in_a_tick(network: str, schedule: str, channel: str, elsewhere: Elsewhere) -> None:
    channels = ns.Channels(CHANNELS[channel], CHANNELS[channel])
    setup = Case(network, schedule).build(device=AWAY, channels=channels, **QUIET)
    found = waits(setup, elsewhere)
    assert max(map(len, found)) == 1, found
    drawn = channel in ("refresh", "noise", "stochastic")
    assert (elsewhere.uploads > 0) == drawn


@pytest.mark.parametrize("unit", ["neuron", "channel", "tile", "column"])
@pytest.mark.parametrize("schedule", [*CLOCKED, "poisson", "periodic", "replay"])
def test_once_in_a_tick_of_some_units(schedule: str, unit: str, elsewhere: Elsewhere) -> None:
    """Who wakes is told to the device without waiting for it."""
    found = waits(Case("conv", schedule, unit).build(device=AWAY, **QUIET), elsewhere)
    assert max(map(len, found)) == 1, found


def test_a_difference_that_ends_unit_by_unit(elsewhere: Elsewhere) -> None:
    """Whether anything is left of it is asked together with all the rest."""
    schedule = ns.schedules.RandomOrder(unit="neuron", groups=3, passes=4)
    setups = []
    for device in (AWAY, "cpu"):
        setup = Case("mlp", "random_order").build(
            device=device, schedule=schedule, init="carry", rule=ns.DualPropagation(), **QUIET
        )
        setup.infer(0)
        # Without a target the outputs are nudged no longer.
        setup.simulation.start(setup.data[1][0])
        found = []
        while not setup.simulation.done:
            found.append(elsewhere.during(lambda: setup.simulation.advance(1)))  # noqa: B023
        assert max(map(len, found)) == (device == AWAY)
        assert setup.simulation.state.cells[-1].difference.tensor is None
        setups.append(setup)
    assert asdict(setups[0].simulation.counts) == asdict(setups[1].simulation.counts)


@pytest.mark.parametrize(
    ("channel", "most"),
    [
        (ns.Channel(), 2),
        (ns.Channel(threshold=0.02), 2),
        (ns.Channel(delay=ns.Uniform(0.0, 3.0), loss=0.2), 3),
        (ns.Channel(jitter=ns.Uniform(0.0, 3.0), ordering="newest"), 3),
    ],
)
def test_listening_costs_one_more(channel: ns.Channel, most: int, elsewhere: Elsewhere) -> None:
    """News is needed on the host. Who may see another winner of a pool is asked with the rest."""
    case = Case("conv", "lazy", "tile")
    setup = case.build(device=AWAY, channels=ns.Channels(channel, channel), **QUIET)
    setup.start(0)
    found = [elsewhere.during(lambda: setup.simulation.advance(1)) for _ in range(8)]
    assert max(map(len, found)) <= most, found


@pytest.mark.parametrize(
    "channel",
    [
        ns.Channel(delay=2.0, loss=0.2),
        ns.Channel(delay=ns.Uniform(0.0, 4.0)),
        ns.Channel(jitter=ns.Uniform(0.0, 3.0)),
        ns.Channel(jitter=ns.Uniform(0.0, 3.0), ordering="newest", delay=1.0),
    ],
)
def test_arrivals_cost_one_more(channel: ns.Channel, elsewhere: Elsewhere) -> None:
    """All lines together, where the host cannot know whether there are any."""
    setup = Case("skip", "parallel").build(
        device=AWAY, channels=ns.Channels(channel, channel), **QUIET
    )
    found = waits(setup, elsewhere)
    assert max(map(len, found)) == 2, found
    if not channel.jittery:  # only until the error has come down
        assert sum(map(len, found)) < 1.5 * len(found)


def test_a_gradient_waits_once(elsewhere: Elsewhere) -> None:
    """To be known as finite before it moves a weight."""
    setup = Case("conv", "parallel").build(device=AWAY, **QUIET)
    setup.infer(0)
    optimizer = torch.optim.SGD(setup.simulation.model.parameters(), lr=0.1)
    assert elsewhere.during(lambda: setup.simulation.learn(optimizer)) == ["_local_scalar_dense"]


def test_the_count_is_honest(elsewhere: Elsewhere) -> None:
    """What makes a host wait is seen, what does not is not."""
    values = torch.arange(4.0).to(AWAY, non_blocking=True)
    assert (elsewhere.uploads, elsewhere.waits) == (1, [])
    assert elsewhere.during(lambda: values.mul_(2).add(1).sum()) == []
    for read in (
        lambda: values.sum().item(),
        lambda: bool(values.any()),
        lambda: values.tolist(),
        lambda: values.cpu(),
        lambda: values.nonzero(),
        lambda: values[values > 1],
        lambda: torch.arange(4.0).to(AWAY),
        lambda: values.copy_(torch.arange(4.0)),
        lambda: torch.unique(values),
        lambda: float(values[1]),
    ):
        assert len(elsewhere.during(read)) == 1
    assert values.tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(AssertionError, match="two devices"):
        values + torch.ones(4)
    with pytest.raises((RuntimeError, TypeError)):
        values.numpy()


def test_flags_are_read_at_once(elsewhere: Elsewhere) -> None:
    flags = Flags()
    there = upload(stream(0, "some").random(3), AWAY)
    places = [flags.add(v) for v in (7, there.count_nonzero(), True, there.isfinite().all())]
    assert elsewhere.waits == []
    values = flags.read()
    assert [values[place] for place in places] == [7, 3, 1, 1]
    assert len(elsewhere.waits) == 1
    assert Flags().read() == []


def test_uploads_are_the_array_itself_on_the_cpu() -> None:
    array = np.arange(3)
    assert upload(array, torch.device("cpu")).data_ptr() == array.ctypes.data
