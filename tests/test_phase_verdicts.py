"""The convergence of rules with phases: a fixed point and a verdict for each of them.

What the verdicts must be says the plain iteration of `test_pooled_settling`, which knows nothing of
phases, schedules or messages: here it goes on from phase to phase.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from phased_simulations import EP, batch, build, weak_model
from test_pooled_settling import model_of, network_of, step
from torch import Tensor
from two_winners import contest

import neurosim as ns
from neurosim.cli.main import main
from neurosim.convergence import InferenceMeasurement, fixed_points_of
from neurosim.measures.gradients import true_gradient
from tests.shipped import ROOT

BETA, TICKS = 0.4, 400
CHL = ns.ContrastiveHebbian(1.0, 1)
RULES = {"ep": ns.EquilibriumPropagation(BETA, free=1), "chl": CHL}
# What the output is pulled to in each phase: β of EP, or clamped.
PHASES: dict[str, dict[str, float | None]] = {
    "ep": {"free": 0.0, "plus": BETA, "minus": -BETA},
    "chl": {"free": 0.0, "clamped": None},
}
Y = torch.eye(3, dtype=torch.float64)[:2]


def pooled(seed: int, gain: float) -> tuple[ns.Model, Tensor]:
    """A model with max-pooling, with weights ``gain`` times as large, and two inputs."""
    model = model_of(network_of(seed), seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.mul_(gain if name.endswith("weight") else 1.0)
    generator = torch.Generator().manual_seed(seed)
    return model, torch.rand(2, 2, 8, 8, generator=generator, dtype=torch.float64)


def plain(
    model: ns.Model, states: list[Tensor], beta: float | None, sets: list[list[int]]
) -> tuple[int | None, list[Tensor]]:
    """Iterates so many ticks; says after how many the states come back (1: they rest)."""
    past: list[Tensor] = []
    for _ in range(TICKS):
        for together in sets:
            states = step(model, states, together)
            if len(states) - 1 in together:
                states[-1] = Y if beta is None else (states[-1] + beta * Y) / (1 + beta)
        past.append(torch.cat([state.flatten() for state in states[1:]]))
    for period in range(1, 9):
        if all((past[-k] - past[-k - period]).abs().max() < 1e-9 for k in range(1, 9)):
            return period, states
    return None, states


def starts(model: ns.Model, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """All zero, as the simulation starts, and the feed-forward pass, as the search does."""
    zero = [x, *(x.new_zeros(2, *population.shape) for population in model.network.dyadic)]
    forward = list(zero)
    for number in range(1, len(zero)):
        fed = [
            *forward[: number + 1],
            *(torch.zeros_like(state) for state in forward[number + 1 :]),
        ]
        forward[number] = step(model, fed, [number])[number]
    return zero, forward


def verdicts_of(name: str, model: ns.Model, x: Tensor, sets: list[list[int]]) -> dict[str, str]:
    """What the verdicts must be."""
    zero, forward = starts(model, x)
    found: dict[str, str] = {}
    for phase, beta in PHASES[name].items():
        # Those after the first one begin where that has ended.
        period, here = plain(model, zero, beta, sets)
        _, there = plain(model, forward, beta, sets)
        if phase == "free":
            zero, forward = here, there
        apart = max(float((a - b).abs().max()) for a, b in zip(here, there, strict=True))
        if period == 1:
            found[phase] = "several_fixed_points" if apart > 1e-4 else "converged"
        else:
            found[phase] = f"oscillates: the states come back every {period} ticks"
    return found


@pytest.mark.parametrize(
    ("name", "seed", "gain"),
    [
        ("ep", 2, 1.0),
        ("chl", 0, 1.0),
        ("ep", 1, 1.0),
        pytest.param("chl", 1, 1.0, marks=pytest.mark.slow),
        pytest.param("ep", 11, 1.0, marks=pytest.mark.slow),
        pytest.param("chl", 8, 5.0, marks=pytest.mark.slow),
        pytest.param("ep", 8, 5.0, marks=pytest.mark.slow),
    ],
)
def test_verdicts_are_those_of_the_plain_iteration(name: str, seed: int, gain: float) -> None:
    """With max-pooling some networks have several fixed points, and at large weights all layers at
    once come back every second tick."""
    model, x = pooled(seed, gain)
    expected = verdicts_of(name, model, x, [list(range(1, len(model.network.dyadic) + 1))])
    simulation = ns.Simulation(
        model, rule=RULES[name], schedule=ns.schedules.Parallel(ticks=TICKS), init="zero"
    )
    found = ns.measure_convergence(simulation, x, Y, every=50, tolerance=1e-6, sweeps=1000)
    said = {
        phase: f"{one.verdict}: {one.reason}" if one.verdict == "oscillates" else one.verdict
        for phase, one in found.phases.items()
    }
    assert said == expected
    bad = [phase for phase, verdict in expected.items() if verdict != "converged"]
    assert found.verdict == found.phases[bad[0] if bad else "free"].verdict
    assert not bad or found.reason.startswith(f"{bad[0]}: ")


def test_an_oscillation_within_a_short_phase() -> None:
    """Eight ticks are enough where the states come back exactly; where they still move to a fixed
    point, as with smaller weights, they are no oscillation."""
    for gain, expected in ((5.0, "oscillates"), (2.0, "not_converged")):
        model, x = pooled(8, gain)
        simulation = ns.Simulation(
            model,
            rule=ns.EquilibriumPropagation(BETA, free=20),
            schedule=ns.schedules.Parallel(ticks=8),
            init="zero",
        )
        found = ns.measure_convergence(simulation, x, Y, tolerance=1e-6, sweeps=600)
        for phase in ("plus", "minus"):
            assert found.phases[phase].verdict == expected
        every = list(range(1, len(model.network.dyadic) + 1))
        _, free = plain(model, starts(model, x)[0], 0.0, [every])  # 400 ticks: an even number more
        period, _ = plain(model, free, BETA, [every])
        assert period == (2 if expected == "oscillates" else 1)


@pytest.mark.parametrize("name", RULES)
def test_fixed_points_are_those_of_the_plain_iteration(name: str) -> None:
    model, x = pooled(2, 1.0)
    sets = [list(range(1, len(model.network.dyadic) + 1))]
    states, free = starts(model, x)[1], None
    for phase, beta in PHASES[name].items():
        period, states = plain(model, states if free is None else free, beta, sets)
        free = states if free is None else free
        assert period == 1
        found = ns.fixed_point(model, x, Y, rule=RULES[name], phase=phase)
        assert (found.phase, found.reached) == (phase, True)
        assert (found.gradients is None) == (phase != list(PHASES[name])[-1])
        for population, state in zip(model.network.dyadic, states[1:], strict=True):
            assert (found.mean[population.name] - state).abs().max() < 1e-10
    assert ns.fixed_point(model, x, Y, rule=RULES[name]).phase == phase
    alone = ns.fixed_point(model, x, rule=RULES[name])
    assert (alone.phase, alone.gradients) == ("free", None)


def test_a_winner_that_sustains_itself() -> None:
    """The free phase rests where the winner of before wins again."""
    model, won, neither, y = contest(0.6, activation="hard_sigmoid")
    simulation = ns.Simulation(
        model, rule=ns.EquilibriumPropagation(0.2, free=2), schedule="parallel", init="carry"
    )
    verdicts = []
    for before in won:
        simulation.infer(before, y)
        found = ns.measure_convergence(simulation, neither, y, tolerance=1e-6)
        verdicts.append(found.verdict)
        assert found.reason.startswith("free: the states rest at another fixed point")
    assert verdicts == ["several_fixed_points"] * 2


def test_the_numbers_of_phases() -> None:
    """Records name their phase and are measured against its fixed point; the gradient is that of
    all phases, and known in the last one."""
    model, (x, y) = weak_model(), batch()
    simulation = build(model, rule=EP, schedule=ns.schedules.Parallel(60))
    found = ns.measure_convergence(simulation, x, y, every=7, tolerance=1e-3)
    assert list(found.phases) == ["free", "plus", "minus"]
    assert [len(phase.records) for phase in found.phases.values()] == [19, 9, 10]
    assert len(found.records) == 38
    assert [phase.records[-1]["tick"] for phase in found.phases.values()] == [120, 180, 240]
    for name, phase in found.phases.items():
        exact = ns.fixed_point(model, x, y, rule=EP, phase=name)
        assert {record["phase"] for record in phase.records} == {name}
        assert (phase.reference.phase, phase.reference.sweeps) == (name, exact.sweeps)
        last = name == "minus"
        assert (phase.records[-1]["gradient_angle"] is not None) == last
    at_end = {cell.name: cell.plus.value for cell in simulation.state.cells}
    distance = sum(float((at_end[n] - v).norm()) ** 2 for n, v in exact.mean.items()) ** 0.5
    size = sum(float(v.norm()) ** 2 for v in exact.mean.values()) ** 0.5
    record = found.records[-1]
    assert record["distance_mean"] == pytest.approx(distance / size)
    truth = true_gradient(simulation.state, EP, simulation.nudge)
    assert truth is not None
    aligned = ns.metrics.alignment(simulation.gradients(), truth)
    assert record["gradient_angle"] == pytest.approx(aligned[""].angle, rel=1e-6)
    assert {r.get("reference") for r in found.phases["minus"].records} == {"settled"}
    assert record["objective"] is None


def test_what_there_is_not() -> None:
    model, (x, y) = weak_model(), batch()
    with pytest.raises(ns.ConfigurationError, match=r"'nudge', which is none .*: 'free', 'plus'"):
        ns.fixed_point(model, x, y, rule=EP, phase="nudge")
    with pytest.raises(ns.ConfigurationError, match="it has none"):
        ns.fixed_point(model, x, y, phase="free")
    alone = ns.measure_convergence(build(model, rule=EP), x)
    assert list(alone.phases) == ["free"]


def test_no_fixed_point_in_the_first_phase() -> None:
    found = ns.fixed_point(weak_model(), *batch(), rule=EP, sweeps=2)
    assert (found.phase, found.problem) == ("minus", "the phase before it has no fixed point")


def test_the_sign_of_the_inference_that_is_measured() -> None:
    rule = ns.EquilibriumPropagation(0.3, variant="random_sign", free=2)
    simulation = build(rule=rule, schedule=ns.schedules.Parallel(100))
    for _ in range(4):
        found = ns.measure_convergence(simulation, *batch(), tolerance=1e-3)
        assert found.verdict == "converged"


@pytest.mark.parametrize(
    ("moved", "verdict", "why"),
    [
        (0.0, "several_fixed_points", "the states rest at another fixed point"),
        (1.0, "not_converged", "the states rest where the output of the first phase has them"),
    ],
)
def test_where_the_first_phase_ended_elsewhere(moved: float, verdict: str, why: str) -> None:
    """What coupled learning clamps to depends on that: it is no second fixed point."""
    rule = ns.CoupledLearning(variant="one_sided", discount=0.5)
    simulation = build(rule=rule, schedule=ns.schedules.Parallel(150))
    free, clamped = fixed_points_of(simulation, *batch())
    references = [
        replace(free, mean={name: state + moved for name, state in free.mean.items()}),
        replace(clamped, mean={name: state + 1.0 for name, state in clamped.mean.items()}),
    ]
    measurement = InferenceMeasurement(simulation, *batch(), references=references, every=50)
    assert list(measurement.run())
    found = measurement.result().phases["nudged"]
    assert found.reason.startswith(why)
    assert found.verdict == verdict


@pytest.mark.parametrize("name", ["equilibrium_propagation", "holomorphic_ep"])
def test_the_command_line_and_the_page(name: str, tmp_path: Path) -> None:
    short = ["data.limit=60", "study.samples=3", "--out", str(tmp_path), "--id", "x"]
    path = str(ROOT / f"scenarios/{name}.yaml")
    result = CliRunner().invoke(main, ["converge", path, *short])
    assert result.exit_code == 0, result.output
    folder = tmp_path / name / "x"
    summary = json.loads((folder / "summary.json").read_text())
    page = (folder / "report.html").read_text()
    assert summary["phases"]["free"]["verdict"] == "converged"
    assert "Every phase against its own fixed point" in page
    for phase, found in summary["phases"].items():
        said_of = rf"^phase +{phase}: {found['verdict']}: {re.escape(found['reason'])}$"
        assert re.search(said_of, result.output, re.M)
        assert f"fixed point  {phase}: residual" in result.output
        assert found["reason"] in page
    said = page.split('<h2 id="scenario"')[0]
    assert "Angle to the gradient of the settled network" in said
    assert "back-propagation" not in said
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    phases = [json.loads(line)["phase"] for line in lines]
    assert list(dict.fromkeys(phases)) == list(summary["phases"])
