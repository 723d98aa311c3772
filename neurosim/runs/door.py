"""The way in, for Python and the command line alike: run, resume, sweep, and read what was left."""

import reprlib
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from neurosim import documents
from neurosim.base import (
    ConfigurationError,
    DataError,
    NeurosimWarning,
    find_file,
    flat,
    given,
    html_table,
    interruptible,
    leads,
    unknown,
    write_atomic,
)
from neurosim.data import DataSource
from neurosim.families import Count, check
from neurosim.learning import Progress, Trainer, console_of, listed, load_weights
from neurosim.network import Model
from neurosim.records import Results, RunFiles, States, told
from neurosim.records import Run as Left
from neurosim.reports import READABLE, Format, comparison_of, inches, printed
from neurosim.runs import run as runner
from neurosim.runs import sweep as sweeps
from neurosim.runs.executors.executor import Executor, Inline, Local
from neurosim.runs.folder import SCENARIO, network_in
from neurosim.runs.listeners.display import SweepDisplay
from neurosim.runs.listeners.live import live_view
from neurosim.runs.overrides import Overrides, assignments, data_among
from neurosim.scenario import Scenario


class Records(dict[str, list[dict[str, Any]]]):
    """Tables by name, each a list of flat records: ``pandas.DataFrame(run.records["epoch"])``."""

    def __missing__(self, name: str) -> Any:
        raise ConfigurationError(unknown("table of records", name, self), "records")


class Run:
    """What a run has left in its ``folder``: ``summary`` and ``environment``, and as ``notes`` what
    could not be read."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(check(str | Path, folder=folder))
        left = Left.read(self.folder)
        self._left, self.notes = left, tuple(left.notes)
        self.summary = left.summary or {"status": "interrupted"}
        self.environment = left.environment

    @property
    def status(self) -> str:
        """``finished``, ``interrupted`` or ``failed``."""
        return str(self.summary.get("status", "interrupted"))

    @property
    def report(self) -> Path:
        """The page of the run."""
        return self.folder / "report.html"

    @cached_property
    def records(self) -> Records:
        """What was recorded, by ``epoch``, ``step``, the name of a probe, or ``convergence``.

        A group of values is so many columns: ``mean.h1``.
        """
        left = self._left
        found = {"epoch": list(left.epochs.values()), "step": list(left.steps.values())}
        found |= {probe: left.all(probe) for probe in left.traces}
        found["convergence"] = left.convergence
        return Records({name: [_record(e) for e in entries] for name, entries in found.items()})

    @cached_property
    def states(self) -> States:
        """What ``record`` wrote into states.zarr, a row for each tick, by field: ``inference``,
        ``tick``, ``plus.h1[5]``. It stays on the disk: ``run.states["plus.h1[5]"]`` reads a column,
        ``pandas.DataFrame(numpy.asarray(run.states))`` all of them.

        Raises DataError where nothing was recorded, or the file is not what was written.
        """
        path = self.folder / runner.STATES
        if not path.exists():
            said = "nothing was recorded; a scenario says what (record: {states: {h1: [0, 5]}})"
            raise DataError(f"{path}: {said}, and `every` is at most the ticks of an inference")
        RunFiles(self.folder).check_below(path.name)
        return States(path)

    def model(self, model: Model | None = None) -> Model:
        """Returns the model of the run's scenario, or the ``model`` given, with its weights: the
        last ones, or where there is validation those of the best epoch.

        Raises DataError where they are missing, or of another network.
        """
        if model is None:
            runner.check_trainer(self.folder / SCENARIO, None, "run.model(model)")
            model = runner.scenario_of(self.folder).model()
        load_weights(model, self.folder / runner.MODEL)
        return model

    def __repr__(self) -> str:
        found = "".join(f", {title} {text}" for title, text in self._told())
        return f"<{type(self).__name__} {str(self.folder)!r}: {self.status}{found}>"

    def _repr_html_(self) -> str:
        head = [("run", str(self.folder)), ("status", self.status)]
        return html_table([*head, *self._told(), ("report", self.report)])

    def _told(self) -> list[tuple[str, str]]:
        return told(self.summary, "line")


class SweepResults:
    """What a sweep has left in its ``folder``: ``results``, a row for each of its runs."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(check(str | Path, folder=folder))
        self.results = Results.load(self.folder)

    @property
    def records(self) -> list[dict[str, Any]]:
        """One flat record for each run: values of the axes, seed, status, all numbers, folder."""
        axes = [key for key, _ in self.results.axes]
        rows = self.results.records()
        return [row | {key: documents.loads(row[key], key).value for key in axes} for row in rows]

    @property
    def summary(self) -> dict[str, Any]:
        """How many runs there are, and what became of them."""
        results = self.results
        counts = {status: results.count(status) for status in ("finished", "failed")}
        total = len(results.rows)
        return {"name": results.name, "runs": total, **counts, "left": total - sum(counts.values())}

    @property
    def report(self) -> Path:
        """The page of the sweep."""
        return self.folder / "report.html"

    @property
    def runs(self) -> list[Run]:
        """The runs that have left anything."""
        folders = (self.folder / row.folder for row in self.results.rows if row.summary)
        return [Run(folder) for folder in folders]

    def __repr__(self) -> str:
        found = "".join(f", {n} {status}" for status, n in self._counts() if n)
        return f"<{type(self).__name__} {str(self.folder)!r}: {self.summary['runs']} runs{found}>"

    def _repr_html_(self) -> str:
        keys = [key for key, _ in self.results.axes]
        axes = [(k, ", ".join(t)) for k, t in zip(keys, self.results.texts(), strict=True)]
        counts = [(status, str(n)) for status, n in self._counts()]
        return html_table([("sweep", self.folder), *axes, *counts, ("report", self.report)])

    def _counts(self) -> list[tuple[str, int]]:
        return [(key, self.summary[key]) for key in ("finished", "failed", "left")]


