"""A run folder that was damaged, moved, or left when its process was killed: nothing is taken as it
is in silence, and what can be made again is made again."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors.torch import load_file, save_file
from small_trainings import Stop

from neurosim.base import DataError, FolderInUseError, owned
from neurosim.cli import options
from neurosim.cli.main import main
from neurosim.learning.checkpoint import load_state
from neurosim.records import Results, Run, read_object, write_object
from neurosim.runs import run as runner
from neurosim.runs import sweep
from neurosim.runs.folder import MODEL
from neurosim.scenario import Scenario

PARALLEL = Path(__file__).parents[1] / "scenarios/parallel.yaml"
SHORT = ["data.limit=100", "schedule.ticks=4", "training.epochs=3", "probes=[accuracy, reach]"]
SHORT += ["network.layers[0].dense=8", "network.layers[1].dense=8", "threads=1"]
QUIET = Console(quiet=True)
TIMES = {"seconds", "cpu_seconds", "epoch_seconds", "epoch_cpu_seconds", "peak_memory_bytes"}


def outcome(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text())
    return {key: value for key, value in found.items() if key not in TIMES}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a run that was ``stopped`` in its last epoch, and of the ``whole`` one."""
    out, scenario = tmp_path_factory.mktemp("runs"), Scenario.load(PARALLEL, SHORT)
    with pytest.MonkeyPatch.context() as patch:
        runner.run(scenario, out, QUIET, "whole")
        patch.setattr(runner.TrainingDisplay, "on_step", Stop(5).on_step)
        runner.run(scenario, out, QUIET, "stopped")
    return out / "parallel"


@pytest.fixture
def stopped(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "stopped", tmp_path / "stopped"))


@pytest.fixture
def whole(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "whole", tmp_path / "whole"))


