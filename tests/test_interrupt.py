"""Ctrl-C: the run folder is valid, and `resume` leads to the very same weights and metrics."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from small_trainings import Stop

import neurosim as ns
from neurosim.base.interrupts import SIGNALS, interruptible
from neurosim.cli.main import main
from neurosim.learning.checkpoint import load_state
from neurosim.learning.display import TrainingDisplay
from neurosim.records.sweep import Results
from neurosim.runs import folder as folders

SHORT = ["data.limit=200", "training.epochs=3"]
# Inferences of most of a second, so that a signal is sure to arrive within one.
LONG = ["data.limit=100", "data.batch_size=100", "training.epochs=2", "schedule.duration=80"]
MESSAGES = [
    "channels.mean={delay: {kind: uniform, low: 0, high: 4}, noise: 0.01, refresh: 4}",
    "channels.difference={jitter: {kind: uniform, low: 0, high: 3}, loss: 0.1}",
    "schedule.duration=40",
    "probes=[accuracy, in_flight]",
]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


def neurosim(*arguments: str | Path, code: int = 0) -> Result:
    """Runs the command line in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def started(arguments: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "neurosim", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )


def interrupted(arguments: list[str], until: str, wait: float) -> tuple[int, str]:
    """Runs the command line in a process of its own, and sends Ctrl-C ``wait`` s after a line."""
    with started(arguments) as process:
        assert process.stdout is not None
        output = ""
        for line in process.stdout:
            output += line
            if line.startswith(until):
                time.sleep(wait)
                process.send_signal(signal.SIGINT)
                break
        output += process.stdout.read()
        return process.wait(timeout=60), output