def run(
    what: str | Path | Scenario | Trainer,
    overrides: Overrides = (),
    *,
    out: str | Path = "runs",
    run_id: str | None = None,
    name: str | None = None,
    listeners: Sequence[object] = (),
    progress: Progress = None,
    live: int | None = None,
) -> Run:
    """Runs a scenario, an example by its name, or a `Trainer`, and leaves a folder
    ``out/<name>/<id>`` with metrics, checkpoints, summary and report, as ``neurosim run`` does.

    ``overrides`` are those of the command line, or a mapping whose values may be objects:
    ``{"training.epochs": 3, "rule": ns.BackPropagation(), "data": ns.TorchData((x, y))}``. ``name``
    is that of a trainer's runs ("training"). ``progress`` says where it is shown how far it is:
    None in bars on stderr or in the notebook, or in a line every ten seconds where neither is;
    False nowhere; True, or a Console, as the command line does. ``live`` is a port
    of this machine (0: a free one) where a page draws the numbers as they come; it says where.
    Ctrl-C ends it so that `resume` can go on.

    Raises:
        DocumentError: for what is wrong in the scenario, with lines.
        ConfigurationError: for a port that is taken, or without the extra ``live``.
        DataError: where the folder exists.
        DivergenceError: where a state is no longer finite; the folder is valid all the same.
    """
    trained = isinstance(what, Trainer)
    if trained and overrides:
        raise ConfigurationError("overrides are for a scenario; give the Trainer its options")
    if name is not None and not trained:
        raise ConfigurationError(f"a scenario has its name itself: overrides {{'name': {name!r}}}")
    if isinstance(what, Scenario) and overrides:
        raise ConfigurationError("give overrides to Scenario.load(path, overrides)")
    if isinstance(what, str | Path):
        file = find_file(str(what))
        own = given(file, assignments(overrides))
        what = Scenario.load(file, own, data_among(overrides))
    if not isinstance(what, Scenario | Trainer):
        said = "what is run is a scenario file, a Scenario or a Trainer, not "
        raise ConfigurationError(said + reprlib.repr(what))
    with live_view(live if leads() else None) as view:
        where = (Path(out), console_of(progress), run_id, listed(listeners), view)
        if isinstance(what, Trainer):
            return Run(runner.train(name or "training", what, *where))
        return Run(runner.run(what, *where))


def resume(
    folder: str | Path,
    trainer: Trainer | None = None,
    *,
    overrides: Overrides = (),
    data: DataSource | None = None,
    listeners: Sequence[object] = (),
    progress: Progress = None,
    live: int | None = None,
) -> Run:
    """Continues an interrupted run, bit for bit; that of a `Trainer` with one that is built as it
    was, that of `TorchData` with these ``data``. ``overrides`` may say where the data are now, or
    prolong it, and ``live`` is that of `run`. Raises DataError where there is nothing to
    continue."""
    folder = Path(check(str | Path, folder=folder))
    own: dict[str, Any] = {"overrides": assignments(overrides), "trainer": trainer, "given": data}
    with live_view(live if leads() else None) as view:
        return Run(runner.resume(folder, console_of(progress), listed(listeners), **own, live=view))


