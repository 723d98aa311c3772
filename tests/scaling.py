"""What a sweep on Dask costs and gains: ``python -m tests.scaling``, with two cores to itself.

A run more than inline takes so many seconds of wall time with one worker (target: at most 0.3), and
two workers are so many times as fast as one (target: at least 1.8), each with one thread. Starting
the workers is not counted. The parts of a sweep are run in turns, as machines change their speed.
"""

import json
import statistics
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
TURNS = 10


@contextmanager
def _workers(number: int) -> Iterator[ns.Dask]:
    """Workers that have imported everything, with Dask's own defaults."""
    how: Any = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": None}
    with LocalCluster(n_workers=number, **how) as cluster, Client(cluster) as client:
        client.run(lambda: __import__("neurosim.runs.sweep"))
        yield ns.Dask(cluster.scheduler_address)


def _sweep(folder: str, name: str, overrides: dict[str, Any], runs: int, executor: Any) -> float:
    """Returns the seconds of wall time that it took."""
    began = time.perf_counter()
    found = ns.sweep(
        "random_order", {}, overrides, seeds=runs, out=folder, name=name, executor=executor
    )
    assert {row["status"] for row in found.records} == {"finished"}
    return time.perf_counter() - began


def _in_turns(sweeps: dict[str, Callable[[str], float]]) -> dict[str, list[float]]:
    """Returns the seconds of each part of each sweep."""
    found: dict[str, list[float]] = {name: [] for name in sweeps}
    for turn in range(TURNS):
        for name, sweep in sweeps.items():
            found[name].append(sweep(f"{name}-{turn}"))
            sys.stderr.write(f"{name}, part {turn + 1} of {TURNS}: {found[name][-1]:.1f} s\n")
    return found


def measure(runs: int, longer: int) -> dict[str, Any]:
    """Returns seconds by what took them, and what they come to, for so many runs in a part."""
    with TemporaryDirectory() as folder:

        def in_turns(
            name: str, how: dict[str, Any], count: int, where: dict[str, Any]
        ) -> dict[str, list[float]]:
            def sweep(executor: Any) -> Callable[[str], float]:
                return lambda turn: _sweep(folder, f"{name}-{turn}", how, count, executor)

            for place, executor in where.items():
                _sweep(folder, f"warm-{name}-{place}", TINY, 2, executor)
            return _in_turns({place: sweep(executor) for place, executor in where.items()})

        with _workers(1) as one:
            tiny = in_turns("tiny", TINY, runs, {"inline": ns.Inline(), "workers-1": one})
        with _workers(1) as one, _workers(2) as two:
            long = in_turns("longer", LONGER, longer, {"workers-1": one, "workers-2": two})
    more = (sum(tiny["workers-1"]) - sum(tiny["inline"])) / (TURNS * runs)
    times = [a / b for a, b in zip(*long.values(), strict=True)]
    return {
        "tiny": {place: sum(seconds) for place, seconds in tiny.items()},
        "longer": {place: sum(seconds) for place, seconds in long.items()},
        "more per run": more,
        "two over one": statistics.median(times),
    }


if __name__ == "__main__":
    sizes = [int(argument) for argument in sys.argv[1:]] or [20, 4]
    sys.stdout.write(json.dumps(measure(*sizes), indent=2) + "\n")
