"""Sweeps: each run is what `neurosim run` gives, nothing runs twice, one failure stops nothing."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neurosim.base import ConfigurationError, DocumentError, FolderInUseError, owned
from neurosim.cli.main import main
from neurosim.learning import How, display
from neurosim.records.sweep import Results, Row
from neurosim.runs import run as runner
from neurosim.runs import sweep
from neurosim.runs.executors.executor import Local
from neurosim.runs.executors.processes import Task, Tell

ROOT = Path(__file__).parents[1]
PARALLEL = ROOT / "scenarios/parallel.yaml"
DASK = ["--executor", "dask"]
SHORT = ["training.max_steps=2", "data.limit=100", "probes=[accuracy, gradient_angle]"]
DIVERGES = "plasticity.optimizer={kind: sgd},{kind: sgd, lr: 1.0e+20}"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


class Nobody:
    """A watcher that notes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def began(self, row: Row, worker: str | None) -> None:
        self.told.append(("began", row.folder))

    def moved(self, row: Row, how: How) -> None: ...

    def ended(self, row: Row) -> None:
        self.told.append((row.status, row.folder))


def invoke(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def run(folder: Path, *assignments: str, seeds: int = 1, **options: Any) -> Results:
    planned = sweep.plan(PARALLEL, [*SHORT, *assignments], seeds)
    return sweep.run(planned, folder, Nobody(), **options)


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Times and bytes of all files of the runs."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.glob("*/*/**/*"))
        if path.is_file()
    }


def test_table_and_report_come_with_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "TABLE_SECONDS", 0.0)
    monkeypatch.setattr(sweep, "TABLE_TIMES", 0)
    seen = []

    class Reader(Nobody):
        def began(self, row: Row, worker: str | None) -> None:
            statuses = [row["status"] for row in table(tmp_path)]
            page = tmp_path / "report.html"
            seen.append(
                (statuses.count("finished"), page.is_file() and "not finished" in page.read_text())
            )

    planned = sweep.plan(PARALLEL, SHORT, 3)
    sweep.run(planned, tmp_path, Reader())
    assert seen == [(0, False), (1, True), (2, True)]


def test_runs_tell_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "RELAY_SECONDS", 0.0)
    heard: list[tuple[int, How]] = []

    class Hearer(Nobody):
        def moved(self, row: Row, how: How) -> None:
            heard.append((row.seed, how))

    planned = sweep.plan(PARALLEL, SHORT, 2)
    sweep.run(planned, tmp_path, Hearer())
    steps = [(n, 2, f"epoch 1  step {n}/2") for n in (1, 2)]
    for seed in (0, 1):
        told = [how for of, how in heard if of == seed]
        assert told[:2] == steps
        assert told[2:] == [(100, 100, "epoch 1  evaluating  test samples 100/100"), steps[-1]]


# ---- what is to be run -------------------------------------------------------------------------


def test_the_rows_in_the_order_of_the_product() -> None:
    found = sweep.plan(PARALLEL, ["schedule.ticks=4,8", "seed=5", "rule.beta=0.1,1"], 2)
    assert [(row.values, row.seed) for row in found.results.rows] == [
        ((ticks, beta), seed) for ticks in "48" for beta in ("0.1", "1") for seed in (5, 6)
    ]
    assert found.results.axes == [("schedule.ticks", [4, 8]), ("rule.beta", [0.1, 1])]
    folders = [row.folder for row in found.results.rows]
    assert folders[0].startswith("parallel/ticks-4_beta-0.1_seed-5_")
    assert len(set(folders)) == 8
    again = sweep.plan(PARALLEL, ["schedule.ticks=4,8", "seed=5", "rule.beta=0.1,1"], 2)
    assert [row.folder for row in again.results.rows] == folders


def test_listed_seeds_are_no_axis() -> None:
    found = sweep.plan(PARALLEL, ["seed=7,3,11"]).results
    assert found.axes == []
    assert [row.seed for row in found.rows] == [7, 3, 11]


