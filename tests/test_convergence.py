"""The measurement of convergence: its numbers computed anew, its times, and its verdicts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from settling_models import chain, loop, random

import neurosim as ns
from neurosim import metrics
from neurosim.convergence.measurement import InferenceMeasurement
from neurosim.measures import alpha_objective

X, Y = random(4, 5, seed=50), random(4, 3, seed=51)
RULE = ns.DualPropagation(alpha=0.5, beta=0.3, nudge="proximal")
POISSON = ns.schedules.Poisson(unit="neuron", rate=1.0, tick=0.5, duration=30.0)


def simulate(model: ns.Model | None = None, schedule: Any = POISSON, **more: Any) -> ns.Simulation:
    options: dict[str, Any] = {"rule": RULE, "init": "zero", "nudge_after": 0, "seed": 5}
    model = chain("tanh", 0.6) if model is None else model
    return ns.Simulation(model, schedule=schedule, **(options | more))


# ---- what is recorded --------------------------------------------------------------------------


def test_the_records_are_those_of_a_run_by_hand() -> None:
    """Another run of the same simulation, stopped at each tick and measured from its outcome."""
    found = ns.measure_convergence(simulate(), X, Y, every=3)
    exact = ns.fixed_point(chain("tanh", 0.6), X, Y, rule=RULE)
    model = chain("tanh", 0.6)
    assert [record["tick"] for record in found.records] == list(range(0, 61, 3))
    for record in found.records:
        simulation = simulate()
        simulation.start(X, Y)
        simulation.advance(record["tick"])
        counts = simulation.counts
        assert record["time"] == record["tick"] * 0.5 == simulation.time
        assert record["wakes"] == counts.wakes
        assert record["messages"] == counts.mean_messages + counts.difference_messages
        assert record["synaptic_operations"] == counts.synaptic_operations
        residual = metrics.residual(simulation.state, simulation.rule, simulation.nudge)
        assert record["residual_mean"] == residual.mean[""]
        assert record["residual_difference"] == residual.difference[""]
        assert record["objective"] == simulation.objective()
        alpha = alpha_objective(simulation.state, simulation.rule, simulation.nudge)
        assert record["objective_alpha"] == alpha
        local = simulation.gradients()
        bp = metrics.alignment(local, metrics.back_propagation(model, simulation.loss, X, Y))
        assert record["gradient_angle"] == pytest.approx(bp[""].angle, abs=1e-6)
        assert exact.gradients is not None
        there = metrics.alignment(local, exact.gradients)
        for name, values in record["parameters"].items():
            assert values["gradient_norm_ratio"] == pytest.approx(bp[name].norm_ratio)
            assert values["fixed_point_angle"] == pytest.approx(there[name].angle, abs=1e-4)
        outcome = simulation.finish()
        means = {n: (outcome.plus[n] + outcome.minus[n]) / 2 for n in outcome.plus}
        differences = {n: outcome.plus[n] - outcome.minus[n] for n in outcome.plus}
        for kind, states in (("mean", means), ("difference", differences)):
            stars = getattr(exact, kind)
            for name, values in record["populations"].items():
                distance = float((states[name] - stars[name]).norm() / stars[name].norm())
                assert values[f"distance_{kind}"] == pytest.approx(distance, abs=1e-12)
                assert values["reached"] == bool(differences[name].any())
            a, b = (torch.cat([s[n].flatten() for n in states]) for s in (states, stars))
            total = float((a - b).norm() / b.norm())
            assert record[f"distance_{kind}"] == pytest.approx(total, abs=1e-12)


def test_classes_and_arrays_are_taken_as_by_an_inference() -> None:
    classes = torch.tensor([0, 2, 1, 0])
    found = ns.measure_convergence(simulate(), X.numpy(), classes)  # type: ignore[arg-type]
    same = ns.measure_convergence(simulate(), X, torch.eye(3, dtype=X.dtype)[classes])
    assert found.records == same.records


def test_the_last_tick_is_recorded_once() -> None:
    for every, ticks in ((4, [0, 4, 8, 10]), (5, [0, 5, 10]), (100, [0, 10])):
        schedule = ns.schedules.Parallel(ticks=10)
        found = ns.measure_convergence(simulate(schedule=schedule), X, Y, every=every)
        assert [record["tick"] for record in found.records] == ticks


def test_measuring_changes_nothing() -> None:
    measured, plain = simulate(), simulate()
    found = ns.measure_convergence(measured, X, Y)
    outcome = plain.infer(X, Y)
    assert (found.records[-1]["wakes"], found.records[-1]["messages"]) == (
        outcome.wakes,
        outcome.messages,
    )
    for cell in measured.state.cells:
        assert torch.equal(cell.plus.value, outcome.plus[cell.name])
    again = ns.measure_convergence(simulate(), X, Y)
    assert found.records == again.records


def test_the_gradient_at_the_fixed_point_is_the_bias_of_beta() -> None:
    """Once settled, the angle to back-propagation is that of the fixed point, and small with β."""
    angles = []
    for beta in (0.5, 0.05):
        rule = ns.DualPropagation(alpha=0.5, beta=beta, nudge="proximal")
        found = ns.measure_convergence(simulate(rule=rule), X, Y)
        assert found.reference_alignment is not None
        last = found.records[-1]
        assert last["fixed_point_angle"] < 1e-3
        assert last["gradient_angle"] == pytest.approx(found.reference_alignment.angle, abs=1e-3)
        angles.append(found.reference_alignment.angle)
    assert angles[1] < angles[0] / 30  # an error of order β² at α = ½


def test_without_a_target() -> None:
    found = ns.measure_convergence(simulate(), X)
    last = found.records[-1]
    assert found.verdict == "converged"
    assert (last["gradient_angle"], last["fixed_point_angle"]) == (None, None)
    assert last["distance_difference"] == 0.0
    assert found.reach[""].time is None
    assert found.time_to_tolerance is not None


def test_a_network_with_a_cycle_has_no_back_propagation() -> None:
    x, y = random(3, 4, seed=50), random(3, 2, seed=51)
    schedule = ns.schedules.Parallel(ticks=60)
    found = ns.measure_convergence(simulate(loop(0.4), schedule), x, y)
    assert found.verdict == "converged"
    assert found.records[-1]["gradient_angle"] is None
    assert found.records[-1]["fixed_point_angle"] < 1e-3
    assert found.reference_alignment is None


def test_carried_states_start_where_they_were() -> None:
    simulation = simulate(init="carry")
    first = ns.measure_convergence(simulation, X, Y)
    second = ns.measure_convergence(simulation, X, Y)
    assert first.records[0]["distance_mean"] == 1.0
    assert second.records[0]["tick"] == 0
    assert second.records[0]["distance_mean"] < 1e-3


# ---- times -------------------------------------------------------------------------------------


def test_times_never_precede_the_nudge() -> None:
    """A tolerance so loose that zero states are within it: what is waited for is the difference."""
    schedule = ns.schedules.Parallel(ticks=20)
    found = ns.measure_convergence(simulate(schedule=schedule, nudge_after=4), X, Y, tolerance=1e6)
    expected = {"out": 4.0, "h2": 5.0, "h1": 6.0, "": 6.0}
    for table in (found.reach, found.arrivals, found.mean_arrivals, found.difference_arrivals):
        assert {name: arrival.time for name, arrival in table.items()} == expected
    record = found.records[6]
    assert found.arrivals[""] == (6.0, record["wakes"], record["messages"])


def test_times_are_those_of_the_series() -> None:
    found = ns.measure_convergence(simulate(), X, Y, tolerance=1e-3)
    for name, arrival in found.arrivals.items():
        series = [record["populations"].get(name, record) for record in found.records]
        distances = [max(s["distance_mean"], s["distance_difference"]) for s in series]
        number = next(n for n, r in enumerate(found.records) if r["time"] == arrival.time)
        assert max(distances[number:]) <= 1e-3 < distances[number - 1]
        parts = (found.mean_arrivals[name].time, found.difference_arrivals[name].time)
        assert arrival.time == max(part for part in parts if part is not None)


def test_a_difference_that_is_zero_at_the_fixed_point_is_not_waited_for() -> None:
    """Where the target is the prediction, nothing is ever sent back."""
    model = chain("tanh", 0.6)
    rule = ns.DualPropagation(beta=0.3, nudge="prediction")
    schedule = ns.schedules.Sweep("forward_backward", passes=2)
    simulation = simulate(model, schedule, rule=rule, init="feedforward")
    found = ns.measure_convergence(simulation, X, model(X).detach())
    assert found.reach[""].time is None
    assert found.verdict == "converged"
    assert found.time_to_tolerance == 0.0


# ---- verdicts ----------------------------------------------------------------------------------


def test_a_contraction_converges() -> None:
    found = ns.measure_convergence(simulate(), X, Y)
    assert found.verdict == "converged"
    assert found.time_to_tolerance is not None
    assert found.error is None


def test_a_population_apart_is_told_and_so_is_one_that_never_woke() -> None:
    """Small states are lost in the norm of the whole network; the verdict is about all of them."""
    model = chain("tanh", 0.6)
    model.load_state_dict(
        {k: v * (1e-3 if "out" in k else 1) for k, v in model.state_dict().items()}
    )
    rates = {"h1": 1.0, "h2": 1.0, "out": 1e-3}
    quiet = ns.schedules.Poisson(unit="population", rate=rates, tick=0.5, duration=40.0)
    found = ns.measure_convergence(simulate(model, quiet), X)
    assert (
        found.records[-1]["distance_mean"]
        < 1e-2
        < found.records[-1]["populations"]["out"]["distance_mean"]
    )
    assert found.verdict == "not_converged"
    assert "but not out (its distance ends at 1)" in found.reason
    assert found.reason.endswith("; out never woke")
    dead = ns.measure_convergence(simulate(faults=ns.Faults(dead=1.0, populations=["h1"])), X)
    assert (dead.verdict, dead.reason[-22:]) == ("converged", "; h1 (dead) never woke")


def test_wakes_and_messages_by_part_add_up() -> None:
    found = ns.measure_convergence(simulate(), X, Y, every=4)
    kinds = ("mean_messages", "difference_messages")
    for kind, parts in [("wakes", "populations"), *((kind, "projections") for kind in kinds)]:
        total = sum(part[kind] for record in found.records for part in record[parts].values())
        assert total == found.records[-1][kind] > 0
    last = found.records[-1]["populations"]["out"]["activity"]
    simulation = simulate()
    outcome = simulation.infer(X, Y)
    mean = (outcome.plus["out"] + outcome.minus["out"]) / 2
    assert last == pytest.approx(float(mean.square().mean().sqrt()), rel=1e-12)


@pytest.mark.parametrize(
    ("ticks", "reason"),
    [(2, "has not reached h1"), (5, "the residual is still falling")],
)
def test_too_short_a_schedule(ticks: int, reason: str) -> None:
    schedule = ns.schedules.Parallel(ticks=ticks)
    found = ns.measure_convergence(simulate(schedule=schedule), X, Y, tolerance=1e-6)
    assert found.verdict == "not_converged"
    assert found.time_to_tolerance is None
    assert reason in found.reason


def test_a_threshold_leaves_a_floor() -> None:
    channel = ns.Channel(threshold=0.05)
    found = ns.measure_convergence(simulate(channels=ns.Channels(channel, channel)), X, Y)
    assert found.verdict == "not_converged"
    assert found.reason.startswith("the residual stays at")
    residuals = [max(r["residual_mean"], r["residual_difference"]) for r in found.records]
    assert found.residual_floor == pytest.approx(sorted(residuals[-20:])[10], rel=0.2)


@pytest.mark.parametrize(
    ("schedule", "period"),
    [(ns.schedules.Parallel(ticks=90), 4), (ns.schedules.Sweep("forward", passes=40), 6)],
)
def test_a_loop_oscillates(schedule: Any, period: int) -> None:
    """a ← tanh(−wb), b ← tanh(wa): a quarter turn per tick, or two wakes in three ticks."""
    x, y = random(3, 4, seed=50), random(3, 2, seed=51)
    simulation = simulate(loop(1.5), schedule)
    for every in (1, 4):  # as often as it comes back, where every record looks the same
        found = ns.measure_convergence(simulation, x, y, every=every, sweeps=100)
        assert found.verdict == "oscillates"
        assert found.reason == f"the states come back every {period} ticks"
        assert found.records[-1]["distance_mean"] is None
        assert found.time_to_tolerance is None
        assert found.reference.problem is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_that_overflows_diverges(dtype: torch.dtype) -> None:
    model = chain("relu", 6.0).to(dtype)
    schedule = ns.schedules.Parallel(ticks=3000)
    found = ns.measure_convergence(simulate(model, schedule), X, Y, every=5)
    assert found.verdict == "diverged"
    assert isinstance(found.error, ns.DivergenceError)
    assert found.reason == str(found.error)
    assert found.time_to_tolerance is None
    assert found.records[-1]["tick"] < found.error.tick <= 3000


def test_one_that_grows_diverges_before_it_overflows() -> None:
    schedule = ns.schedules.Parallel(ticks=40)
    found = ns.measure_convergence(simulate(chain("relu", 6.0), schedule), X, Y)
    assert found.verdict == "diverged"
    assert found.error is None
    assert "grows without bound" in found.reason


def test_states_that_overflow_when_squared_have_no_residual_of_zero() -> None:
    """A float32 state of 1e30 is finite, but its square is not."""
    for ticks in (20, 45, 75):
        schedule = ns.schedules.Parallel(ticks=ticks)
        simulation = simulate(chain("relu", 6.0).float(), schedule)
        found = ns.measure_convergence(simulation, X, Y, sweeps=50)
        assert found.verdict == "diverged"
        last = found.records[-1]
        assert max(last["residual_mean"], last["residual_difference"]) > 0.5


def test_rounding_is_no_oscillation() -> None:
    model = chain("tanh", 0.6).float()
    found = ns.measure_convergence(simulate(model), X, Y, tolerance=1e-12)
    assert found.verdict == "not_converged"
    assert found.residual_floor < 1e-5


# ---- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [{"every": 0}, {"tolerance": 0.0}, {"sweeps": 0}])
def test_options_that_cannot_be(option: dict[str, Any]) -> None:
    with pytest.raises(ns.ConfigurationError, match=next(iter(option))):
        ns.measure_convergence(simulate(), X, Y, **option)


def test_it_can_be_interrupted() -> None:
    reference = ns.fixed_point(chain("tanh", 0.6), X, Y, rule=RULE)
    measurement = InferenceMeasurement(simulate(), X, Y, references=[reference])
    seen = []
    for record in measurement.run(lambda: len(seen) == 5):
        seen.append(record["tick"])
    assert seen == [0, 1, 2, 3, 4]
    assert len(measurement.result().records) == 5
