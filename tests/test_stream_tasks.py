"""What a stream still knows of the tasks before the present one."""

from __future__ import annotations

from pathlib import Path

import pytest

import neurosim as ns
from neurosim.data import Drift
from neurosim.scenario import Scenario

SCENARIO = Path(__file__).parents[1] / "scenarios/stream_digits.yaml"


def test_old_tasks_are_tested() -> None:
    """Of classes: those that are over; of drifts: the test as it was before each."""
    base = ["data.limit=300", "stream.window=10", "stream.streams=4", "plasticity.every=16"]
    how = [*base, "stream.source={order: split, tasks: 5}"]
    scenario = Scenario.load(SCENARIO, how)
    found = scenario.trainer(scenario.data())
    seen = []
    for event in found.events():
        if isinstance(event, ns.EpochEvent):
            labels = found.train.labels.sort().values[: 4 * event.step]
            last, test = int(labels[-4]) // 2, found.test
            expected = [
                found.evaluate(test.part((test.labels // 2 == task).nonzero().flatten()))[0]
                for task in range(last)
            ]
            assert event.metrics.get("old_tasks_accuracy", -1.0) == pytest.approx(
                sum(expected) / len(expected) if expected else -1.0
            )
            seen.append(last)
    assert seen[0] == 0
    assert seen[-1] == 4
    drift = "[{kind: permute, at: 480, every: 160}, {kind: relabel, at: 560}]"
    scenario = Scenario.load(SCENARIO, [*base, f"stream.drift={drift}", "stream.horizon=800"])
    found = scenario.trainer(scenario.data())
    *_, last = found.fit()
    expected = [found.evaluate(found._test_at(number))[0] for number in (0, 30, 35)]
    assert last["drifted_test_accuracy"] == found.evaluate(found._test_at(40))[0]
    assert last["old_tasks_accuracy"] == sum(expected) / 3


def test_some_of_many_drifts() -> None:
    drift = Drift.of("rotate", at=5.0, every=2.0)
    assert drift.some_starts(4.0, 10) == []
    assert drift.some_starts(5.0, 10) == [5.0]
    assert drift.some_starts(9.5, 10) == [5.0, 7.0, 9.0]
    many = drift.some_starts(2e9, 10)
    assert (many[0], many[-1], len(many)) == (5.0, 1_999_999_999.0, 10)
    assert Drift.of("permute", at=5.0).some_starts(80.0, 10) == [5.0]


def test_a_finished_stream_says_how_to_go_on(tmp_path: Path) -> None:
    """And does so: with the same bits as one that was longer from the start."""
    short = ["data.limit=60", "stream.window=5", "stream.horizon=160"]
    run = ns.run(SCENARIO, short, out=tmp_path, run_id="short")
    with pytest.raises(ns.DataError, match=r"for longer: neurosim resume .* stream\.horizon=…"):
        ns.resume(run.folder)
    with pytest.raises(ns.DataError, match=r"data\.root=… stream\.horizon=… "):
        ns.resume(run.folder, overrides={"stream.window": 6})
    whole = ns.run(SCENARIO, [*short, "stream.horizon=320"], out=tmp_path, run_id="long")
    longer = ns.resume(run.folder, overrides={"stream.horizon": 320})
    for key in ("steps", "weights_sha256", "cumulative_accuracy"):
        assert longer.summary[key] == whole.summary[key]
    assert longer.summary["steps"] == 20