def test_mappings_are_values_too() -> None:
    choices = "rule={kind: dual_propagation, beta: 0.5},{kind: dual_propagation, alpha: 0.25}"
    found = sweep.plan(PARALLEL, [choices, "channels.mean={threshold: 0.1}"])
    assert [row.values for row in found.results.rows] == [
        ("{kind: dual_propagation, beta: 0.5}",),
        ("{kind: dual_propagation, alpha: 0.25}",),
    ]
    for row in found.results.rows:
        assert set(row.folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-./")


@pytest.mark.parametrize(
    ("arguments", "seeds", "said"),
    [
        (["rule.gamma=1,2"], 1, ["rule.gamma", "in 2 of 2 combinations, first rule.gamma=1"]),
        (
            ["rule.beta=1,-1", "seed=3"],
            1,
            ["rule.beta", "in 1 of 2 combinations, first rule.beta=-1"],
        ),
        (["nosuch=1"], 1, ["nosuch"]),
        (["schedule.ticks=4,8,wrong", "rule.beta=1,2"], 1, ["schedule.ticks", "in 2 of 6"]),
        (["data.batch_size=50,1000000"], 1, ["no batch of 1000000 is left", "in 1 of 2"]),
        (["seed=0,1"], 2, ["'seed=…' already; leave out --seeds"]),
        (["seed=9223372036854775807"], 2, ["seeds are below 2**63"]),
        (["schedule.ticks=4,8", "schedule={kind: parallel}"], 1, ["the same scenario"]),
        (["rule.beta=1,1.0"], 1, ["the same scenario"]),
    ],
)
def test_refuses_before_anything_runs(arguments: list[str], seeds: int, said: list[str]) -> None:
    with pytest.raises((DocumentError, ConfigurationError)) as caught:
        sweep.plan(PARALLEL, arguments, seeds)
    for part in said:
        assert part in str(caught.value)


def test_a_problem_of_all_combinations_is_told_once() -> None:
    values = ",".join(map(str, range(1, 101)))
    with pytest.raises(DocumentError) as caught:
        sweep.plan(PARALLEL, [f"schedule.ticks={values}", "rule.beta=-1", "nosuch=1"])
    assert len(caught.value.problems) == 2
    assert all("in 100 of 100 combinations" in str(p) for p in caught.value.problems)


def test_too_many_runs() -> None:
    ticks = ",".join(map(str, range(1, 102)))
    with pytest.raises(ConfigurationError, match=r"10,100 runs \(101 \(schedule.ticks\) × 100"):
        sweep.plan(PARALLEL, [f"schedule.ticks={ticks}"], 100)


def test_jobs_leave_room_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [sweep.default_jobs(threads) for threads in (1, 2, 3, 16)] == [8, 4, 2, 1]
    assert sweep.plan(PARALLEL, ["threads=1,3"]).threads == 3


# ---- what it gives -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two combinations with two seeds, in a pool of two."""
    out = tmp_path_factory.mktemp("sweep")
    arguments = [*SHORT, "schedule.ticks=4,16", "--seeds", "2", "--jobs", "2", "--out", str(out)]
    output = invoke("sweep", PARALLEL, *arguments).output
    assert "runs           4: 4 finished, 0 failed" in output
    return out / "parallel-sweep"


def test_a_run_of_a_sweep_is_the_run(swept: Path, tmp_path: Path) -> None:
    for row in Results.load(swept).rows:
        ticks = f"schedule.ticks={row.values[0]}"
        more = [ticks, f"seed={row.seed}", "threads=1", "--out", tmp_path, "--id", "x", "--quiet"]
        alone = tmp_path / "parallel/x"
        invoke("run", PARALLEL, *SHORT, *more)
        for key in ("metrics_sha256", "weights_sha256"):
            assert summary(alone)[key] == summary(swept / row.folder)[key]
        for name in ("scenario.yaml", "metrics.jsonl"):
            assert (alone / name).read_bytes() == (swept / row.folder / name).read_bytes()
        alone.rename(tmp_path / f"{row.values[0]}-{row.seed}")


def test_the_table_holds_what_the_summaries_say(swept: Path) -> None:
    rows = table(swept)
    assert [(row["schedule.ticks"], row["seed"]) for row in rows] == [
        ("4", "0"), ("4", "1"), ("16", "0"), ("16", "1"),
    ]  # fmt: skip
    for row in rows:
        found = summary(swept / row["folder"])
        assert row["status"] == "finished"
        assert row["error"] == ""
        numbers = {k: v for k, v in found.items() if isinstance(v, int | float)}
        assert {key: float(row[key]) for key in numbers} == numbers
        assert row["validation_accuracy"] == ""
        assert not {"weights_sha256", "epoch_seconds", "name"} & set(row)
        lines = (swept / row["folder"] / "metrics.jsonl").read_text().splitlines()
        angles = [e["total_angle"] for e in map(json.loads, lines) if "total_angle" in e]
        assert float(row["gradient_angle"]) == angles[-1]


def test_what_is_there_is_not_run_again(swept: Path) -> None:
    before = state_of(swept)
    arguments = [*SHORT, "schedule.ticks=4,16", "--seeds", "2", "--out", str(swept.parent)]
    output = invoke("sweep", PARALLEL, *arguments).output
    assert "parallel/" not in output.replace("parallel-sweep", "")
    assert state_of(swept) == before


def test_another_sweep_reuses_what_both_have(tmp_path: Path) -> None:
    run(tmp_path, "schedule.ticks=4,8")
    before = state_of(tmp_path)
    watcher = Nobody()
    planned = sweep.plan(PARALLEL, [*SHORT, "schedule.ticks=8,12"])
    results = sweep.run(planned, tmp_path, watcher)
    assert [what for what, _ in watcher.told] == ["began", "finished"]
    assert "ticks-12" in watcher.told[0][1]
    assert results.count("finished") == 2
    assert [row["schedule.ticks"] for row in table(tmp_path)] == ["8", "12"]
    assert before.items() <= state_of(tmp_path).items()


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")  # says that it was edited
def test_an_edited_run_is_set_aside(tmp_path: Path) -> None:
    (row,) = run(tmp_path).rows
    path = tmp_path / row.folder / "scenario.yaml"
    path.write_text(path.read_text().replace("epochs: 10", "epochs: 11"))
    (again,) = run(tmp_path).rows
    assert again.status == "finished"
    assert "epochs: 11" in (tmp_path / f"{row.folder}.1/scenario.yaml").read_text()
    assert "epochs: 10" in path.read_text()


def test_rewriting_the_report(swept: Path) -> None:
    before = (swept / "report.html").read_bytes()
    (swept / "report.html").unlink()
    assert invoke("report", swept).output == f"report: {swept / 'report.html'}\n"
    assert (swept / "report.html").read_bytes() == before


# ---- what fails --------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_one_failure_does_not_stop_the_others(tmp_path: Path, jobs: int) -> None:
    arguments = ["data.limit=100", "training.max_steps=4", DIVERGES, "schedule.ticks=4,8"]
    command = ["sweep", str(PARALLEL), *arguments, "--jobs", str(jobs), "--out", str(tmp_path)]
    output = invoke(*command, code=1).output
    folder = tmp_path / "parallel-sweep"
    rows = table(folder)
    assert [row["status"] for row in rows] == ["finished", "finished", "failed", "failed"]
    assert "2 finished, 2 failed" in output
    for row in rows[2:]:
        assert "is no longer finite" in row["error"]
        assert row["error"] == summary(folder / row["folder"])["error"]
        assert f"failed  {row['folder']}: {row['error']}" in output
        assert row["error"].replace("'", "&#39;") in (folder / "report.html").read_text()
    # A failure is a result: only --retry runs it again, and keeps the old one.
    before = state_of(folder)
    invoke(*command, code=1)
    assert state_of(folder) == before
    if jobs:
        return
    invoke(*command, "--retry", code=1)
    assert set(before) < set(state_of(folder))
    assert (folder / f"{rows[2]['folder']}.1/summary.json").is_file()


def dies_with_16_ticks(task: Task, tell: Tell) -> str | None:
    """In the place of `carry_out`, in a worker."""
    if "ticks: 16" in task[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return sweep.carry_out(task, tell)


@POSIX
def test_a_killed_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "carry_out", dies_with_16_ticks)
    found = run(tmp_path, "schedule.ticks=16,4,8", executor=Local(1))
    assert [row.status for row in found.rows] == ["failed", "finished", "finished"]
    killed = tmp_path / found.rows[0].folder
    assert "killed by SIGKILL" in summary(killed)["error"]
    assert "killed by SIGKILL" in table(tmp_path)[0]["error"]
    assert (killed / "report.html").is_file()
    monkeypatch.undo()
    again = run(tmp_path, "schedule.ticks=16,4,8", retry=True)
    assert again.count("finished") == 3


def test_any_exception_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr(runner, "run", broken)
    (row,) = run(tmp_path).rows
    assert row.status == "failed"
    assert row.summary["error"] == "ZeroDivisionError: what nobody thought of"
    assert any("in broken" in line for line in row.summary["details"])


@POSIX
def test_two_sweeps_in_one_folder(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(FolderInUseError, match="another process is at work"):
        run(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": "neurosim-sweep-1", "axes": [], "runs": [{}]}']
)
def test_a_damaged_sweep(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    assert "sweep.json" in invoke("report", tmp_path, code=2).stderr


# ---- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([str(PARALLEL), "rule.beta=1,"], "a value is missing"),
        ([str(PARALLEL), "--seeds", "0"], "Invalid value for '--seeds'"),
        ([str(PARALLEL), "--jobs", "-1"], "Invalid value for '--jobs'"),
        (
            [str(PARALLEL), "--dry-run", "--scheduler", "x"],
            "--scheduler does not go with --executor",
        ),
        ([str(PARALLEL), *DASK], "say where the cluster is"),
        (
            [str(PARALLEL), *DASK, "--scheduler", "local:no"],
            "local:N starts N workers",
        ),
        ([str(PARALLEL), "--devices", "gpu"], "devices are cpu or cuda:N"),
        ([str(PARALLEL), "--name", "../x"], "must be a plain folder name"),
        (["nowhere.yaml"], "no such file"),
    ],
)
def test_errors_of_the_command(arguments: list[str], said: str, tmp_path: Path) -> None:
    assert said in invoke("sweep", *arguments, "--out", tmp_path, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_the_scheduler_may_be_named_as_dask_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "local:none")
    assert "scheduler 'local:none'" in invoke("sweep", PARALLEL, *DASK, code=2).stderr
    assert invoke("sweep", PARALLEL, "--dry-run", "--out", tmp_path).output  # it needs none


def test_quiet_and_named(tmp_path: Path) -> None:
    options = ["--out", tmp_path, "--name", "mine", "--quiet", "--jobs", "0"]
    output = invoke("sweep", PARALLEL, *SHORT, *options).output
    assert output.splitlines() == [
        "runs           1: 1 finished, 0 failed",
        f"results        {tmp_path / 'mine/results.csv'}",
        f"report         {tmp_path / 'mine/report.html'}",
    ]
