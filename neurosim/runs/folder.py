"""What all run folders share: their names, checksums, environment, and how Ctrl-C ends a run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from neurosim._version import __version__
from neurosim.base import DataError, plugins
from neurosim.schedules import Periodic
from neurosim.simulation import Simulation
from neurosim.tensors import describe_machine


def new_folder(parent: Path, run_id: str | None) -> Path:
    """A new folder in ``parent``: of that name, or named by the time."""
    if run_id is not None:
        if Path(run_id).name != run_id or run_id in ("", ".", ".."):
            raise DataError(f"the id {run_id!r} must be a plain folder name")
        folder = parent / run_id
        try:
            folder.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            raise DataError(f"{folder}: exists already; choose another id") from None
        return folder
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    for number in range(1, 10_000):
        name = stamp if number == 1 else f"{stamp}-{number}"
        try:
            (parent / name).mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            continue
        return parent / name
    raise DataError(f"{parent}: cannot find a free name for a new run")


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over all parameters, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def environment(device: torch.device) -> dict[str, Any]:
    """What the results may depend on besides the scenario."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found = {"neurosim": __version__, **describe_machine(), "device": name}
    loaded = [asdict(plugin) for plugin in plugins.in_force()]
    return found | ({"plugins": loaded} if loaded else {})


def faults_summary(simulation: Simulation) -> dict[str, Any]:
    """What is broken: numbers of dyads by population, the mismatch, the spread of the clocks."""
    found: dict[str, Any] = dict(simulation.state.damage.summary())
    found["weight_noise"] = simulation.faults.weight_noise
    schedule = simulation.schedule
    found["clock_spread"] = schedule.spread if isinstance(schedule, Periodic) else 0.0
    faults = {name: value for name, value in found.items() if value}
    return {"faults": faults} if faults else {}


class Stopwatch:
    """What a run takes, in seconds, interruptions left out: wall time, and the processor time of
    all threads of the process, which other programs on the machine hardly change.

    ``state`` continues a stopwatch from its `state`.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        before = state["now"] if state is not None else (0.0, 0.0)
        self._laps = [tuple(lap) for lap in state["laps"]] if state is not None else []
        self._began = tuple(now - then for now, then in zip(self._clocks(), before, strict=True))

    @staticmethod
    def _clocks() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def _now(self) -> tuple[float, ...]:
        return tuple(now - began for now, began in zip(self._clocks(), self._began, strict=True))

    def lap(self) -> None:
        """An epoch ends."""
        self._laps.append(self._now())

    def state(self) -> dict[str, Any]:
        return {"now": list(self._now()), "laps": [list(lap) for lap in self._laps]}

    def summary(self) -> dict[str, Any]:
        """Both times since the beginning, until now and until each lap."""
        wall, cpu = self._now()
        return {
            "seconds": wall,
            "cpu_seconds": cpu,
            "epoch_seconds": [lap[0] for lap in self._laps],
            "epoch_cpu_seconds": [lap[1] for lap in self._laps],
        }