def sweep(
    file: str | Path,
    axes: Overrides,
    overrides: Overrides = (),
    *,
    seeds: int = 1,
    out: str | Path = "runs",
    name: str | None = None,
    jobs: int | None = 0,
    executor: Executor | None = None,
    retry: bool = False,
    progress: Progress = None,
) -> SweepResults:
    """Runs a scenario with every combination of values, or what is left of it, as ``neurosim
    sweep`` does: ``ns.sweep("s.yaml", {"rule.beta": [0.1, 1]}, {"training.epochs": 3}, seeds=5)``.

    A list holds the values of an axis, or a text as on the command line: ``{"seed": "1..5"}``,
    ``["rule.beta=0.1,1"]``; ``seeds`` are how many. ``overrides`` are the same in all runs, as
    those of `run`. ``jobs`` processes run at the same time: 0 is this one,
    None as many as the cores allow (in a script below ``if __name__ == "__main__":``). An
    ``executor`` says where instead: `Local`, `Dask`.

    Raises:
        DocumentError: everything that is wrong with any combination.
        DataError: where another sweep is at work in the folder.
    """
    if not isinstance(file, str | Path):
        said = f"what is swept is a scenario file, not a {type(file).__name__}: give its path, and "
        raise ConfigurationError(f"{said}as overrides what differs from it")
    seeds = check(Count, seeds=seeds)
    path = find_file(str(file))
    own = [*assignments(overrides), *assignments(axes, swept=True)]
    data = data_among(overrides, axes)
    planned = sweeps.plan(path, given(path, own), seeds, data=data)
    folder = Path(out) / sweeps.folder_name(name or planned.name)
    run_planned(planned, folder, jobs, retry, console_of(progress), executor)
    return SweepResults(folder)


def run_planned(
    planned: sweeps.SweepPlan,
    folder: Path,
    jobs: int | None,
    retry: bool,
    console: Console,
    executor: Executor | None = None,
) -> Results:
    """Runs what is not there yet of a sweep, with a display."""
    if executor is None:
        jobs = sweeps.default_jobs(planned.threads) if jobs is None else jobs
        executor = Local(jobs) if jobs else Inline()
    with interruptible() as interrupted, SweepDisplay(console, planned.results) as display:
        return sweeps.run(
            planned, folder, display, executor=executor, retry=retry, stop=interrupted
        )


def load_run(folder: str | Path) -> Run:
    """Reads the folder of a run, and warns of what in it cannot be read.

    Raises DataError for another folder.
    """
    check(str | Path, folder=folder)
    if (Path(folder) / "sweep.json").is_file():
        raise DataError(f"{folder}: the folder of a sweep; ns.load_sweep reads it")
    found = Run(folder)
    for note in found.notes:
        warnings.warn(f"{folder}: {note}", NeurosimWarning, stacklevel=2)
    return found


def load_sweep(folder: str | Path) -> SweepResults:
    """Reads the folder of a sweep. Raises DataError for another folder."""
    return SweepResults(folder)


def compare(*runs: str | Path | Run, to: str | Path = "comparison.html") -> Path:
    """Writes one page of several runs, given by their folders: their curves over each other, what
    differs in their scenarios, and their numbers.

    Returns:
        The path of the page, ``to``.

    Raises:
        ConfigurationError: for fewer than two runs.
        DataError: for a folder that holds no run. What is damaged is left out, with a warning.
    """
    folders = [_folder(run) for run in runs]
    page = comparison_of(folders)
    for note in page.notes:
        warnings.warn(NeurosimWarning(note), stacklevel=2)
    write_atomic(Path(to), page.html())
    return Path(to)


def _folder(run: str | Path | Run | SweepResults) -> Path:
    if isinstance(run, list | tuple):
        raise ConfigurationError("give several runs one by one: *runs in place of a list", "run")
    return run.folder if isinstance(run, Run | SweepResults) else Path(check(str | Path, run=run))


def figures(
    *runs: str | Path | Run | SweepResults,
    to: str | Path = "figures",
    format: Format = "pdf",
    width: str = "85mm",
) -> list[Path]:
    """Writes every picture of a run, a study or a sweep (the charts of its report, the drawing of
    its network, and of a study that at moments of its inference), or the charts of several runs
    over each other (those of `compare`), as files for a paper: ``pdf``, ``png`` of 300 dots an
    inch, or ``svg``; so wide, in colours for white paper, with letters of 8 points.

    Returns:
        The paths of the files, in the folder ``to``.

    Raises:
        ConfigurationError: for another format or width.
        DataError: for a folder that holds none of these.
    """
    if format not in get_args(Format):
        raise ConfigurationError(unknown("format", str(format), get_args(Format)), "format")
    if isinstance(width, int | float):
        raise ConfigurationError(f"width is {width}; give its unit too, such as '85mm'", "width")
    folders, size = [_folder(run) for run in runs], inches(check(str, width=width))
    pictures = printed(folders, network_in(folders[0]) if len(folders) == 1 else None)
    Path(to).mkdir(parents=True, exist_ok=True)
    written, small = list[Path](), list[str]()
    for name, draw in pictures.items():
        content, letters = draw(size, format)
        written.append(Path(to) / f"{name}.{format}")
        write_atomic(written[-1], content)
        small += [name] if letters < READABLE else []
    if not written:
        warnings.warn(
            "no figure is written: there is nothing to draw", NeurosimWarning, stacklevel=2
        )
    if small:
        said = f"letters of less than {READABLE:g} points, or cut off, in {', '.join(small)}"
        said += ": give more width"
        warnings.warn(said, NeurosimWarning, stacklevel=2)
    return written


def _record(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what the name of its table says."""
    return flat({key: value for key, value in entry.items() if key not in ("event", "probe")})