def invoke(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


# ---- damaged files -------------------------------------------------------------------------------


def line_twice(data: bytes) -> bytes:
    first, rest = data.split(b"\n", 1)
    return b"\n".join([first, first, rest])


HOW: dict[str, Callable[[bytes], bytes]] = {
    "line changed": lambda data: data.replace(b'"step": ', b'"step": 1', 1),
    "line twice": line_twice,
    "line dropped": lambda data: data.split(b"\n", 1)[1],
    "zeros": lambda data: data[:40] + bytes(8) + data[48:],
    "other key": lambda data: data.replace(b'"crc"', b'"src"'),
    "checksums dropped": lambda data: re.sub(rb', "crc": "\w+"', b"", data),
    "line ends": lambda data: data.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("how", HOW)
def test_damaged_records_are_named_by_their_line(stopped: Path, whole: Path, how: str) -> None:
    for folder in (stopped, whole):
        path = folder / "metrics.jsonl"
        path.write_bytes(HOW[how](path.read_bytes()))
    number = 2 if how == "line twice" else 1
    said = invoke("resume", stopped, code=2).output
    assert f"{stopped}/metrics.jsonl:{number}: damaged, or a line before it is missing" in said
    (note,) = Run.read(whole).notes
    assert re.match(rf"metrics\.jsonl:{number} is damaged: lines? {number}\b", note)
    assert note in invoke("report", whole).stderr
    assert note in (whole / "report.html").read_text()


def test_a_torn_last_line_is_mended(stopped: Path, runs: Path) -> None:
    with (stopped / "metrics.jsonl").open("ab") as file:
        file.write(b'{"event": "step", "st')
    (note,) = Run.read(stopped).notes
    assert note == "metrics.jsonl: its last line is torn, as a crash leaves it."
    runner.resume(stopped, QUIET)
    assert outcome(stopped) == outcome(runs / "whole")


@pytest.mark.parametrize("name", ["summary.json", "environment.json", "scenario.yaml"])
@pytest.mark.parametrize("how", ["digit", "deleted", "folder"])
def test_a_damaged_file_is_named(whole: Path, name: str, how: str) -> None:
    path, before = whole / name, (whole / name).read_text()
    path.unlink()
    if how == "digit":
        path.write_text(before.replace("1", "2", 1))
    elif how == "folder":
        path.mkdir()
    (note,) = Run.read(whole).notes
    assert note.startswith(name)
    assert note in invoke("report", whole).stderr


def test_records_that_end_too_early(whole: Path) -> None:
    path = whole / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert Run.read(whole).notes == [
        "metrics.jsonl does not hold what was written there, says manifest.json."
    ]


def test_a_damaged_manifest(stopped: Path) -> None:
    path = stopped / "manifest.json"
    path.write_text(path.read_text().replace('"scenario.yaml": "', '"scenario.yaml": "0', 1))
    assert f"{path} does not hold what was written" in invoke("resume", stopped, code=2).output
    assert "manifest.json does not hold" in invoke("report", stopped).stderr


@pytest.mark.parametrize("old", ["sha256:", "neurosim-weights", "checksum", '"a": 1'])
def test_an_object_with_its_checksum(tmp_path: Path, old: str) -> None:
    path = tmp_path / "x.json"
    write_object(path, {"a": 1, "b": [0.1, None]})
    assert read_object(path) == {"a": 1, "b": [0.1, None]}
    text = path.read_text()
    if old in text:
        path.write_text(text.replace(old, f"{old}1", 1))
        with pytest.raises(DataError, match=r"x\.json"):
            read_object(path)


def test_damaged_weights(whole: Path, tmp_path: Path) -> None:
    path = whole / "checkpoints/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    short = ["study.samples=2", "schedule.ticks=4", "study.reference.sweeps=2", "--out", tmp_path]
    command = ["converge", whole / "scenario.yaml", "--weights", path, *short]
    assert "do not have their checksum" in invoke(*command, code=2).output


def test_a_damaged_file_of_a_sweep(tmp_path: Path) -> None:
    """The run is made again, from its checkpoint, and the user is told."""
    command = ["sweep", PARALLEL, *SHORT, "--out", tmp_path, "--name", "s", "--jobs", "0"]
    invoke(*command)
    (path,) = (tmp_path / "s").glob("parallel/*/summary.json")
    before, checkpoint = outcome(path.parent), path.parent / "checkpoints/last.safetensors"
    changed = checkpoint.stat().st_mtime_ns
    path.write_text(path.read_text().replace('"test_loss": ', '"test_loss": 1', 1))
    said = f"{path} does not hold what was written there, says manifest.json"
    assert said in invoke("report", tmp_path / "s").stderr
    assert f"{path.relative_to(tmp_path / 's')} does" in (tmp_path / "s/report.html").read_text()
    assert said in invoke(*command).stderr
    assert outcome(path.parent) == before
    assert checkpoint.stat().st_mtime_ns == changed
    (path.parent / "report.html").unlink()
    invoke(*command)
    assert (path.parent / "report.html").is_file()
    (tmp_path / "s/sweep.json").write_text("{}")
    assert "sweep.json" in invoke("report", tmp_path / "s", code=2).output
    with pytest.raises(DataError):
        Results.load(tmp_path / "s")


@pytest.mark.slow
def test_a_worker_says_what_it_mends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", PARALLEL, *SHORT, "--out", tmp_path, "--name", "s", "--jobs", "1"]
    invoke(*command)
    (path,) = (tmp_path / "s").glob("parallel/*/summary.json")
    before, checkpoint = outcome(path.parent), path.parent / "checkpoints/last.safetensors"
    for said in ("going on from last-1.safetensors, which is older", "and the run made anew"):
        path.unlink()
        data = bytearray(checkpoint.read_bytes())
        data[-9] ^= 4
        checkpoint.write_bytes(data)
        invoke(*command)
        assert f"warning: {checkpoint}: " in (told := capfd.readouterr().err)
        assert said in told
        assert outcome(path.parent) == before
        (path.parent / "checkpoints/last-1.safetensors").unlink()


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cut", "deleted", "bit"])
def test_the_last_good_checkpoint_is_taken(stopped: Path, runs: Path, how: str) -> None:
    path = stopped / "checkpoints/last.safetensors"
    data = bytearray(path.read_bytes())
    path.unlink()
    if how != "deleted":
        data[-9] ^= 4
        path.write_bytes(data[:100] if how == "cut" else data)
    said = invoke("resume", stopped, "--quiet").stderr
    assert f"warning: {path}: " in said
    assert "going on from last-1.safetensors, which is older" in said
    assert outcome(stopped) == outcome(runs / "whole")


@pytest.mark.parametrize(
    ("every", "keep", "steps"), [(1, 1, [6]), (2, 3, [6, 4]), (1, 3, [6, 4, 2])]
)
def test_how_often_and_how_many(tmp_path: Path, every: int, keep: int, steps: list[int]) -> None:
    more = f"training.checkpoints={{every: {every}, keep: {keep}}}"
    folder = runner.run(Scenario.load(PARALLEL, [*SHORT, more]), tmp_path, QUIET, "x")
    names = [f"last{end}.safetensors" for end in ("", "-1", "-2")][: len(steps)]
    found = {path.name for path in (folder / "checkpoints").iterdir()}
    assert found == {*names, "model.safetensors"}
    states = [load_state(folder / "checkpoints" / name) for name in names]
    assert [state["trainer"]["step"] for state in states] == steps


@pytest.mark.parametrize(
    "missing", ["report.html", "summary.json", "checkpoints/model.safetensors", "all"]
)
def test_a_run_that_was_killed_before_its_results(whole: Path, runs: Path, missing: str) -> None:
    names = ["report.html", "summary.json", "checkpoints/model.safetensors"]
    for name in names if missing == "all" else [missing]:
        (whole / name).unlink()
    runner.resume(whole, QUIET)
    assert outcome(whole) == outcome(runs / "whole")
    assert all((whole / name).is_file() for name in names)
    assert "is finished; there is nothing to resume" in invoke("resume", whole, code=2).output


def test_a_folder_in_the_place_of_a_file(stopped: Path) -> None:
    path = stopped / MODEL
    path.unlink()
    path.mkdir()
    said = invoke("resume", stopped, "--quiet", code=2).output
    assert said == f"error: {path}: a folder in the place of a file; remove it\n"


# ---- going on as another run ---------------------------------------------------------------------


def test_more_epochs_after_the_end(whole: Path, tmp_path: Path) -> None:
    invoke("resume", whole, "training.epochs=5")
    longer = Scenario.load(PARALLEL, [*SHORT, "training.epochs=5"])
    assert outcome(runner.run(longer, tmp_path, QUIET, "x")) == outcome(whole)
    assert Scenario.load(whole / "scenario.yaml").file.training.epochs == 5
    assert Run.read(whole).notes == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.epochs=5", "training.epochs"),
        ("seed=1", "seed"),
        ("data.batch_size=25", "data.batch_size"),
    ],
)
def test_a_scenario_that_was_changed(stopped: Path, change: str, said: str) -> None:
    path = stopped / "scenario.yaml"
    if not change.startswith("training"):
        assert f"began ({said}" in invoke("resume", stopped, change, code=2).output
    path.write_text(Scenario.load(path, [change]).resolved())
    output = invoke("resume", stopped, code=2).output
    assert f"{path}: changed since the run began ({said}" in output
    assert "neurosim resume FOLDER data.root=" in output


