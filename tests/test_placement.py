"""Populations on several devices: the CPU, and two that are not there (`away`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from away import AWAY, FARTHER, Elsewhere, here
from click.testing import CliRunner
from small_trainings import make

import neurosim as ns
from neurosim.cli.main import main
from neurosim.conformance.simulations import Setup
from neurosim.learning.trainer import TrainingPlan
from neurosim.network import groups_of
from neurosim.scenario import Scenario
from tests.conformance.cases import Case, network_named

CPU = torch.device("cpu")
# Of each network two placements: one that is cut in two, one in which messages go to and fro.
PLACES: dict[str, list[dict[str, Any]]] = {
    "mlp": [{"input..h1": CPU, "rest": AWAY}, {"h1": AWAY, "h2": FARTHER, "rest": CPU}],
    "conv": [{"input..c1": AWAY, "rest": CPU}, {"c1": AWAY, "c2": CPU, "rest": FARTHER}],
    "skip": [{"h2": AWAY, "rest": CPU}, {"input": CPU, "h1": AWAY, "rest": FARTHER}],
    "plus": [{"c1": AWAY, "rest": CPU}, {"c2": AWAY, "p": FARTHER, "rest": CPU}],
    "feedback": [{"c1..c2": CPU, "rest": AWAY}, {"c2": AWAY, "h": FARTHER, "rest": CPU}],
}
PLACES["jacobian"] = PLACES["feedback"]
PLACES["smooth"] = [{"input..p2": CPU, "rest": AWAY}, {"p2": AWAY, "h2": FARTHER, "rest": CPU}]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as found:
        yield found


def told(setup: Setup) -> dict[str, Any]:
    """All that an inference has left, on the host."""
    simulation = setup.simulation
    outcome = simulation.finish()
    tensors = {"prediction": outcome.prediction} | simulation.gradients()
    tensors |= {f"{n}.+": v for n, v in outcome.plus.items()}
    tensors |= {f"{n}.-": v for n, v in outcome.minus.items()}
    tensors |= {f"{n} itself": v.detach() for n, v in simulation.model.state_dict().items()}
    numbers = asdict(outcome.counts), outcome.trace.state_dict(), outcome.ticks
    return {"numbers": numbers} | {name: here(value) for name, value in tensors.items()}


def compare(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.pop("numbers") == expected.pop("numbers")
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def run(setup: Setup, number: int) -> dict[str, Any]:
    setup.start(number)
    setup.simulation.advance()
    return told(setup)


CASES = [
    Case("mlp", "forward_backward", "neuron", "feedforward", "proximal", 3, effects=True),
    Case("mlp", "parallel", init="carry", rule="lpom"),
    Case("mlp", "random_order", "neuron", rule="ep"),
    Case("conv", "poisson", "tile", "carry", None, 3),
    Case("conv", "lazy", "channel", effects=True),
    Case("conv", "parallel", "population", "feedforward", "prediction"),
    Case("skip", "lazy", "neuron", "feedforward", effects=True),
    Case("skip", "parallel", "population", "zero", "damped", 3, effects=True),
    Case("plus", "lazy", "channel", rule="damped"),
    Case("feedback", "random_order", "column", "feedforward", None, 3),
    Case("jacobian", "backward", "neuron", "feedforward", "dtp", 3),
    Case("smooth", "parallel", "population", rule="holomorphic"),
    Case("smooth", "random_order", "neuron", rule="holomorphic", effects=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(2))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_bits(case: Case, turn: int, elsewhere: Elsewhere) -> None:
    """States, gradients, weights, messages and what probes see, in both process modes."""
    devices, modes = PLACES[case.network][turn], ("population", "neuron")
    placed = case.build(devices=devices, processes=modes[turn])
    plain = case.build(processes=modes[1 - turn])
    for number in range(2):
        compare(run(placed, number), run(plain, number))
    for name, cell in placed.simulation.state.by_name.items():
        there = placed.simulation.state.devices[name]
        assert {cell.plus.value.device, cell.minus.value.device} == {there}
    assert elsewhere.crossed > 0


def on_others(setup: Setup, case: Case, devices: dict[str, Any]) -> Setup:
    """The same, on other devices."""
    made = case.build(devices=devices)
    for old, new in zip(
        setup.simulation.model.parameters(), made.simulation.model.parameters(), strict=True
    ):
        new.detach().copy_(old.detach())
    if made.optimizer is not None and setup.optimizer is not None:
        made.optimizer.load_state_dict(setup.optimizer.state_dict())
    made.simulation.load_state_dict(setup.simulation.state_dict(), optimizer=made.optimizer)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("case", [CASES[0], CASES[4], CASES[7]], ids=str)
def test_goes_on_somewhere_else(case: Case, elsewhere: Elsewhere) -> None:
    """Every few ticks it is saved, and goes on with its populations on other devices."""
    places: list[Any] = [*PLACES[case.network], {}]
    moved, plain = case.build(), case.build()
    for number in range(2):
        for setup in (moved, plain):
            setup.start(number)
        turn = 0
        while not moved.simulation.done:
            moved = on_others(moved, case, places[turn % 3])
            moved.simulation.advance(3)
            turn += 1
        plain.simulation.advance()
        compare(told(moved), told(plain))
    assert turn > 1


@pytest.mark.slow
def test_what_asks_the_whole_network(elsewhere: Elsewhere) -> None:
    """The measures that go through all populations, predictions, objectives, twins and streams."""
    probes: list[Any] = ["residual", "gradient_angle", "reach", "messages"]
    case = Case("conv", "parallel", "population", "feedforward", "prediction")
    for devices in PLACES["conv"]:
        one, other = (case.build(devices=d, probes=probes) for d in (devices, None))
        compare(run(one, 0), run(other, 0))
        x = other.data[1][0]
        for answer in ("predict", "infer"):
            made = [getattr(s.simulation.twin(3), answer)(x) for s in (one, other)]
            found, expected = (getattr(m, "prediction", m) for m in made)
            assert torch.equal(here(found), expected)
        assert one.simulation.objective() == other.simulation.objective()


@pytest.mark.slow
def test_a_training_in_shards(elsewhere: Elsewhere) -> None:
    """Their gradients are added up on one device, and go back to those of the weights."""
    plan = TrainingPlan(epochs=2, batch_size=20, shards=3)
    found = []
    for devices in ({"h": AWAY, "rest": CPU}, {"input..h": CPU, "rest": AWAY}, None):
        trainer = make(plan, devices=devices)
        trainer.fit()
        weights = trainer.simulation.model.state_dict().values()
        found.append([here(weight.detach()) for weight in weights])
    for placed in found[:2]:
        assert all(map(torch.equal, placed, found[2]))


# ---- what it costs -------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_crosses(elsewhere: Elsewhere) -> None:
    """The values of a population cross once for each tick in which it has sent, and so do the
    potentials that are made of differences."""
    channels = ns.Channels()
    case = Case("mlp", "parallel", "population")
    setup = case.build(devices={"input..h1": CPU, "rest": AWAY}, channels=channels, probes=[])
    setup.infer(0)
    setup.start(1)
    ticks, before = 0, elsewhere.crossed
    while not setup.simulation.done:
        setup.simulation.advance(1)
        ticks += 1
    size, batch = setup.simulation.state.by_name["h1"].population.size, 3
    values = batch * size * setup.simulation.model.dtype.itemsize
    read = 8 * 8 * ticks  # numbers that the host asks for
    assert values < elsewhere.crossed - before <= 2 * ticks * values + read


# ---- names ---------------------------------------------------------------------------------------


def test_names() -> None:
    network = network_named("conv")
    assert groups_of(network, {"c1..c2": 0, "rest": 1}) == {
        "c1": "c1..c2", "c2": "c1..c2", "input": "rest", "out": "rest",
    }  # fmt: skip
    assert groups_of(network, {"c2": 0}) == {"c2": "c2"}


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ({"c3": "cpu"}, "unknown population 'c3'; did you mean 'c"),
        ({"c1..c9": "cpu"}, "unknown population 'c9'"),
        ({"c2..c1": "cpu"}, "'c1' comes before 'c2' in the network"),
        ({"c1..out": "cpu", "c2": "cpu"}, "'c2' is placed twice, by 'c1..out' and by 'c2'"),
        ({"rest": "tpu"}, "of 'rest': device is 'tpu'; it must be"),
        ({"out": "cuda:99"}, "of 'out': device is 'cuda:99', but"),
    ],
)
def test_refused(devices: dict[str, str], message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message) as found:
        ns.Simulation(ns.Model(network_named("conv")), schedule="parallel", devices=devices)
    assert found.value.option == ("devices", list(devices)[-1])


SCENARIO = """
name: placed
network: {input: 64, layers: [{name: h1, dense: 6}, {name: out, dense: 10}]}
data: {name: digits, limit: 40, batch_size: 20}
schedule: {kind: parallel, ticks: 4}
training: {epochs: 1}
device: cpu
devices: %s
"""


def test_in_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO % "{h1..out: cpu, h2: cpu}")
    found = CliRunner().invoke(main, ["validate", str(file)])
    assert "unknown population 'h2'" in found.output
    assert f"{file}:8:" in found.output, found.output
    file.write_text(SCENARIO % "{h1: cuda:0, rest: cuda:1}")  # which need not be here
    found = CliRunner().invoke(main, ["networks", str(file), "--batch", "20"])
    assert "20 samples, at most, on cuda:1" in found.output, found.output
    whole = Scenario.load(file, ["devices={}"]).memory(20)["cpu"]
    parts = Scenario.load(file).memory(20)
    assert sum(part.weights for part in parts.values()) == whole.weights
    assert sum(part.states for part in parts.values()) == whole.states


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO % "{h1: cpu}")
    folder = ns.run(file, overrides=["training.max_steps=1"], out=tmp_path).folder
    with pytest.raises(ns.DataError, match="devices"):
        ns.resume(folder, overrides=["training.max_steps=2", "faults.dead=0.1"])
    ns.resume(folder, overrides=["training.max_steps=2", "devices={out: cpu, rest: cpu}"])
    assert "rest: cpu" in (folder / "scenario.yaml").read_text()
