"""Single dyads and synapses, followed: against a walk through the simulation by hand."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import neurosim as ns

NETWORK = {
    "input": [1, 4, 4],
    "layers": [{"name": "c", "conv": 2}, {"name": "h", "dense": 5}, {"name": "y", "dense": 3}],
}
DYADS: dict[str, Any] = {"c": (0, 31), "y": (2,)}
EVERYTHING = ("plus", "minus", "mean", "difference", "potential", "sent_mean", "sent_difference")


def simulation(**options: Any) -> tuple[ns.Simulation, torch.Tensor, torch.Tensor]:
    model = ns.Model(ns.Network.from_dict(NETWORK), seed=3, dtype=torch.float64)
    rule, schedule = ns.DualPropagation(0.25, 0.5), ns.schedules.Parallel(8)
    sim = ns.Simulation(model, rule=rule, schedule=schedule, **options)
    generator = torch.manual_seed(0)
    x = torch.rand(4, 1, 4, 4, generator=generator, dtype=torch.float64)
    return sim, x, torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]]


def test_it_is_what_a_walk_finds() -> None:
    probe = ns.Probe("states", dyads=DYADS, what=EVERYTHING, sample=2, weights={"h.weight": (7,)})
    sim, x, target = simulation(probes=[probe])
    trace = sim.infer(x, target).trace["states"]
    assert [record["tick"] for record in trace] == list(range(1, 9))
    walked, x, target = simulation()
    walked.start(x, target)
    for record in trace:
        walked.advance(1)
        for name, chosen in DYADS.items():
            cell = walked.state.by_name[name]
            plus, minus = (s.value[2].flatten() for s in (cell.plus, cell.minus))
            seen = cell.outlets["mean"][0].sent.value[2].flatten() if name != "y" else None
            for n in chosen:
                key = f"{name}[{n}]"
                assert record["plus"][key] == plus[n]
                assert record["minus"][key] == minus[n]
                assert record["difference"][key] == plus[n] - minus[n]
                assert record["mean"][key] == torch.lerp(minus, plus, 0.25)[n]
                assert record["potential"][key] == cell.potential()[2].flatten()[n]
                if seen is not None:
                    assert record["sent_mean"][key] == seen[n]
        assert record["weight"] == {
            "h.weight[7]": float(walked.model.get_parameter("h.weight").detach().flatten()[7])
        }


def test_nothing_changes_by_looking() -> None:
    plain, x, target = simulation()
    watched, *_ = simulation(probes=[ns.Probe("states", dyads=DYADS, every=3)])
    for sim in (plain, watched):
        sim.infer(x, target)
    for name in ("c", "h", "y"):
        assert torch.equal(*(sim.state.by_name[name].plus.value for sim in (plain, watched)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dyads": {"z": (0,)}}, "unknown population 'z'"),
        ({"dyads": {"y": (3,)}}, "'y' has 3, from 0 to 2: there is no 3"),
        ({"weights": {"y.wight": (0,)}}, "did you mean 'y.weight'"),
        ({"dyads": {"y": (0,)}, "what": ("spikes",)}, "what"),
    ],
)
def test_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ns.ConfigurationError, match=said):
        simulation(probes=[ns.Probe("states", **options)])


def test_a_sample_that_is_not_there() -> None:
    sim, x, target = simulation(probes=[ns.Probe("states", dyads=DYADS, sample=4)])
    with pytest.raises(ns.ConfigurationError, match="no sample 4 in a batch of 4"):
        sim.infer(x, target)


@pytest.mark.drawn
def test_in_a_run(tmp_path: Path) -> None:
    probe = {"kind": "states", "dyads": {"h1": [0, 5]}, "what": ["mean"], "every": 2}
    overrides = {"training.epochs": 2, "data.limit": 100, "probes": [probe]}
    run = ns.run("parallel", overrides, out=tmp_path)
    records = run.records["states"]
    assert {"mean.h1[0]", "mean.h1[5]"} <= set(records[0])
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    kept = [r for line in lines if (r := json.loads(line)).get("probe") == "states"]
    assert len(kept) == len(records) > 0
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Dyads: mean s̄" in page
    assert "Dyads: s⁺" not in page


def test_a_potential_is_that_of_the_last_wake() -> None:
    """Of a pooled population too: what arrives between two wakes is not in it."""
    layers = [{"name": "c", "conv": 3, "pool": "max"}, {"name": "d", "conv": 2, "pool": "max"}]
    network = ns.Network.from_dict({"input": [1, 8, 8], "layers": [*layers, {"dense": 3}]})
    probes = [ns.Probe("states", dyads={"d": tuple(range(8))}, what=("potential",)), "wakes"]
    schedule = ns.schedules.Poisson(rate=0.3, duration=20.0)
    sim = ns.Simulation(ns.Model(network, seed=1), schedule=schedule, probes=probes, seed=3)
    trace = sim.infer(
        torch.rand(1, 1, 8, 8, generator=torch.manual_seed(0)), torch.eye(3)[:1]
    ).trace
    woke = {(r["tick"], n) for r in trace["wakes"] if r["population"] == "d" for n in r["indices"]}
    for before, after in pairwise(trace["states"]):
        for n in range(8):
            if (after["tick"], n) not in woke:
                assert after["potential"][f"d[{n}]"] == before["potential"][f"d[{n}]"]