def summary(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def check_folder(folder: Path, status: str) -> None:
    """A run folder has everything, and everything can be read."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names - {"checkpoints/last-1.safetensors"} == {  # there after two epochs
        "scenario.yaml",
        "environment.json",
        "metrics.jsonl",
        "manifest.json",
        "summary.json",
        "report.html",
        "checkpoints/last.safetensors",
        "checkpoints/model.safetensors",
    }
    assert summary(folder)["status"] == status
    assert "neurosim" in json.loads((folder / "environment.json").read_text())
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line)["event"] in ("step", "epoch", "trace")
    page = (folder / "report.html").read_text()
    assert status in page
    assert page.rstrip().endswith("</html>")


@pytest.mark.parametrize(
    ("name", "overrides", "inside"),
    [
        pytest.param("random_order", SHORT, False, marks=pytest.mark.slow),
        pytest.param("lazy", [*SHORT, "training.epochs=6"], False, marks=pytest.mark.slow),
        pytest.param("poisson", LONG, True, marks=pytest.mark.slow),
        ("poisson", [*LONG, "init=carry", *MESSAGES], True),
    ],
    ids=[
        "random_order",
        "lazy, carried",
        "within an inference",
        "within a carried inference, messages in flight",
    ],
)
def test_resume_gives_what_an_uninterrupted_run_gives(
    root: Path, tmp_path: Path, name: str, overrides: list[str], inside: bool
) -> None:
    scenario = str(root / "scenarios" / f"{name}.yaml")
    arguments = ["run", scenario, *overrides, "--out", str(tmp_path)]
    folder = tmp_path / name / "one"
    # When the next inference begins, and whether it is over by then, is up to the machine.
    for wait in (0.2, 0.4, 0.1, 0.8, 1.6) if inside else (0.0,):
        shutil.rmtree(folder, ignore_errors=True)
        code, output = interrupted([*arguments, "--id", "one"], "epoch 1", wait)
        assert code == 130, output
        assert "Traceback" not in output
        assert f"resume with    neurosim resume {folder}" in output
        check_folder(folder, "interrupted")
        trainer = load_state(folder / "checkpoints/last.safetensors")["trainer"]
        if (trainer["labels"] is not None) == inside:
            break
    else:
        pytest.fail("never stopped where it was meant to")
    before = summary(folder)

    neurosim("resume", folder)
    neurosim(*arguments, "--id", "two")
    whole = tmp_path / name / "two"
    check_folder(folder, "finished")
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    times = {
        "seconds",
        "cpu_seconds",
        "epoch_seconds",
        "epoch_cpu_seconds",
        "peak_memory_bytes",
    }
    one, two = summary(folder), summary(whole)
    for key in ("epoch_seconds", "epoch_cpu_seconds"):
        assert len(one[key]) == len(two[key]) == two["epochs"]
        assert one[key] == sorted(one[key])
    for key in ("seconds", "cpu_seconds"):
        assert one[f"epoch_{key}"][-1] < one[key]
    assert {k: v for k, v in one.items() if k not in times} == {
        k: v for k, v in two.items() if k not in times
    }
    assert before["steps"] < two["steps"]
    assert before["seconds"] < one["seconds"]
    assert one["weights_sha256"] != before["weights_sha256"]
    (again,) = neurosim("resume", folder, code=2).output.splitlines()
    assert "finished" in again


def test_one_block_within_another() -> None:
    """A request before the inner one counts there, and one within it counts around it too: it may
    come when nothing is left to stop in there."""
    with interruptible() as outer:
        with interruptible() as inner:
            assert not inner()
        assert not outer()
        with interruptible() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
            assert inner()
        assert outer()
        with interruptible() as inner:
            assert inner()
            os.kill(os.getpid(), signal.SIGINT)  # at once: the same request, sent twice
            inner.since -= 1.0
            os.kill(os.getpid(), signal.SIGTERM)  # never stops at once
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def stopped(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interrupted run; the tests copy it."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingDisplay, "on_step", Stop(5).on_step)
        path = root / "scenarios/parallel.yaml"
        neurosim("run", path, *SHORT, "--out", out, "--id", "one", code=130)
    folder = out / "parallel/one"
    check_folder(folder, "interrupted")
    return folder


@pytest.mark.slow
def test_resume_in_a_process_of_its_own(root: Path, stopped: Path, tmp_path: Path) -> None:
    folder = copied(stopped, tmp_path)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "left": "by a crash"')  # after the checkpoint was written
    command = [sys.executable, "-m", "neurosim", "resume", "--quiet", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("status         finished\n")
    check_folder(folder, "finished")
    neurosim("run", root / "scenarios/parallel.yaml", *SHORT, "--out", tmp_path, "--id", "two")
    for key in ("weights_sha256", "metrics_sha256"):
        assert summary(folder)[key] == summary(tmp_path / "parallel/two")[key]
        assert summary(folder)[key] != summary(stopped)[key]


def test_it_goes_on_with_the_threads_that_it_began_with(tmp_path: Path) -> None:
    """Nobody said how many: it is what torch had then, and whoever goes on may have others."""
    before, seen = torch.get_num_threads(), list[int]()

    class Look(Stop):
        def on_step(self, event: Any) -> None:
            seen.append(torch.get_num_threads())
            super().on_step(event)

    path = Path(__file__).parents[1] / "scenarios/parallel.yaml"
    try:
        torch.set_num_threads(2)
        more: Any = {"listeners": [Look(2)], "progress": False}
        folder = ns.run(path, [*SHORT, "threads=null"], out=tmp_path, run_id="one", **more).folder
        torch.set_num_threads(1)
        ns.resume(folder, **more)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {2}
    assert len(seen) > 2
    whole = ns.run(path, [*SHORT, "threads=2"], out=tmp_path, run_id="two", progress=False).folder
    for key in ("weights_sha256", "metrics_sha256"):
        assert summary(folder)[key] == summary(whole)[key]


def test_nohup() -> None:
    """A SIGHUP that is ignored stays so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interrupted:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupted()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert interrupted()
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- resuming what cannot be resumed -----------------------------------------------------------


def copied(stopped: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    for path in stopped.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(stopped)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("checkpoints/last.safetensors", None),
        ("checkpoints/last.safetensors", b""),
        ("checkpoints/last.safetensors", b"\xff" * 1000),
        ("scenario.yaml", None),
        ("scenario.yaml", b"name: [\n"),
        ("metrics.jsonl", None),
    ],
    ids=str,
)
def test_refuses_a_damaged_folder(
    stopped: Path, tmp_path: Path, file: str, content: bytes | None
) -> None:
    folder = copied(stopped, tmp_path)
    damaged = folder / file
    for path in damaged.parent.glob(f"{damaged.stem}*"):  # the checkpoint before the last, too
        path.unlink()
        if content is not None:
            path.write_bytes(content)
    output = neurosim("resume", folder, code=2).output
    assert output.startswith("error: ")
    assert str(folder) in output


