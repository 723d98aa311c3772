"""A real cluster: a scheduler and workers as processes of their own, and what may befall them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neurosim.base import ConfigurationError
from neurosim.records import Row
from neurosim.runs import Dask, Local, sweep

ROOT = Path(__file__).parents[1]
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

    def start(self, what: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + what, *options]
        with (self.folder / "log").open("ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, env=environment
            )
        self.processes.append(process)
        return process

    def scheduler(self, port: int = 0) -> subprocess.Popen[bytes]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        return self.start("scheduler", *where, "--scheduler-file", str(self.file))

    def worker(self) -> subprocess.Popen[bytes]:
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        return self.start("worker", "--scheduler-file", str(self.file), *options)


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
        self.over: list[str] = []
        self.act, self.at = act, at

    def began(self, row: Row) -> None:
        self.begun.append(row.folder)
        if len(self.begun) == self.at:
            self.act()

    def ended(self, row: Row) -> None:
        self.over.append(row.folder)


def run(folder: Path, executor: Any, watcher: Watcher, *more: str, seeds: int = 4) -> list[Row]:
    planned = sweep.plan(ROOT / "scenarios/parallel.yaml", [*SHORT, *more], seeds)
    return sweep.run(planned, folder, watcher, executor=executor).rows


def check(folder: Path, rows: list[Row], watcher: Watcher) -> None:
    """All runs have finished, each once, with nothing set aside."""
    assert [row.status for row in rows] == ["finished"] * len(rows)
    assert len(watcher.over) == len(set(watcher.over))
    runs = [path.parent for path in folder.glob("*/*/scenario.yaml")]
    assert sorted(map(str, runs)) == sorted(str(folder / row.folder) for row in rows)
    for path in runs:
        events = [json.loads(line)["event"] for line in (path / "metrics.jsonl").open()]
        assert events.count("step") == 2


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


def test_a_worker_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    cluster.scheduler()
    first = cluster.worker()
    wait(cluster.file)
    cluster.worker()
    watcher = Watcher(first.kill, 2)
    rows = run(tmp_path / "runs", Dask(str(cluster.file)), watcher, seeds=6)
    check(tmp_path / "runs", rows, watcher)


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


def test_a_worker_without_the_folder_says_so(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"local:N starts N workers"):
        run(tmp_path / "a", Dask("local:none"), Watcher())
    with pytest.raises(ConfigurationError, match="devices are cpu or cuda:N"):
        Local(1, ("gpu",))


def wait(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_stopping_leaves_what_the_same_command_continues(cluster: Cluster, tmp_path: Path) -> None:
    cluster.scheduler()
    cluster.worker()
    wait(cluster.file)
    planned = sweep.plan(ROOT / "scenarios/parallel.yaml", ["data.limit=100"], 2)
    watcher, folder = Watcher(), tmp_path / "runs"
    how = {"executor": Dask(str(cluster.file)), "stop": lambda: bool(watcher.begun)}
    sweep.run(planned, folder, watcher, **how)  # type: ignore[arg-type]
    assert len(watcher.begun) == len(watcher.over) == 1
    assert cluster.processes[1].poll() is None
