"""From a scenario to a run folder: scenario, environment, metrics, checkpoints, summary, report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich.console import Console

from neurosim.base import (
    DataError,
    DivergenceError,
    Interrupted,
    NeurosimError,
    finite,
    interruptible,
    plugins,
    write_atomic,
    write_json,
)
from neurosim.learning import Trainer, check_memory, load_state, save_state
from neurosim.measures import parameters_of
from neurosim.records import read_object
from neurosim.reports import write_report
from neurosim.runs.folder import (
    Stopwatch,
    environment,
    faults_summary,
    file_digest,
    new_folder,
    weights_digest,
)
from neurosim.runs.listeners.display import Display
from neurosim.runs.study import prepare, run_study
from neurosim.scenario import Scenario, located
from neurosim.tensors import (
    complete,
    device_bytes,
    keep_memory,
    peak_memory,
    repeatable,
    reset_peak_memory,
)

LAST = Path("checkpoints/last.safetensors")
MODEL = Path("checkpoints/model.safetensors")


def run(scenario: Scenario, out: Path, console: Console, run_id: str | None = None) -> Path:
    """Runs a scenario, or makes its study; the folder ``out/<name>/<id>``.

    Raises DocumentError for data that does not fit, DataError where the folder exists, and
    DivergenceError where a state is no longer finite; the folder is valid all the same.
    """
    _set_up_torch(scenario)
    data = scenario.data()
    if scenario.file.study is not None:
        return run_study(prepare(scenario, data), out, console, run_id)
    trainer = scenario.trainer(data)
    available, batch = device_bytes(trainer.model.device), scenario.file.data.batch_size
    with located(scenario.document, ("data",)):
        check_memory(trainer.simulation, batch, available, scenario.optimizer)
    folder = new_folder(out / scenario.file.name, run_id)
    write_atomic(folder / "scenario.yaml", scenario.resolved())
    (folder / "checkpoints").mkdir()
    write_json(folder / "environment.json", environment(trainer.model.device))
    (folder / "metrics.jsonl").touch()
    return _train(scenario, trainer, folder, console, Stopwatch())


def _set_up_torch(scenario: Scenario) -> None:
    repeatable()
    keep_memory()
    if scenario.file.threads is not None:
        torch.set_num_threads(scenario.file.threads)


def resume(folder: Path, console: Console) -> Path:
    """Continues an interrupted run from its last checkpoint, bit for bit.

    Raises DataError where there is no checkpoint, or the run is finished; StateError where it is of
    another version, PluginError where a plugin is missing or has changed.
    """
    if not (folder / "scenario.yaml").is_file():
        raise DataError(f"{folder}: not the folder of a run (it has no scenario.yaml)")
    recorded = read_object(folder / "environment.json") or {}
    plugins.require(plugins.Plugin(**plugin) for plugin in recorded.get("plugins", ()))
    scenario = Scenario.load(folder / "scenario.yaml")
    _set_up_torch(scenario)
    if scenario.file.study is not None:
        raise DataError(f"{folder}: a study is not resumed; run its scenario.yaml anew")
    saved = load_state(folder / LAST)
    with complete("checkpoint"):
        digest, written, training, times = (
            saved[key] for key in ("scenario_sha256", "metrics_bytes", "trainer", "times")
        )
    if digest != file_digest(folder / "scenario.yaml"):
        raise DataError(
            f"{folder / 'scenario.yaml'}: changed since the run was interrupted; put it back, or "
            "run it anew"
        )
    metrics = folder / "metrics.jsonl"
    if not metrics.is_file() or metrics.stat().st_size < written:
        raise DataError(f"{metrics}: lacks records that the checkpoint was saved after")
    trainer = scenario.trainer(scenario.data())
    trainer.load_state_dict(training)
    if trainer.done:
        raise DataError(f"{folder}: this run is finished; there is nothing to resume")
    os.truncate(metrics, written)
    return _train(scenario, trainer, folder, console, Stopwatch(times))


def _train(
    scenario: Scenario,
    trainer: Trainer,
    folder: Path,
    console: Console,
    times: Stopwatch,
) -> Path:
    console.print(f"run folder {folder}", soft_wrap=True)
    reset_peak_memory(trainer.model.device)
    with interruptible() as interrupted:  # until everything is written
        status, problem = _learn(trainer, folder, console, times, interrupted)
        best = trainer.best() if status == "finished" else None
        weights = {name: v.contiguous() for name, v in trainer.model.state_dict().items()}
        write_atomic(folder / MODEL, safetensors.torch.save(weights))
        summary = _summary(scenario, trainer, folder, status) | times.summary()
        summary["best_epoch"] = best
        summary["peak_memory_bytes"] = peak_memory(trainer.model.device)
        if best is not None:
            summary["validation_accuracy"] = trainer.best_accuracy
            with console.status("evaluating the best epoch"):
                summary["test_accuracy"], summary["test_loss"] = trainer.evaluate(trainer.test)
        if status == "finished" and scenario.file.robustness is not None:
            with console.status("attacking the test images"):
                summary |= trainer.robustness(scenario.file.robustness.eps)
        if problem is not None:
            summary["error"] = str(problem)
            summary["diverged"] = isinstance(problem, DivergenceError)
        write_json(folder / "summary.json", summary)
        write_report(folder, scenario.network)
    if problem is not None:
        raise problem
    return folder


def _learn(
    trainer: Trainer,
    folder: Path,
    console: Console,
    times: Stopwatch,
    interrupted: Interrupted,
) -> tuple[str, NeurosimError | None]:
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
                "times": times.state(),
            }
            save_state(folder / LAST, state)

        try:
            for event in trainer.run(interrupted):
                display.event(event)
                if event["event"] != "evaluation":
                    metrics.write(json.dumps(finite(event), allow_nan=False) + "\n")
                if event["event"] == "epoch":
                    times.lap()
                    save()
        except NeurosimError as error:  # it diverged, or asks for more memory than there is
            return "failed", error
        if trainer.done:
            return "finished", None
        save()
        return "interrupted", None


def _summary(scenario: Scenario, trainer: Trainer, folder: Path, status: str) -> dict[str, Any]:
    last: dict[str, Any] = {}
    ends: dict[str, Any] = {}  # of the last inference that probes looked into
    looked = None
    with (folder / "metrics.jsonl").open("rb") as file:
        for line in file:
            event = json.loads(line)
            if event["event"] == "trace" and event["step"] != looked:
                ends, looked = {}, event["step"]
            if event["event"] == "epoch":
                last = event
            elif event.get("probe") in ("gradient_angle", "feedback_angle"):
                ends[event["probe"]] = event["total_angle"]
            elif event.get("probe") == "residual":
                for kind in ("mean", "difference"):
                    ends[f"residual_{kind}"] = event[f"total_{kind}"]
    totals = trainer.totals
    return {
        "name": scenario.file.name,
        "status": status,
        "test_accuracy": last.get("test_accuracy"),
        "test_loss": last.get("test_loss"),
        "validation_accuracy": last.get("validation_accuracy"),
        "train_loss": last.get("train_loss"),
        **ends,
        "epochs": trainer.step // len(trainer.batches),
        "steps": trainer.step,
        **totals,
        "messages": totals["mean_messages"] + totals["difference_messages"],
        "dyads": scenario.network.dyads,
        "parameters": parameters_of(trainer.model),
        **faults_summary(trainer.simulation),
        "weights_sha256": weights_digest(trainer.model),
        "metrics_sha256": file_digest(folder / "metrics.jsonl"),
    }