def test_refuses_metrics_that_lack_what_the_checkpoint_has_seen(
    stopped: Path, tmp_path: Path
) -> None:
    """`truncate` would make the file longer, with zeros."""
    folder = copied(stopped, tmp_path)
    (folder / "metrics.jsonl").write_text("")
    assert "metrics.jsonl" in neurosim("resume", folder, code=2).output


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dense: 128", "dense: 100"),
        ("name: h1", "name: first"),
        ("batch_size: 50", "batch_size: 40"),
        ("kind: parallel\n  ticks: 16", "kind: lazy\n  duration: 8"),
        ("unit: population", "unit: neuron"),
        ("kind: adam", "kind: adamw"),
        ("limit: 200", "limit: 100"),
        ("seed: 0", "seed: 1"),
    ],
    ids=["size", "name", "batch size", "schedule", "unit", "optimizer", "data", "seed"],
)
def test_refuses_a_scenario_that_was_changed(
    stopped: Path, tmp_path: Path, old: str, new: str
) -> None:
    """It could not be what an uninterrupted run gives."""
    folder = copied(stopped, tmp_path)
    text = (folder / "scenario.yaml").read_text()
    replaced = text.replace(old, new, 1)
    assert replaced != text
    (folder / "scenario.yaml").write_text(replaced)
    output = neurosim("resume", folder, code=2).output
    assert output.startswith("error: ")
    assert "scenario.yaml" in output


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_the_results_are_written(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training is over; what is left to write is written."""
    write = folders.write_report

    def signalled(*arguments: Any) -> Path:
        os.kill(os.getpid(), number)
        return write(*arguments)

    monkeypatch.setattr(folders, "write_report", signalled)
    path = Path(__file__).parents[1] / "scenarios/parallel.yaml"
    neurosim("run", path, *SHORT, "--out", tmp_path, "--id", "x")
    check_folder(tmp_path / "parallel" / "x", "finished")


# ---- sweeps ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "jobs"), [(signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGINT, 0)]
)
def test_an_interrupted_sweep_goes_on(root: Path, number: int, jobs: int, tmp_path: Path) -> None:
    """The same command continues the runs that were under way, and leads to the same results."""
    long = ["schedule.ticks=64", "data.limit=300", "training.epochs=6", "probes=[loss]"]
    overrides = [*long, "rule.beta=0.1,0.2,0.5,1"]
    path = str(root / "scenarios/parallel.yaml")
    arguments = ["sweep", path, *overrides, "--jobs", str(jobs)]
    with started([*arguments, "--out", str(tmp_path)]) as process:
        assert process.stdout is not None
        output = process.stdout.readline()
        while output.startswith("0/4"):  # how far its runs are
            output = process.stdout.readline()
        assert output.startswith("1/4  finished")
        process.send_signal(number)
        output += process.stdout.read()
        assert process.wait(timeout=60) == 130, output
    assert "Traceback" not in output
    assert "continue with  the same command" in output
    folder = tmp_path / "parallel-sweep"
    before = Results.load(folder)
    assert before.count("finished") < 4
    assert before.count("failed") == 0
    report = (folder / "report.html").read_text()
    assert "not finished" in report
    stopped = [row for row in before.rows if row.status == "interrupted"]
    neurosim(*arguments, "--out", tmp_path)
    after = Results.load(folder)
    assert after.count("finished") == 4
    assert list(folder.glob("*/*.1")) == []  # what was interrupted has been continued
    for row in stopped or after.rows[:1]:
        beta = f"rule.beta={row.values[0]}"
        neurosim("run", path, *long, beta, "threads=1", "--out", tmp_path / row.values[0])
        (alone,) = (tmp_path / row.values[0] / "parallel").iterdir()
        records = [(run / "metrics.jsonl").read_text() for run in (alone, folder / row.folder)]
        assert records[0].splitlines() == records[1].splitlines()  # to be shown where they differ
        assert summary(alone)["weights_sha256"] == summary(folder / row.folder)["weights_sha256"]


def test_ctrl_c_while_the_workers_start(root: Path, tmp_path: Path) -> None:
    arguments = [str(root / "scenarios/parallel.yaml"), *SHORT, "seed=0,1,2"]
    with started(["sweep", *arguments, "--out", str(tmp_path)]) as process:
        while not (tmp_path / "parallel-sweep/results.csv").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.startswith("runs           3: 0 finished, 0 failed, 3 to be continued\n"), output
