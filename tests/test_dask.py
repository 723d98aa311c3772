"""A real cluster: a scheduler and workers as processes of their own, and what may befall them."""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import WorkerPlugin
from distributed.protocol.pickle import dumps

from neurosim.base import NeurosimError
from neurosim.cli.main import main
from neurosim.families import plugins
from neurosim.learning import save_weights
from neurosim.records import Row
from neurosim.runs import Dask, sweep
from neurosim.runs.executors import carried, dask
from neurosim.scenario import Scenario
from tests.plugged import SCHEDULE, Write, write

__all__ = ["write"]  # the fixture

ROOT = Path(__file__).parents[1]
PARALLEL = ROOT / "scenarios/parallel.yaml"
TTL = "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"  # after which one not heard of is lost
SHORT = ["training.max_steps=2", "data.limit=100"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX"),
    pytest.mark.filterwarnings("ignore"),  # what Dask's own threads leave behind
]


class Cluster:
    """A scheduler and workers on loopback, without nannies: who is killed stays so."""

    def __init__(self, folder: Path) -> None:
        self.file, self.folder = folder / "scheduler.json", folder
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, what: str, *options: str, disk: int = -1) -> subprocess.Popen[bytes]:
        import resource

        command = [sys.executable, "-m", "distributed.cli.dask_" + what, *options]
        with (self.folder / "log").open("ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1", TTL: "5s"}
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=environment
            )
        if disk > 0:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (disk, disk))
        self.processes.append(process)
        return process

    def scheduler(self, port: int = 0) -> subprocess.Popen[bytes]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        return self.start("scheduler", *where, "--scheduler-file", str(self.file))

    def worker(self, disk: int = -1) -> subprocess.Popen[bytes]:
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        return self.start("worker", "--scheduler-file", str(self.file), *options, disk=disk)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    try:
        yield found
    finally:
        for process in found.processes:
            process.kill()
            process.wait()


class Watcher:
    """Notes what it is told, and does something when a run has begun."""

    def __init__(self, act: Callable[[], object] = lambda: None, at: int = 1) -> None:
        self.begun: list[str] = []
        self.workers: list[str | None] = []
        self.over: list[str] = []
        self.act, self.at = act, at

    def began(self, row: Row, worker: str | None) -> None:
        self.begun.append(row.folder)
        self.workers.append(worker)
        if len(self.begun) == self.at:
            self.act()

    def ended(self, row: Row) -> None:
        self.over.append(row.folder)


def run(
    folder: Path, executor: Any, watcher: Watcher, *more: str, seeds: int = 4, **how: Any
) -> list[Row]:
    planned = sweep.plan(ROOT / "scenarios/parallel.yaml", [*SHORT, *more], seeds)
    return sweep.run(planned, folder, watcher, executor=executor, **how).rows


def check(folder: Path, rows: list[Row], watcher: Watcher, *, aside: int = 0) -> None:
    """All runs have finished, each once, and so many folders are set aside, from which no run could
    have gone on: they have no checkpoint."""
    assert [row.status for row in rows] == ["finished"] * len(rows)
    assert len(watcher.over) == len(set(watcher.over))
    there = [path.parent for path in folder.glob("*/*/scenario.yaml")]
    left = [path for path in there if path.suffix]
    assert len(left) == aside
    assert not [path for path in left if (path / "checkpoints/last.safetensors").is_file()]
    runs = [path for path in there if path not in left]
    assert sorted(map(str, runs)) == sorted(str(folder / row.folder) for row in rows)
    for path in runs:
        events = [json.loads(line)["event"] for line in (path / "metrics.jsonl").open()]
        assert events.count("epoch") == 1
        assert json.loads((path / "summary.json").read_text())["steps"] == 2


def test_a_scheduler_imports_nothing_of_ours() -> None:
    """It unpacks what a task is, and would not answer for as long as torch is imported."""
    code = "import pickle, sys; pickle.load(sys.stdin.buffer); print('neurosim' in sys.modules)"
    sent = dumps(dask._sent())
    found = subprocess.run(
        [sys.executable, "-c", code], input=sent, capture_output=True, check=True
    )
    assert found.stdout == b"False\n"


@pytest.mark.parametrize("collect", [False, True])
def test_the_runs_of_a_cluster_are_those_of_here(
    cluster: Cluster, tmp_path: Path, collect: bool
) -> None:
    """To the bit, and another executor finds nothing left to do."""
    cluster.scheduler()
    cluster.worker()
    cluster.worker()
    wait(cluster.file)
    there, here, watcher = tmp_path / "there", tmp_path / "here", Watcher()
    rows = run(there, Dask(str(cluster.file), collect), watcher)
    check(there, rows, watcher)
    for row in run(here, None, Watcher()):
        weights = Path(row.folder) / "checkpoints/model.safetensors"
        assert (there / weights).read_bytes() == (here / weights).read_bytes()
    again = Watcher()
    run(there, None, again)
    run(here, Dask(str(cluster.file), collect), again)
    assert again.begun == again.over == []


