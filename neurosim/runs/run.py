"""From a scenario to a run folder: scenario, environment, metrics, checkpoints, summary, report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from rich.console import Console

from neurosim.base import DataError, DivergenceError, Interrupted, NeurosimError, write_atomic
from neurosim.families import plugins
from neurosim.learning import Listeners, Trainer, check_memory
from neurosim.records import read_object
from neurosim.runs.folder import ENVIRONMENT, METRICS, SCENARIO, Found, begin, carry_on, facts
from neurosim.runs.listeners.display import TrainingDisplay
from neurosim.runs.listeners.files import LAST, Checkpoints, MetricsFile, RunSummary
from neurosim.runs.study import prepare, run_study
from neurosim.scenario import Scenario, located
from neurosim.tensors import device_bytes, keep_memory, peak_memory, repeatable, reset_peak_memory

MODEL = Path("checkpoints/model.safetensors")


def run(
    scenario: Scenario,
    out: Path,
    console: Console,
    run_id: str | None = None,
    listeners: Sequence[object] = (),
) -> Path:
    """Runs a scenario, or makes its study, in the folder ``out/<name>/<id>``, which it returns.

    ``listeners`` are told of a training besides those that the scenario names.

    Raises:
        DocumentError: for data that does not fit.
        DataError: where the folder exists.
        DivergenceError: where a state is no longer finite; the folder is valid all the same.
    """
    _set_up_torch(scenario)
    data = scenario.data()
    if scenario.file.study is not None:
        study = prepare(scenario, data)
        folder = begin(scenario, study.simulation.device, out, run_id)
        return carry_on(
            scenario, folder, console, lambda stop: run_study(study, folder, console, stop)
        )
    trainer = scenario.trainer(data)
    available, batch = device_bytes(trainer.model.device), scenario.file.data.batch_size
    with located(scenario.document, ("data",)):
        chosen, averaged = scenario.file.plasticity.optimizer, trainer.plan.ema is not None
        check_memory(trainer.simulation, batch, available, chosen, averaged)
    folder = begin(scenario, trainer.model.device, out, run_id)
    (folder / LAST).parent.mkdir()
    return _train(scenario, trainer, folder, console, listeners)


def resume(folder: Path, console: Console, listeners: Sequence[object] = ()) -> Path:
    """Continues an interrupted run from its last checkpoint, bit for bit.

    ``listeners`` are those that the run was started with besides those of its scenario.

    Raises:
        DataError: where there is no checkpoint, or the run is finished.
        StateError: where the checkpoint is of another version.
        PluginError: where a plugin is missing or has changed.
    """
    if not (folder / SCENARIO).is_file():
        raise DataError(f"{folder}: not the folder of a run (it has no {SCENARIO})")
    recorded = read_object(folder / ENVIRONMENT) or {}
    plugins.require(plugins.Plugin(**plugin) for plugin in recorded.get("plugins", ()))
    scenario = Scenario.load(folder / SCENARIO)
    _set_up_torch(scenario)
    if scenario.file.study is not None:
        raise DataError(f"{folder}: a study is not resumed; run its {SCENARIO} anew")
    for file in (LAST, METRICS):
        if not (folder / file).is_file():
            raise DataError(f"{folder / file}: no such file; run the {SCENARIO} anew")
    trainer = scenario.trainer(scenario.data(), resumed=True)
    return _train(scenario, trainer, folder, console, listeners, resumed=True)


def _set_up_torch(scenario: Scenario) -> None:
    repeatable()
    keep_memory()
    if scenario.file.threads is not None:
        torch.set_num_threads(scenario.file.threads)


def _named(scenario: Scenario, folder: Path) -> list[object]:
    """Makes the listeners that the scenario names. Raises DocumentError where one cannot be."""
    made: list[object] = []
    for number, choice in enumerate(scenario.file.listeners):
        with located(scenario.document, ("listeners", number)):
            made.append(choice.make(folder))
            Listeners(made[-1:])
    return made


def _train(
    scenario: Scenario,
    trainer: Trainer,
    folder: Path,
    console: Console,
    listeners: Sequence[object],
    resumed: bool = False,
) -> Path:
    """Trains to the end or an interruption, puts back the best weights and looks at them."""
    display, numbers = TrainingDisplay(console), RunSummary()
    told = [MetricsFile(folder), numbers, *_named(scenario, folder), *listeners]
    checkpoints = Checkpoints(folder, trainer, told)
    if resumed:
        checkpoints.load()
    file, model, evaluator = scenario.file, trainer.model, trainer.evaluator

    def finish(interrupted: Interrupted) -> Found:
        reset_peak_memory(model.device)
        best, problem, found = None, None, dict[str, Any]()
        try:
            done = trainer.run([*told, display, checkpoints], interrupted)
            status = "finished" if done else "interrupted"
            if done:
                best = trainer.best()
            if best is not None:
                found["validation_accuracy"] = trainer.best_accuracy
                with display.evaluating("evaluating the best epoch") as watch:
                    scores = evaluator.evaluate(trainer.test, watch=watch)
                found["test_accuracy"], found["test_loss"] = scores
            if done and file.robustness is not None:
                with display.evaluating("attacking the test images") as watch:
                    found |= evaluator.robustness(trainer.test, file.robustness.eps, watch)
        except NeurosimError as error:  # it diverged, or asks for more memory than there is
            status, problem = "failed", error
        weights = {name: v.contiguous() for name, v in model.state_dict().items()}
        write_atomic(folder / MODEL, safetensors.torch.save(weights))
        summary: dict[str, Any] = {
            "name": file.name,
            "status": status,
            **numbers.numbers(),
            "epochs": trainer.step // len(trainer.batches),
            "steps": trainer.step,
            **trainer.totals,
            "messages": trainer.totals["mean_messages"] + trainer.totals["difference_messages"],
            **facts(folder, trainer.simulation),
            **numbers.times(),
            "best_epoch": best,
            "peak_memory_bytes": peak_memory(model.device),
            **found,
        }
        if problem is not None:
            summary["diverged"] = isinstance(problem, DivergenceError)
        return summary, problem

    return carry_on(scenario, folder, console, finish)
