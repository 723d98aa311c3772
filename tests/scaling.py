"""What a sweep on Dask costs and gains: ``python -m tests.scaling``, with two cores to itself.

A run more than inline takes so many seconds of wall time with one worker (target: at most 0.3), and
two workers are so many times as fast as one (target: at least 1.8), each with one thread. Starting
the workers is not counted. Processor time tells the same where cores are shared.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from distributed import Client, LocalCluster

import neurosim as ns

TINY = {"training.max_steps": 1, "data.limit": 60, "threads": 1, "schedule.passes": 1}
LONGER = {"training.max_steps": 40, "training.epochs": 4, "data.limit": 600, "threads": 1}


def _spent() -> float:
    """Processor time of this process and of the children that have ended."""
    return sum(os.times()[:4])


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, spent = time.perf_counter(), _spent()
    work()
    return time.perf_counter() - wall, _spent() - spent


@contextmanager
def _workers(number: int) -> Iterator[ns.Dask]:
    """Workers that have imported everything."""
    how: Any = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": None}
    with LocalCluster(n_workers=number, **how) as cluster, Client(cluster) as client:
        client.run(lambda: __import__("neurosim.runs.sweep"))
        yield ns.Dask(cluster.scheduler_address)


def _sweep(folder: str, name: str, overrides: dict[str, Any], runs: int, executor: Any) -> None:
    found = ns.sweep(
        "random_order", {}, overrides, seeds=runs, out=folder, name=name, executor=executor
    )
    assert {row["status"] for row in found.records} == {"finished"}


def measure(runs: int, longer: int) -> dict[str, float]:
    """Returns seconds by what took them, and what they come to."""
    found: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        for number in (0, 1, 2):
            with _workers(max(1, number)) as dask:
                executor = dask if number else ns.Inline()
                for name, how, count in (("tiny", TINY, runs), ("longer", LONGER, longer)):
                    if name == "longer" and not number:
                        continue
                    where = f"{name}-{number}"
                    _sweep(folder, f"warm-{where}", how, max(1, number), executor)
                    wall, spent = _timed(lambda: _sweep(folder, where, how, count, executor))  # noqa: B023
                    found |= {f"{where}, wall": wall, f"{where}, processor here": spent}
    found["more per run"] = (found["tiny-1, wall"] - found["tiny-0, wall"]) / runs
    found["two over one"] = found["longer-1, wall"] / found["longer-2, wall"]
    return found


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [200, 24]
    sys.stdout.write(json.dumps(measure(*sizes), indent=2) + "\n")
