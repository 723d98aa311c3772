"""Probes as a family: by name, in documents, and a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from small_simulations import X, Y
from small_simulations import build as simulated

import neurosim as ns
from neurosim.base import PluginError
from neurosim.cli.main import main
from neurosim.conformance import attempt, checks_of
from neurosim.families import build, described, model_of, register
from neurosim.measures import Observation, gradients, in_order
from neurosim.measures.probes import LossProbe, ResidualProbe

ROOT = Path(__file__).parents[1]


@pytest.fixture(name="norms")
def _norms() -> Iterator[type[ns.Probe]]:
    @register("norms")
    @dataclass(frozen=True)
    class Norms(ns.Probe):
        """Records the norm of s⁺ to some power."""

        power: int = 1

        def measure(self, seen: Observation) -> dict[str, Any]:
            cells = seen.state.cells
            return {"norm": {c.name: float(c.plus.value.norm()) ** self.power for c in cells}}

    yield Norms
    ns.Probe.family.remove("norms")


def simulation(probes: Any) -> ns.Simulation:
    network = ns.Network.from_dict({"input": 2, "layers": [{"dense": 3}, {"dense": 2}]})
    schedule = ns.schedules.Parallel(6)
    return ns.Simulation(ns.Model(network, seed=0), schedule=schedule, probes=probes)


def test_by_name() -> None:
    assert ns.Probe("residual", every=2) == ns.Probe.of("residual", every=2)
    assert ns.Probe("residual", 2) == ResidualProbe(every=2)
    assert ns.Probe(kind="loss") == LossProbe(every=10)
    assert ns.Probe("residual").kind == "residual"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ns.Probe("residul"), "unknown probe 'residul'; did you mean 'residual'"),
        (lambda: ns.Probe("residual", every=0), "every is 0; it must be at least 1"),
        (lambda: ns.Probe(), "the probe must be a Probe or one of"),
        (lambda: simulation(["loss"]), "the probe loss is recorded by training, every so many st"),
        (lambda: in_order([ns.Probe("reach"), ns.Probe("reach", 2)]), "'reach' is named twice"),
    ],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=message):
        make()


def test_records_are_written_in_one_order() -> None:
    """Whatever the order in which they are named."""
    names = ["staleness", "loss", "wakes", "residual", "gradient_angle"]
    kinds = [probe.kind for probe in in_order([ns.Probe(name) for name in names])]
    assert kinds == ["residual", "gradient_angle", "wakes", "staleness", "loss"]


def test_the_order_is_that_of_registration(norms: Any) -> None:
    family = ns.Probe.family
    backwards = [ns.Probe(name) for name in reversed(family.registered)]
    assert backwards[0] == norms()
    assert [probe.kind for probe in in_order(backwards)] == family.registered
    assert sorted(family.registered) == list(family)


def test_no_probe_can_be_called_phase() -> None:
    """Its records would stand among those of the phases."""
    with pytest.raises(PluginError, match="no probe can be 'phase', which is what a trace calls"):

        @register("phase")
        @dataclass(frozen=True)
        class Phase(ns.Probe):
            def measure(self, seen: Observation) -> None: ...

    assert "phase" not in ns.Probe.family


def test_an_own_probe_records_as_others_do(norms: Any) -> None:
    made = simulation([norms(every=4, power=2), "residual"])
    outcome = made.infer(torch.ones(1, 2), torch.ones(1, 2))
    assert [record["tick"] for record in outcome.trace["norms"]] == [4, 6]
    expected = {name: float(outcome.plus[name].norm()) ** 2 for name in ("layer1", "output")}
    found = outcome.trace["norms"][-1]["norm"]
    assert found == pytest.approx({k: v for k, v in expected.items() if k in found}, rel=1e-6)
    assert not any(attempt(check) for check in checks_of(norms))


def test_an_own_probe_in_a_document(norms: Any) -> None:
    @dataclass(frozen=True)
    class Chosen:
        probes: tuple[ns.Probe, ...]

    said = {"probes": ["norms", {"kind": "norms", "power": 3}, {"kind": "residual", "every": 4}]}
    made = build(model_of(Chosen).model_validate_json(json.dumps(said)))
    assert made.probes == (norms(), norms(power=3), ns.Probe("residual", every=4))
    assert build(model_of(Chosen).model_validate_json(json.dumps(described(made)))) == made


def test_an_own_probe_in_a_run(norms: Any, tmp_path: Path) -> None:
    options = ["--quiet", "--out", str(tmp_path), "--id", "x", "data.limit=100"]
    probes = "probes=[{kind: norms, every: 3}, reach]"
    arguments = [
        "run",
        str(ROOT / "scenarios/parallel.yaml"),
        *options,
        "training.epochs=1",
        probes,
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    lines = (tmp_path / "parallel/x/metrics.jsonl").read_text().splitlines()
    kinds = [event["probe"] for event in map(json.loads, lines) if event["event"] == "trace"]
    assert set(kinds) == {"norms", "reach"}
    assert "kind: norms" in (tmp_path / "parallel/x/scenario.yaml").read_text()


def test_back_propagation_is_computed_once_for_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not depend on states: one for all ticks, until a weight or the batch is another."""
    computed, usual = [0], gradients.back_propagation

    def counted(*arguments: Any) -> dict[str, torch.Tensor]:
        computed[0] += 1
        return usual(*arguments)

    monkeypatch.setattr(gradients, "back_propagation", counted)
    simulation = simulated(ns.schedules.Parallel(8), probes=["gradient_angle"])
    model, loss = simulation.model, simulation.loss
    weight = model.parameter("a", "weight")
    assert weight is not None

    def goes_on(ticks: int, times: int) -> None:
        simulation.advance(ticks)
        assert computed == [times]
        true = usual(model, loss, X, Y)
        angle = gradients.alignment(simulation.gradients(), true)[""].angle
        assert simulation.trace["gradient_angle"][-1]["total_angle"] == angle

    simulation.start(X, Y)
    goes_on(4, 1)
    with torch.no_grad():
        weight *= 1.5
    goes_on(1, 2)
    weight.data.mul_(1.5)
    simulation.weights_changed()
    goes_on(2, 3)
    simulation.finish()
    simulation.start(2 * X, Y)
    simulation.advance(1)
    assert computed == [4]
