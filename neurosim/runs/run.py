"""From a scenario to a run folder: scenario, environment, metrics, checkpoints, summary, report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from neurosim import documents
from neurosim.base import (
    ConfigurationError,
    DataError,
    DivergenceError,
    Interrupted,
    Launch,
    NeurosimError,
    PeerError,
    interruptible,
    leads,
    owned,
)
from neurosim.data import DataSource, digest_of
from neurosim.families import plugins
from neurosim.learning import (
    Listeners,
    StatesFile,
    StreamTrainer,
    Trainer,
    TrainingDisplay,
    check_memory,
    save_weights,
)
from neurosim.measures import costs_of_all
from neurosim.records import RunFiles
from neurosim.runs.folder import (
    ENVIRONMENT,
    LAST,
    METRICS,
    MODEL,
    REPORT,
    SCENARIO,
    STATES,
    SUMMARY,
    Found,
    Job,
    begun,
    carry_on,
    facts,
    former,
    length_of,
    reopen,
    set_aside,
)
from neurosim.runs.listeners.files import Checkpoints, MetricsFile, RunSummary, last_checkpoint
from neurosim.runs.listeners.live import LiveView
from neurosim.runs.study import prepare, run_study
from neurosim.runs.written import check_trainer, job_of
from neurosim.scenario import Scenario, located
from neurosim.tensors import device_bytes, out_of_memory, peak_memory, repeatable, reset_peak_memory

# What may be other when a run goes on, besides where its data are: if asked for, for how long.
PROLONGED = {("training", "epochs"), ("training", "max_steps"), ("stream", "horizon")}

Place = tuple[Path, dict[str, Any] | None]  # the folder of a run, and the checkpoint to go on from
_PATIENCE = 30.0  # seconds that the process before has for its end
_NEW, _ON, _OVER = "new ", "on  ", "over"  # what becomes of a folder, as the others are told


def run(
    scenario: Scenario,
    out: Path,
    console: Console,
    run_id: str | None = None,
    listeners: Sequence[object] = (),
    live: LiveView | None = None,
    digest: str = "",
) -> Path:
    """Runs a scenario, or makes its study, in the folder ``out/<name>/<id>``, which it returns.

    ``listeners`` are told of a training besides those that the scenario names, and a ``live``
    view is. ``digest``: that of the data, where the run was planned.

    Raises:
        DocumentError: for data that does not fit.
        DataError: where the folder exists.
        DivergenceError: where a state is no longer finite; the folder is valid all the same.
    """
    with repeatable(scenario.file.threads):
        data = scenario.data(digest)
        job = Job.of(scenario, data)
        if scenario.file.study is not None:
            if live is not None:
                raise ConfigurationError("a study has no live view, but a report", "live")
            if Launch.read().size > 1:
                said = "a study is one inference, of one process: start it without torchrun"
                raise ConfigurationError(said, "study")
            study = prepare(scenario, data)
            with begun(job, study.simulation.device, out, run_id) as folder:
                return carry_on(
                    job, folder, console, lambda stop: run_study(study, folder, console, stop)
                )
        trainer = scenario.trainer(data)
        for number, choice in enumerate(scenario.file.listeners):
            with located(scenario.document, ("listeners", number)):
                choice.check()
        plan = trainer.plan
        batch = -(-plan.batch_size // plan.shards)  # of the largest shard
        with located(scenario.document, ("data",)):
            chosen, averaged = scenario.file.plasticity.optimizer, trainer.plan.ema is not None
            check_memory(trainer.simulation, batch, device_bytes, chosen, averaged)
        what = job, trainer, data.digest(), console, live
        return _together(
            lambda: _placed(job, trainer, out, run_id),
            lambda folder: [*_named(scenario, folder, trainer), *listeners],
            *what,
        )


def train(
    name: str,
    trainer: Trainer,
    out: Path,
    console: Console,
    run_id: str | None = None,
    listeners: Sequence[object] = (),
    live: LiveView | None = None,
) -> Path:
    """Trains what was put together in Python, in such a folder. Raises what `run` raises."""
    with repeatable():
        job, data = job_of(name, trainer), digest_of(trainer.train, trainer.test)
        what = job, trainer, data, console, live
        return _together(lambda: _placed(job, trainer, out, run_id), lambda _: listeners, *what)


def resume(
    folder: Path,
    console: Console,
    listeners: Sequence[object] = (),
    overrides: Sequence[str] = (),
    patience: float = 0.0,
    trainer: Trainer | None = None,
    given: DataSource | None = None,
    live: LiveView | None = None,
) -> Path:
    """Continues an interrupted run from its last good checkpoint, bit for bit; of one that is over
    it makes the files of its results, if they are not there.

    ``listeners`` are those that the run was started with besides those of its scenario.
    ``overrides`` may say where the data are now, prolong the training, and place populations. A run
    of `train` needs a ``trainer`` that is built as its own was, and one of data of Python those,
    ``given``.

    Raises:
        DataError: where there is no checkpoint, a file is damaged, or the run is finished.
        FolderInUseError: another process owns the folder, and does for ``patience`` seconds.
        StateError: where the checkpoint is of another version.
        PluginError: where a plugin is missing or has changed.
    """
    if not (folder / SCENARIO).is_file():
        raise DataError(f"{folder}: not the folder of a run (it has no {SCENARIO})")
    name = check_trainer(folder / SCENARIO, trainer)
    with owned(folder, patience) if leads() else nullcontext():
        if trainer is not None:
            if overrides:
                said = "overrides are for the run of a scenario; build the trainer as it is to be"
                raise ConfigurationError(said)
            with repeatable():
                saved, data = _saved(folder), digest_of(trainer.train, trainer.test)
                what = job_of(name, trainer), trainer, data, console, live
                return _together(lambda: nullcontext((folder, saved)), lambda _: listeners, *what)
        scenario = scenario_of(folder, overrides, given)
        if scenario.file.study is not None:
            raise DataError(f"{folder}: a study is not resumed; run its {SCENARIO} anew")
        saved = _saved(folder)
        with repeatable(scenario.file.threads):
            _check_changes(folder / SCENARIO, saved["scenario"], scenario, overrides)
            read = scenario.data()
            trainer = scenario.trainer(read, resumed=True)
            what = Job.of(scenario, read), trainer, read.digest(), console, live
            return _together(
                lambda: nullcontext((folder, saved)),
                lambda _: [*_named(scenario, folder, trainer), *listeners],
                *what,
            )


def scenario_of(
    folder: Path, overrides: Sequence[str] = (), given: DataSource | None = None
) -> Scenario:
    """Reads the scenario of a run. Raises PluginError where a plugin is missing or has changed."""
    recorded = RunFiles(folder).object(ENVIRONMENT) or {}
    plugins.require(plugins.Plugin(**plugin) for plugin in recorded.get("plugins", ()))
    return Scenario.load(folder / SCENARIO, overrides, given)


def _saved(folder: Path) -> dict[str, Any]:
    """Returns the last checkpoint of a run. Raises DataError where it cannot go on."""
    for path in (folder / METRICS, (folder / LAST).parent):
        if path.is_symlink() or not path.exists():  # a link might lead out of the folder
            raise DataError(f"{path}: no such file; run the {SCENARIO} anew")
    return last_checkpoint(folder)


def _check_changes(path: Path, before: str, now: Scenario, overrides: Sequence[str]) -> None:
    """Raises DataError where a run would go on as another one."""
    asked = {tuple(override.partition("=")[0].strip().split(".")) for override in overrides}
    one, other = (
        dict(_leaves(documents.loads(text, str(path)).value)) for text in (before, now.resolved())
    )
    changed = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    corrected = {("data", name) for name in now.file.data.paths}
    placed = {key for key in changed if key[0] == "devices" and ("devices",) in asked}
    if wrong := changed - corrected - placed - (PROLONGED & asked):
        keys = ", ".join(sorted(".".join(map(str, key)) for key in wrong))
        raise DataError(
            f"{path}: changed since the run began ({keys}); put it back, or run it anew. A run "
            "goes on with data elsewhere, for longer or on other devices: neurosim resume FOLDER "
            f"data.root=… {length_of(now)}=… 'devices={{…}}'"
        )


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
    """Yields the path of every value in a document that holds no others, with the value."""
    if not isinstance(value, dict | list) or not value:
        yield path, value
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(part, (*path, key))


def _over(folder: Path) -> bool:
    """Whether a run has all files of its results."""
    try:
        files = RunFiles(folder)
        status = (files.object(SUMMARY) or {}).get("status")
        whole = files.read(REPORT) is not None and files.read(MODEL) is not None
    except DataError:
        return False
    return whole and status in ("finished", "failed")


def _named(scenario: Scenario, folder: Path, trainer: Trainer) -> list[object]:
    """Makes the listeners that the scenario names. Raises DocumentError where one cannot be."""
    made: list[object] = []
    if (plan := scenario.file.record) is not None:
        with located(scenario.document, ("record",)):  # the last batch may be a smaller one
            plan.check_batch(trainer.batches.least)
        made.append(StatesFile(folder / STATES, trainer.simulation, plan.probe))
    for number, choice in enumerate(scenario.file.listeners):
        with located(scenario.document, ("listeners", number)):
            made.append(choice.make(folder))
            Listeners(made[-1:])
    return made


@contextmanager
def _placed(job: Job, trainer: Trainer, out: Path, run_id: str | None) -> Iterator[Place]:
    """Makes the folder of a run and owns it. One that the same torchrun began goes on."""
    restarted, folder = Launch.read().restarts, former(job, out, run_id)
    if folder is not None and _over(folder) and not restarted:
        folder = None  # that is another run of the job
    with owned(folder, _PATIENCE) if folder is not None else nullcontext():
        if folder is not None and (folder / LAST).is_file():
            yield folder, _saved(folder)
            return
        if folder is not None:
            set_aside(folder)
    with begun(job, trainer.model.device, out, run_id) as folder:
        yield folder, None


def _together(
    placed: Callable[[], AbstractContextManager[Place]],
    listeners: Callable[[Path], Sequence[object]],
    job: Job,
    trainer: Trainer,
    data: str,
    console: Console,
    live: LiveView | None,
) -> Path:
    """Trains in all processes that torchrun has started, of which the first one writes."""
    ranks = trainer.ranks
    ranks.join()
    same = {"scenario": job.text, "content of its data": data}
    ranks.check_same({**same, "version of torch": torch.__version__})
    if not ranks.leads:
        return _follow(trainer)
    with placed() as (folder, saved):
        told = listeners(folder)
        return _train(job, trainer, folder, console, told, data, saved, live)


def _follow(trainer: Trainer) -> Path:
    """Does what the other processes of a training do: all but write."""
    ranks = trainer.ranks
    with interruptible() as interrupted:
        how, folder = (said := ranks.told())[:4], Path(said[4:])
        if how == _ON:
            if not (folder / LAST).is_file():
                raise DataError(f"{folder}: not here; every process has to see the folder of a run")
            trainer.load_state_dict(_saved(folder)["trainer"])
        if how != _OVER:
            ranks.check_same({"checkpoint": str(trainer.step)})
            trainer.fit((), interrupted, progress=False)
            ranks.wait()
    return folder


def _train(
    job: Job,
    trainer: Trainer,
    folder: Path,
    console: Console,
    listeners: Sequence[object],
    data: str,
    saved: Mapping[str, Any] | None = None,
    live: LiveView | None = None,
) -> Path:
    """Trains to the end or an interruption, puts back the best weights and looks at them."""
    ranks = trainer.ranks
    (folder / LAST).parent.mkdir(exist_ok=True)
    display, numbers = TrainingDisplay(console), RunSummary()
    told = [MetricsFile(folder), numbers, *listeners]
    checkpoints = Checkpoints(folder, job, data, trainer, told)
    if saved is not None:
        checkpoints.load(saved)
        if trainer.done and _over(folder):
            if Launch.read().restarts:
                ranks.told(f"{_OVER}{folder}")
                return folder
            why = ", but for longer: with a trainer of more epochs"
            if job.length is not None:
                why = f", but for longer: neurosim resume {folder} {job.length}=…"
            why = ": early stopping has ended it" if trainer.stopped else why
            raise DataError(f"{folder}: this run is finished; there is nothing to resume{why}")
        reopen(folder, job)
    ranks.told(f"{_NEW if saved is None else _ON}{folder}")
    ranks.check_same({"checkpoint": str(trainer.step)})
    if live is not None:
        fading = trainer.streaming.fading if isinstance(trainer, StreamTrainer) else 0.0
        live.follow(job.name, folder / METRICS, fading)
    watching = [display] if live is None else [display, live]
    model, evaluator = trainer.model, trainer.evaluator

    def finish(interrupted: Interrupted) -> Found:
        reset_peak_memory(model.device)
        best, found = None, dict[str, Any]()
        problem: NeurosimError | None = None
        try:
            trainer.fit([*told, *watching, checkpoints], interrupted, progress=False)
            if done := trainer.done:
                best = trainer.best()
            status = "finished" if done else "interrupted"
            if best is not None:
                found["validation_accuracy"] = trainer.best_accuracy
                with display.evaluating("evaluating the best epoch") as watch:
                    scores = evaluator.scores(trainer.test, watch=watch)
                found |= {f"test_{key}": value for key, value in scores.items()}
            if done and job.robustness is not None:
                with display.evaluating("attacking the test samples") as watch:
                    found |= evaluator.robustness(trainer.test, job.robustness.eps, watch)
        except PeerError as error:
            status, problem = "interrupted", error
        except NeurosimError as error:  # it diverged, or asks for more memory than there is
            status, problem = "failed", error
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            status, problem = "failed", NeurosimError("there is not enough memory for this run")
        save_weights(model, folder / MODEL)
        summary: dict[str, Any] = {
            "name": job.name,
            "status": status,
            **numbers.numbers(),
            "epochs": trainer.step // trainer.per_epoch,
            "steps": trainer.step,
            "samples": trainer.shown,
            **trainer.totals,
            "messages": trainer.totals["mean_messages"] + trainer.totals["difference_messages"],
            **facts(folder, trainer.simulation),
            **numbers.times(),
            "best_epoch": best,
            "peak_memory_bytes": peak_memory(model.device),
            **found,
        }
        summary |= costs_of_all(summary)
        if job.words is not None:
            summary["classes"] = job.words
        if job.costs is not None:
            summary |= {"hardware": job.costs.name, **job.costs.of_training(summary)}
        if problem is not None:
            summary["diverged"] = isinstance(problem, DivergenceError)
        return summary, problem

    with interruptible():
        carry_on(job, folder, console, finish)
        ranks.wait()
    return folder