class Away:
    """Puts files away once a sweep has looked at them, so that workers have none of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.sent = folder, list[str]()
        monkeypatch.setattr(dask, "digest_of", self._digest)
        monkeypatch.setattr(dask, "content_of", self._content)

    def _digest(self, path: Path) -> str:
        found = carried.digest_of(path)
        self.folder.mkdir(exist_ok=True)
        path.rename(self.folder / path.name)
        return found

    def _content(self, path: Path) -> dict[str, bytes]:
        self.sent.append(path.name)
        return carried.content_of(self.folder / path.name)

    def back(self, to: Path) -> None:
        for path in self.folder.iterdir():
            path.rename(to / path.name)


def own(folder: Path, what: str) -> list[str]:
    """Arguments of a sweep that reads files of its own."""
    folder.mkdir()
    x, y = np.random.default_rng(0).random((60, 64)), np.arange(60) % 10
    np.savez(folder / "own.npz", x=x.astype(np.float32), y=y)
    given = [f"data={{kind: npz, file: {folder / 'own.npz'}, batch_size: 10}}"]
    if "weights" in what:
        save_weights(Scenario.load(PARALLEL, ["seed=7"]).model(), folder / "w.safetensors")
        given.append(f"{what}={folder / 'w.safetensors'}")
    if what == "study.weights":
        given += ["study.kind=convergence", "study.samples=5", "study.tolerance=0.5"]
    return given


@pytest.mark.parametrize(
    ("what", "collect"), [("data", True), ("weights", False), ("study.weights", True)]
)
def test_files_that_workers_lack_travel_to_each_once(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, collect: bool
) -> None:
    given = own(tmp_path / "own", what)
    here = run(tmp_path / "here", None, Watcher(), *given, seeds=3)
    cluster.scheduler()
    cluster.worker()
    cluster.worker()
    wait(cluster.file)
    executor = Dask(str(cluster.file), collect)
    for name in ("there", "again"):
        with monkeypatch.context() as patch:
            away, watcher = Away(patch, tmp_path / "away"), Watcher()
            rows = run(tmp_path / name, executor, watcher, *given, seeds=3)
            away.back(tmp_path / "own")
        assert [row.status for row in rows] == ["finished"] * 3
        assert len(watcher.begun) == len(watcher.over) == 3
        for row in here if "study" not in what else ():
            weights = Path(row.folder) / "checkpoints/model.safetensors"
            made = [(tmp_path / where / weights).read_bytes() for where in ("here", name)]
            assert made[0] == made[1]
        names = ("own.npz", "w.safetensors")[: 1 + ("weights" in what)]
        first = name == "there"  # later they have them
        assert all(first <= away.sent.count(one) <= 2 * first for one in names), away.sent


def test_a_file_that_does_not_travel_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = own(tmp_path / "own", "data")
    monkeypatch.setattr(carried, "LARGEST", 1000)
    Away(monkeypatch, tmp_path / "away")
    cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    (row,) = run(tmp_path / "there", Dask(str(cluster.file)), Watcher(), *given, seeds=1)
    assert row.status == "failed"
    said = rf"{tmp_path}/own/own.npz is not on the worker, .*: put it there \(on the worker tcp"
    assert re.search(said, row.summary["error"])


def test_a_folder_has_a_digest_by_names_and_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/one").write_bytes(b"12345")
    first = carried.digest_of(tmp_path / "a")
    kept = carried.Kept(tmp_path / "kept")
    elsewhere = str(tmp_path / "elsewhere/a")
    digests = {elsewhere: first, str(tmp_path / "a"): first, str(tmp_path / "large"): ""}
    (copy,) = kept.copies(digests, {elsewhere: carried.content_of(tmp_path / "a")}).values()
    assert carried.digest_of(copy) == first == carried.digest_of(copy.parent / "a")
    assert (copy / "b/one").read_bytes() == b"12345"
    assert kept.copies(digests) == {elsewhere: copy}
    (tmp_path / "a/b/one").rename(tmp_path / "a/b/two")
    assert carried.digest_of(tmp_path / "a") not in ("", first)
    monkeypatch.setattr(carried, "LARGEST", 4)
    assert carried.digest_of(tmp_path / "a") == carried.digest_of(tmp_path / "none") == ""


@pytest.mark.parametrize(("number", "collect"), [("KILL", False), ("STOP", False), ("STOP", True)])
def test_a_worker_is_lost(cluster: Cluster, tmp_path: Path, number: str, collect: bool) -> None:
    """It is killed, or not heard of (a stopped process is a network cut), and later heard again."""
    cluster.scheduler()
    first = cluster.worker()
    wait(cluster.file)

    def lose() -> None:
        first.send_signal(signal.Signals[f"SIG{number}"])
        threading.Timer(15, first.send_signal, [signal.SIGCONT]).start()
        cluster.worker()

    watcher, folder = Watcher(lose), tmp_path / "runs"
    rows = run(folder, Dask(str(cluster.file), collect), watcher, seeds=3)
    check(folder, rows, watcher)


@pytest.mark.parametrize(
    ("collect", "disk", "file"),
    [
        (False, 300_000, "last.safetensors"),
        (True, 300_000, "last.safetensors"),
        (True, 900, "scenario.yaml"),
    ],
)
def test_a_disk_is_full(
    cluster: Cluster, tmp_path: Path, collect: bool, disk: int, file: str
) -> None:
    """Each run says why it stopped, and the same command makes it good."""
    cluster.scheduler()
    full = cluster.worker(disk)
    wait(cluster.file)
    folder, executor, watcher = tmp_path / "runs", Dask(str(cluster.file), collect), Watcher()
    for row in run(folder, executor, watcher, seeds=2):
        assert row.status == "interrupted"
        assert re.search(rf"File too large.*{file}", row.summary["error"])
    full.kill()
    cluster.worker()
    watcher = Watcher()
    # Neither had come to its first checkpoint: there is nothing to go on from.
    check(folder, run(folder, executor, watcher, seeds=2), watcher, aside=2)


def test_the_scheduler_is_restarted(cluster: Cluster, tmp_path: Path) -> None:
    scheduler = cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    port = int(json.loads(cluster.file.read_text())["address"].rpartition(":")[2])

    def restart() -> None:
        scheduler.kill()
        scheduler.wait()
        cluster.scheduler(port)
        threading.Timer(3, cluster.worker).start()

    watcher = Watcher(restart, 2)
    rows = run(tmp_path / "runs", Dask(f"tcp://127.0.0.1:{port}"), watcher, seeds=5)
    check(tmp_path / "runs", rows, watcher)
    assert any(watcher.workers[2:])  # it still says who has what


def test_a_worker_does_not_see_the_folder(cluster: Cluster, tmp_path: Path) -> None:
    cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    task = (str(tmp_path / "elsewhere/a/b"), "")
    with pytest.raises(NeurosimError, match=r"does not see .*elsewhere; give a folder .*--collect"):
        list(Dask(str(cluster.file)).run(sweep.carry_out, [task], lambda: False))


def test_workers_that_are_started_here_know_the_plugins(write: Write, tmp_path: Path) -> None:
    plugins.load(write(SCHEDULE))
    watcher, folder = Watcher(), tmp_path / "runs"
    rows = run(folder, Dask("local:2", True), watcher, "schedule={kind: every}", seeds=2)
    check(folder, rows, watcher)


def test_workers_that_are_started_here_leave_without_a_word(tmp_path: Path) -> None:
    """Where another cluster has the port of Dask's pages, and though torch takes long to end."""
    with socket.socket() as other:
        with suppress(OSError):  # it is somebody else's
            other.bind(("127.0.0.1", 8787))
            other.listen()
        command = [sys.executable, "-m", "neurosim", "sweep", str(ROOT / "scenarios/parallel.yaml")]
        command += [*SHORT, "--executor", "dask", "--scheduler", "local:2", "--seeds", "2"]
        command += ["--out", str(tmp_path / "runs")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_workers_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without taking Python apart, which takes as long as torch and the other processes want."""
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(atexit, "register", lambda *what: told.append(what))
    brief: Any = dask._brief(WorkerPlugin)
    brief.setup(None)
    assert told == [(os._exit, 0)]


def test_each_process_sees_a_device(tmp_path: Path) -> None:
    scenario = str(ROOT / "scenarios/parallel.yaml")
    command = ["sweep", scenario, *SHORT, "--seeds", "2", "--devices", "cpu,cpu", "--quiet"]
    found = CliRunner().invoke(main, [*command, "--out", str(tmp_path), "--name", "a"])
    assert "2: 2 finished, 0 failed" in found.output


def wait(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("collect", [False, True])
def test_stopping_leaves_what_the_same_command_continues(
    cluster: Cluster, tmp_path: Path, collect: bool
) -> None:
    cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    watcher, folder, executor = Watcher(), tmp_path / "runs", Dask(str(cluster.file), collect)
    rows = run(folder, executor, watcher, seeds=9, stop=lambda: bool(watcher.begun))
    assert sum(row.status == "finished" for row in rows) < 9
    assert cluster.processes[1].poll() is None
    watcher = Watcher()
    check(folder, run(folder, executor, watcher, seeds=9), watcher)
    assert watcher.over