def test_line_ends_and_comments_may_change(stopped: Path, runs: Path) -> None:
    path = stopped / "scenario.yaml"
    path.write_text("# mine\n" + path.read_text().replace("\n", "\r\n"), newline="")
    runner.resume(stopped, QUIET)
    assert outcome(stopped) == outcome(runs / "whole")


# ---- what cannot be written, and where nobody reads ----------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """It names the file, leaves what it can, and the run goes on once there is room."""
    saved, fsync = list[int](), os.fsync

    def full(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        saved.extend([handle] if ".last.safetensors" in name else [])
        if len(saved) > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        command = ["run", PARALLEL, *SHORT, "--out", tmp_path, "--id", "x"]
        said = invoke(*command, code=2).stderr
    folder = tmp_path / "parallel/x"
    assert said == f"error: {folder}/checkpoints/last.safetensors: No space left on device\n"
    assert not list(folder.rglob(".*"))
    if after:
        runner.resume(folder, QUIET)
        assert outcome(folder) == outcome(runs / "whole")


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(*_: object) -> None:
        torch.empty(2**50)

    monkeypatch.setattr(runner.TrainingDisplay, "on_step", asks)
    command = ["run", PARALLEL, *SHORT, "--out", tmp_path, "--id", "x"]
    assert "there is not enough memory" in invoke(*command, code=2).stderr
    assert outcome(tmp_path / "parallel/x")["status"] == "failed"


@pytest.mark.parametrize("error", [BrokenPipeError, OSError(errno.ENOSPC, "full"), None])
def test_an_output_that_nobody_reads(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command goes on. What an encoding lacks becomes a question mark."""
    with Path("/dev/null").open("w", encoding="ascii") as nowhere:
        told = list[str]()

        def write(text: str) -> None:
            told.append(text)
            if error is not None:
                raise error

        stream = SimpleNamespace(write=write, encoding="ascii", fileno=nowhere.fileno)
        monkeypatch.setattr(sys, "stdout", stream)
        with options.lasting_output():
            print("a → b")
            print("c")
        assert "".join(told) == ("a ? b" if error else "a ? b\nc\n")


def test_what_a_strangers_file_says(whole: Path) -> None:
    """Neither escape codes nor a name of a megabyte reach the terminal."""
    weights = load_file(whole / MODEL) | {"\x1b]0;pwned\x07\u202e" + "n" * 10**6: torch.zeros(2)}
    save_file(weights, whole / "w.safetensors")
    command = ["converge", whole / "scenario.yaml", "--weights", whole / "w.safetensors"]
    said = invoke(*command, code=2).stderr
    assert "has \\x1b]0;pwned\\x07\\u202ennn" in said
    assert len(said) < 3000
    assert not re.search("[\x00-\x09\x0b-\x1f]", said)


# ---- one owner -----------------------------------------------------------------------------------


def test_one_owner_of_a_folder(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, before = stopped / ".lock", (stopped / "summary.json").read_bytes()
    monkeypatch.setattr(sweep, "PATIENCE", 0.0)
    with owned(stopped):
        output = invoke("resume", stopped, code=2).output
        process = lock.read_text().split()[1]
        assert f"{stopped}: another process is at work here: process {process} on " in output
        assert len(output.splitlines()) == 1
        sweep.carry_out((str(stopped), (stopped / "scenario.yaml").read_text(), ""))
    assert (stopped / "summary.json").read_bytes() == before
    assert not lock.exists()
    lock.write_text("elsewhere 1\n")  # of a process that was killed
    runner.resume(stopped, QUIET)
    assert not lock.exists()


def test_the_lock_of_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refused(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    with owned(tmp_path), pytest.raises(FolderInUseError), owned(tmp_path):
        pass
    (tmp_path / ".lock").write_text("elsewhere 1\n")
    with pytest.raises(FolderInUseError, match="process 1 on elsewhere"), owned(tmp_path):
        pass
