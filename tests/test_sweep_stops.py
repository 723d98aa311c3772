"""Sweeps that are stopped go on: what is there stays, and what was interrupted is continued."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from test_sweep import PARALLEL, POSIX, SHORT, Nobody, run, state_of, summary

import neurosim as ns
from neurosim.learning.events import StepEvent
from neurosim.records.sweep import Results
from neurosim.runs import run as runner
from neurosim.runs import sweep
from neurosim.runs.executors.executor import Local
from neurosim.runs.executors.processes import Task, Tell

BETAS = "rule.beta=0.1,0.2,0.5"


def stopped_in_the_second(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """Runs a sweep that gets Ctrl-C within its second run."""
    steps = list[int]()

    def on_step(_: object, event: StepEvent) -> None:
        steps.append(event.step)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(runner.TrainingDisplay, "on_step", on_step)
        return run(folder, BETAS, stop=lambda: len(steps) >= 3)


@POSIX
def test_a_sweep_that_stops_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run stays as it is, and the second goes on."""
    stopped = stopped_in_the_second(tmp_path / "a", monkeypatch)
    assert [row.status for row in stopped.rows] == ["finished", "interrupted", "not run"]
    first = tmp_path / "a" / stopped.rows[0].folder / "summary.json"
    before = first.stat().st_mtime_ns
    found, whole = run(tmp_path / "a", BETAS), run(tmp_path / "b", BETAS)
    assert first.stat().st_mtime_ns == before
    for key in ("weights_sha256", "metrics_sha256"):
        assert [r.summary[key] for r in found.rows] == [r.summary[key] for r in whole.rows]
    assert list(tmp_path.glob("a/*/*.1")) == []  # what was interrupted has been continued


@POSIX
def test_a_run_that_another_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its sweep waits for the folder: the run is there, and not set aside and made anew."""
    stopped_in_the_second(tmp_path, monkeypatch)
    resume = runner.resume

    def resume_late(folder: Path, console: Any, **how: Any) -> Path:
        resume(folder, console)
        return resume(folder, console, **how)

    monkeypatch.setattr(runner, "resume", resume_late)
    assert run(tmp_path, BETAS).count("finished") == 3
    assert list(tmp_path.glob("*/*.1")) == []


def dies_with_a_checkpoint(task: Task, tell: Tell) -> str | None:
    """In the place of `carry_out`, in a worker."""

    def on_step(display: object, event: StepEvent) -> None:
        if (Path(task[0]) / "checkpoints/last.safetensors").is_file():
            os.kill(os.getpid(), signal.SIGKILL)

    runner.TrainingDisplay.on_step = on_step  # type: ignore[assignment]
    return sweep.carry_out(task, tell)


@POSIX
def test_what_was_killed_goes_on_with_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its checkpoint, to what it would have come to."""

    def made(folder: Path, **options: Any) -> Results:
        changes = ["data.limit=100", "training.epochs=5", BETAS]
        planned = sweep.plan(PARALLEL, changes, 1)
        return sweep.run(planned, folder, Nobody(), **options)

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "carry_out", dies_with_a_checkpoint)
        killed = made(tmp_path / "a", executor=Local(1))
    assert "failed" in {row.status for row in killed.rows}
    found, whole = made(tmp_path / "a", retry=True), made(tmp_path / "b")
    assert {row.status for row in found.rows} == {"finished"}
    for one, other in zip(found.rows, whole.rows, strict=True):
        assert one.summary["weights_sha256"] == other.summary["weights_sha256"]
    assert list(tmp_path.glob("a/*.1")) == []
    assert all(summary(tmp_path / "a" / row.folder)["epochs"] == 5 for row in found.rows)


def test_axes_in_another_order_and_by_other_signs_are_the_same_runs(tmp_path: Path) -> None:
    run(tmp_path, "schedule.ticks=4,8", "plasticity.optimizer.lr=0.1,0.01")
    before = state_of(tmp_path)
    asked = [*SHORT, "plasticity.optimizer.lr=1e-2,0.10", "schedule.ticks=8,4", "seed=0"]
    results = sweep.run(sweep.plan(PARALLEL, asked), tmp_path, watcher := Nobody())
    assert not watcher.told
    assert results.count("finished") == 4
    assert before.keys() == state_of(tmp_path).keys()


def test_seeds_are_a_number(tmp_path: Path) -> None:
    with pytest.raises(
        ns.ConfigurationError, match=r"seeds is \[0, 1\]; it must be a whole number"
    ):
        ns.sweep(PARALLEL, {"rule.beta": [0.1]}, seeds=[0, 1], out=tmp_path)  # type: ignore[arg-type]
