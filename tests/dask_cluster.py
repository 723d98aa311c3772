"""A scheduler and workers of Dask as processes of their own, and a sweep on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neurosim.learning import How
from neurosim.records import Row
from neurosim.runs import sweep

ROOT = Path(__file__).parents[1]
PARALLEL = ROOT / "scenarios/parallel.yaml"
TTL = "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"  # after which one not heard of is lost
SHORT = ["training.max_steps=2", "data.limit=100"]


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

    def worker(self, disk: int = -1, *more: str) -> subprocess.Popen[bytes]:
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", *more]
        return self.start("worker", "--scheduler-file", str(self.file), *options, disk=disk)


class Watcher:
    """Notes what it is told, and does something when a run has begun."""

    def __init__(self, act: Callable[[], object] = lambda: None, at: int = 1) -> None:
        self.begun: list[str] = []
        self.workers: list[str | None] = []
        self.moves: dict[str, list[How]] = {}
        self.over: list[str] = []
        self.act, self.at = act, at

    def began(self, row: Row, worker: str | None) -> None:
        self.begun.append(row.folder)
        self.workers.append(worker)
        if len(self.begun) == self.at:
            self.act()

    def moved(self, row: Row, how: How) -> None:
        self.moves.setdefault(row.folder, []).append(how)

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


def wait(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.is_file():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    try:
        yield found
    finally:
        for process in found.processes:
            process.kill()
            process.wait()
