"""From a scenario to a run folder: scenario, environment, metrics, checkpoints, summary, report."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import safetensors.torch
import torch
from rich.console import Console

from neurosim._version import __version__
from neurosim.checkpoint import load_state, save_state
from neurosim.errors import DataError, DivergenceError
from neurosim.files import finite, write_atomic, write_json
from neurosim.machine import machine
from neurosim.metrics import parameters_of
from neurosim.progress import Display
from neurosim.report import write_report
from neurosim.scenario import Scenario
from neurosim.schedules import Periodic
from neurosim.simulation import Simulation
from neurosim.training import Trainer

LAST = Path("checkpoints/last.safetensors")
MODEL = Path("checkpoints/model.safetensors")


class Interrupted:
    """Set by the first Ctrl-C; the second one stops at once."""

    def __init__(self) -> None:
        self.seen = False

    def __call__(self) -> bool:
        return self.seen

    def handle(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True


@contextmanager
def interruptible() -> Iterator[Interrupted]:
    """Turns Ctrl-C and a request to terminate into a flag for as long as the block runs."""
    interrupted = Interrupted()
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield interrupted
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupted.handle) for number in signals]
    try:
        yield interrupted
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def run(scenario: Scenario, out: Path, console: Console, run_id: str | None = None) -> Path:
    """Runs a scenario; the folder ``out/<name>/<id>``.

    Raises DocumentError for data that does not fit, DataError where the folder exists, and
    DivergenceError where a state is no longer finite; the folder is valid all the same.
    """
    if scenario.file.threads is not None:
        torch.set_num_threads(scenario.file.threads)
    data = scenario.data()
    trainer = scenario.trainer(data)
    folder = new_folder(out / scenario.file.name, run_id)
    write_atomic(folder / "scenario.yaml", scenario.resolved())
    write_json(folder / "environment.json", environment(trainer))
    (folder / "metrics.jsonl").touch()
    return _train(scenario, trainer, folder, console, 0.0, [])


def resume(folder: Path, console: Console) -> Path:
    """Continues an interrupted run from its last checkpoint, bit for bit.

    Raises DataError where there is no checkpoint, or the run is finished.
    """
    if not (folder / "scenario.yaml").is_file():
        raise DataError(f"{folder}: not the folder of a run (it has no scenario.yaml)")
    scenario = Scenario.load(folder / "scenario.yaml")
    if scenario.file.threads is not None:
        torch.set_num_threads(scenario.file.threads)
    saved = load_state(folder / LAST)
    if saved["scenario_sha256"] != file_digest(folder / "scenario.yaml"):
        raise DataError(
            f"{folder / 'scenario.yaml'}: changed since the run was interrupted; put it back, or "
            "run it anew"
        )
    metrics = folder / "metrics.jsonl"
    if not metrics.is_file() or metrics.stat().st_size < saved["metrics_bytes"]:
        raise DataError(f"{metrics}: lacks records that the checkpoint was saved after")
    trainer = scenario.trainer(scenario.data())
    trainer.load_state_dict(saved["trainer"])
    if trainer.done:
        raise DataError(f"{folder}: this run is finished; there is nothing to resume")
    os.truncate(metrics, saved["metrics_bytes"])
    return _train(scenario, trainer, folder, console, saved["seconds"], saved["epoch_seconds"])


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
        (folder / "checkpoints").mkdir()
        return folder
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    for number in range(1, 10_000):
        name = stamp if number == 1 else f"{stamp}-{number}"
        try:
            (parent / name).mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            continue
        (parent / name / "checkpoints").mkdir()
        return parent / name
    raise DataError(f"{parent}: cannot find a free name for a new run")


def _train(
    scenario: Scenario,
    trainer: Trainer,
    folder: Path,
    console: Console,
    seconds: float,
    epoch_seconds: list[float],
) -> Path:
    console.print(f"run folder {folder}", soft_wrap=True)
    began = time.perf_counter() - seconds
    with interruptible() as interrupted:  # until everything is written
        status, problem = _learn(trainer, folder, console, began, epoch_seconds, interrupted)
        best = trainer.best() if status == "finished" else None
        weights = {name: v.contiguous() for name, v in trainer.model.state_dict().items()}
        write_atomic(folder / MODEL, safetensors.torch.save(weights))
        summary = _summary(scenario, trainer, folder, status, time.perf_counter() - began)
        summary |= {"epoch_seconds": epoch_seconds, "best_epoch": best}
        if best is not None:
            summary["validation_accuracy"] = trainer.best_accuracy
            summary["test_accuracy"], summary["test_loss"] = trainer.evaluate(trainer.test)
        if problem is not None:
            summary["error"] = str(problem)
        write_json(folder / "summary.json", summary)
        write_report(folder, scenario.network)
    if problem is not None:
        raise problem
    return folder


def _learn(
    trainer: Trainer,
    folder: Path,
    console: Console,
    began: float,
    epoch_seconds: list[float],
    interrupted: Interrupted,
) -> tuple[str, DivergenceError | None]:
    """Trains to the end or an interruption; the status of the run, and why it failed if so.

    A checkpoint follows every epoch and an interruption.
    """
    with (
        (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics,
        Display(console, trainer) as display,
    ):

        def save() -> None:
            metrics.flush()
            state = {
                "trainer": trainer.state_dict(),
                "metrics_bytes": metrics.tell(),
                "scenario_sha256": file_digest(folder / "scenario.yaml"),
                "seconds": time.perf_counter() - began,
                "epoch_seconds": epoch_seconds,
            }
            save_state(folder / LAST, state)

        try:
            for event in trainer.run(interrupted):
                metrics.write(json.dumps(finite(event), allow_nan=False) + "\n")
                display.event(event)
                if event["event"] == "epoch":
                    epoch_seconds.append(time.perf_counter() - began)
                    save()
        except DivergenceError as error:
            return "failed", error
        if trainer.done:
            return "finished", None
        save()
        return "interrupted", None


def _summary(
    scenario: Scenario, trainer: Trainer, folder: Path, status: str, seconds: float
) -> dict[str, Any]:
    last: dict[str, Any] = {}
    angle: dict[str, Any] = {}
    with (folder / "metrics.jsonl").open("rb") as file:
        for line in file:
            event = json.loads(line)
            if event["event"] == "epoch":
                last = event
            elif event.get("probe") == "gradient_angle":
                angle = {"gradient_angle": event["total_angle"]}
    totals = trainer.totals
    return {
        "name": scenario.file.name,
        "status": status,
        "test_accuracy": last.get("test_accuracy"),
        "test_loss": last.get("test_loss"),
        "validation_accuracy": last.get("validation_accuracy"),
        "train_loss": last.get("train_loss"),
        **angle,
        "epochs": trainer.step // len(trainer.batches),
        "steps": trainer.step,
        "seconds": seconds,
        **totals,
        "messages": totals["mean_messages"] + totals["difference_messages"],
        "dyads": scenario.network.dyads,
        "parameters": parameters_of(trainer.model),
        **_faults(trainer.simulation),
        "weights_sha256": weights_digest(trainer.model),
        "metrics_sha256": file_digest(folder / "metrics.jsonl"),
    }


def _faults(simulation: Simulation) -> dict[str, Any]:
    """What is broken: numbers of dyads by population, the mismatch, the spread of the clocks."""
    found: dict[str, Any] = dict(simulation.state.damage.summary())
    found["weight_noise"] = simulation.faults.weight_noise
    schedule = simulation.schedule
    found["clock_spread"] = schedule.spread if isinstance(schedule, Periodic) else 0.0
    faults = {name: value for name, value in found.items() if value}
    return {"faults": faults} if faults else {}


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


def environment(trainer: Trainer) -> dict[str, Any]:
    """What the results may depend on besides the scenario."""
    device = trainer.model.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"neurosim": __version__, **machine(), "device": name}
