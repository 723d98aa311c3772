"""Sweeps: every combination of some values of a scenario, each in a run folder of its own."""

import errno
import json
import os
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from neurosim import documents
from neurosim._version import __version__
from neurosim.base import (
    ConfigurationError,
    DataError,
    DivergenceError,
    DocumentError,
    FolderInUseError,
    Launch,
    NeurosimError,
    PluginError,
    Problem,
    RepairWarning,
    StateError,
    owned,
    write_atomic,
)
from neurosim.data import DataSource
from neurosim.documents import COMMAND_LINE
from neurosim.families import described, plugins
from neurosim.learning import How, Relay
from neurosim.records import Results, Row, RunFiles, file_digest
from neurosim.reports import write_report
from neurosim.runs import run as runner
from neurosim.runs.axes import Axis, combinations, read_axes
from neurosim.runs.executors.executor import Executor, Inline
from neurosim.runs.executors.processes import Task, Tell, Work
from neurosim.runs.folder import LAST, REPORT, SCENARIO, SUMMARY, conclude, set_aside
from neurosim.scenario import Scenario, overridden

MAX_RUNS = 10_000
MAX_PROBLEMS = 20  # shown; a sweep can be wrong in as many ways as it has combinations
TABLE_SECONDS = 2.0  # at least, between two versions of table and report while runs end
TABLE_TIMES = 50  # that long, too, in the time that a version takes
GOES_ON = "interrupted"  # the status of what the same command continues
FULL = ("ENOSPC", "EDQUOT", "EFBIG")  # errors of the system where there is no space
PATIENCE = 30.0  # seconds that what a killed sweep has left running may take to end


@dataclass(frozen=True)
class SweepPlan:
    """Says what is to be run: the rows of the results, and for each its resolved scenario, the
    digest of its data, and the files that it reads."""

    results: Results
    runs: list[Task]
    threads: int  # of the run that takes most
    data: DataSource | None = None  # where they are Python's

    @property
    def name(self) -> str:
        return self.results.name


class Watcher(Protocol):
    """Is told what happens: the display."""

    def began(self, row: Row, worker: str | None) -> None: ...

    def moved(self, row: Row, how: How) -> None: ...

    def ended(self, row: Row) -> None: ...


_MARK = 11  # characters at the end of a folder's name, which tell scenarios apart
# Of data, by what is asked of them: their digest, or what is wrong with them.
Checked = dict[str, DocumentError | str]


def plan(
    file: Path,
    assignments: Sequence[str],
    seeds: int = 1,
    checked: Checked | None = None,
    data: DataSource | None = None,
) -> SweepPlan:
    """Plans all runs of a sweep and checks them: the scenarios, and that the data fit them.

    Every combination is run with ``seeds`` seeds from the scenario's own one on; values given for
    ``seed`` itself are seeds too, not an axis. A run without ``threads`` gets one thread. Plans
    that share ``checked`` read the same data only once. ``data`` of Python are that of all runs,
    and with other ones the runs are others.

    Raises:
        DocumentError: everything that is wrong with any combination, each problem once.
        ConfigurationError: there are too many runs, or two of them are the same.
    """
    axes = read_axes(assignments)
    given = next((axis for axis in axes if axis.key == "seed" and axis.swept), None)
    total = _count(axes, seeds, given)
    document = documents.load(file)
    swept = [axis for axis in axes if axis.swept and axis is not given]
    rows, runs, threads = [], list[Task](), 1
    read: Checked = {} if checked is None else checked
    content = data.read(Path()).digest() if data is not None and data.given else ""
    wrong: dict[Problem, list[str]] = {}  # a problem, and the combinations that have it
    for values in combinations(axes):
        said = [f"{axis.key}={value}" for axis, value in zip(axes, values, strict=True)]
        try:
            scenario = Scenario.of(overridden(document, said), data)
            of_data = _check_data(scenario, read)
        except DocumentError as error:
            label = " ".join(o for axis, o in zip(axes, said, strict=True) if axis.swept)
            for problem in error.problems:
                wrong.setdefault(problem, []).append(label)
            continue
        if wrong:
            continue
        chosen = tuple(values[axes.index(axis)] for axis in swept)
        threads, reads = max(threads, scenario.file.threads or 1), scenario.reads()
        for seed, text in _seeded(scenario, seeds):
            digest, whole = (sha256(f"{own}{text}".encode()).hexdigest() for own in ("", content))
            folder = f"{scenario.file.name}/{_folder_name(swept, chosen, seed, whole)}"
            rows.append(Row(chosen, seed, folder, digest))
            runs.append((text, of_data, *reads))
    if wrong:
        raise DocumentError(_reported(wrong, total))
    _check_distinct(swept, rows)
    about = {
        "neurosim": __version__,
        "scenario": str(file),
        "scenario_sha256": file_digest(file),
        "arguments": list(assignments),
        "seeds": list(dict.fromkeys(row.seed for row in rows)),
    }
    name = f"{Path(rows[0].folder).parent}-sweep"
    results = Results(name, [(axis.key, list(axis.values)) for axis in swept], rows, about)
    return SweepPlan(results, runs, threads, data if content else None)


def _count(axes: Sequence[Axis], seeds: int, given: Axis | None) -> int:
    """Counts the combinations. Raises ConfigurationError where there would be too many runs."""
    if seeds < 1:
        raise ConfigurationError(f"seeds must be at least 1, got {seeds}")
    if given is not None and seeds > 1:
        raise ConfigurationError("the seeds are listed in 'seed=…' already; leave out --seeds")
    combined = prod(len(axis.texts) for axis in axes)
    if (count := seeds * combined) > MAX_RUNS:
        sizes = " × ".join(f"{len(axis.texts)} ({axis.key})" for axis in axes if axis.swept)
        raise ConfigurationError(
            f"the sweep would have {count:,} runs ({sizes} × {seeds} seeds), and {MAX_RUNS:,} are "
            "allowed; leave out some of the values"
        )
    return combined


def _seeded(scenario: Scenario, seeds: int) -> Iterator[tuple[int, str]]:
    """The scenario with each seed, as text: ten thousand networks would fill the memory."""
    file = scenario.file
    if file.seed + seeds > 2**63:
        raise ConfigurationError(f"{seeds} seeds from {file.seed} on: seeds are below 2**63")
    for seed in range(file.seed, file.seed + seeds):
        settled = replace(file, seed=seed, threads=file.threads or 1)
        yield seed, replace(scenario, file=settled).resolved()


def _check_data(scenario: Scenario, read: Checked) -> str:
    """Checks that the data are there and fit, once for all scenarios that ask the same of them.
    Returns their digest."""
    file, network = scenario.file, scenario.network
    asked = [described(file.data), file.training.validation, repr(file.loss), repr(file.stream)]
    key = json.dumps([asked, network.input.shape, network.output.size])
    if key not in read:
        try:
            read[key] = scenario.digest(scenario.data())
        except DocumentError as error:
            read[key] = error
    if isinstance(found := read[key], DocumentError):
        raise found
    return found


def _reported(wrong: dict[Problem, list[str]], total: int) -> list[Problem]:
    problems = []
    for problem, labels in list(wrong.items())[:MAX_PROBLEMS]:
        message = problem.message
        if total > 1:
            message += f" (in {len(labels)} of {total} combinations, first {labels[0]})"
        problems.append(replace(problem, message=message))
    if (left := len(wrong) - len(problems)) > 0:
        problems.append(Problem(COMMAND_LINE, 1, 1, "", f"and {left} more problems"))
    return problems


def _check_distinct(swept: Sequence[Axis], rows: Sequence[Row]) -> None:
    seen: dict[str, Row] = {}
    for row in rows:
        pair = seen.setdefault(row.digest, row), row
        if pair[0] is not row:
            named = (zip(swept, row.values, strict=True) for row in pair)
            one, other = (" ".join(f"{axis.key}={v}" for axis, v in values) for values in named)
            raise ConfigurationError(
                f"{one} and {other} are the same scenario: one of the arguments undoes another, or "
                "two of its values are the same; leave one out"
            )


def _folder_name(swept: Sequence[Axis], values: Sequence[str], seed: int, digest: str) -> str:
    """Readable, good for any file system, and one for each scenario."""
    bare = [value.strip("{[ '\"]}") for value in values]
    parts = [f"{axis.key.split('.')[-1]}-{v}" for axis, v in zip(swept, bare, strict=True)]
    names = [re.sub(r"[^A-Za-z0-9.+-]+", "-", part).strip("-.")[:36] for part in parts]
    # The end tells apart what is cut off, or written in other signs.
    return "_".join([*names, f"seed-{seed}"])[:110] + f"_{digest}"[:_MARK]


def _find(rows: Sequence[Row], sweep: Path) -> None:
    """Gives rows the folders of runs that are there by other names: of other axes, or other signs
    for the same values."""
    there = {p.name[-_MARK:]: p for p in sorted(sweep.glob("*/*_*")) if p.is_dir()}
    for row in rows:
        found = there.get(row.folder[-_MARK:])
        if found is not None and not (sweep / row.folder).exists():
            row.folder = found.relative_to(sweep).as_posix()


def folder_name(name: str) -> str:
    """Returns the name of a sweep's folder. Raises ConfigurationError if it is no plain name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]*", name):
        raise ConfigurationError(
            f"the name {name!r} must be a plain folder name: letters, digits, '.', '_' and '-'"
        )
    return name


def default_jobs(threads: int) -> int:
    """Returns how many processes have cores for their threads."""
    available = getattr(os, "sched_getaffinity", None)  # what a container or a queue leaves us
    cores = len(available(0)) if available else os.cpu_count() or 1
    return max(1, cores // threads)


def run(
    sweep: SweepPlan,
    folder: Path,
    watcher: Watcher,
    *,
    executor: Executor | None = None,
    retry: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Runs what is not there yet; writes sweep.json and, as runs end, results.csv and report.html.

    A run is there if it has finished, or failed (unless ``retry``). One that was interrupted is
    continued from its last checkpoint; what cannot be continued is set aside and run anew.
    The ``executor`` says where; without one it is this process.

    Raises FolderInUseError where another sweep is at work in the folder.
    """
    if Launch.read().size > 1:
        said = "processes of torchrun train one network together; start a sweep without torchrun, "
        raise ConfigurationError(f"{said}and say --jobs or --executor")
    results = sweep.results
    results.name = folder.name
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder):
        _find(results.rows, folder)
        for row in results.rows:
            row.read(folder)
        results.write(folder)
        results.write_csv(folder)
        there = ("finished",) if retry else ("finished", "failed")
        left = [n for n, row in enumerate(results.rows) if row.status not in there]
        for done in (folder / row.folder for row in results.rows if row.status in there):
            if not (done / REPORT).is_file():  # killed when all else was there
                write_report(done)
        tasks: list[Task] = [(str(folder / results.rows[n].folder), *sweep.runs[n]) for n in left]
        due = time.monotonic() + TABLE_SECONDS
        executor = executor or Inline()
        work: Work = carry_out
        if sweep.data is not None:
            work = partial(carry_out, data=sweep.data)

        def hear(task: int, how: How) -> None:
            watcher.moved(results.rows[left[task]], how)

        with closing(executor.run(plugins.carried(work), tasks, stop, hear)) as news:
            for task, kind, message in news:
                row = results.rows[left[task]]
                if kind == "began":
                    watcher.began(row, message)
                    continue
                asked = kind == "died" and stop()
                if message is not None and not asked and _status(folder / row.folder) != GOES_ON:
                    _note_failure(folder / row.folder, tasks[task][1], message)
                watcher.ended(row.read(folder))
                if executor.here and row.status == GOES_ON:
                    break  # Ctrl-C went to the run
                if time.monotonic() > due:
                    took = _write(results, folder)
                    due = time.monotonic() + max(TABLE_SECONDS, TABLE_TIMES * took)
        _write(results, folder)
    return results


def _write(results: Results, folder: Path) -> float:
    """Writes table and report; returns the seconds that it took."""
    began = time.monotonic()
    results.write_csv(folder)
    write_report(folder)
    return time.monotonic() - began


def carry_out(
    task: Task, tell: Tell = lambda how: None, data: DataSource | None = None
) -> str | None:
    """Runs a resolved scenario (``task``: folder, text, digest of its data, files that it reads),
    or continues it, and ``tell``s how far it is.

    Returns:
        Why it failed, if it did.
    """
    name, text, digest, *_ = task
    folder = Path(name)
    quiet = Relay(tell)
    try:
        if folder.exists():
            if _is_of(folder, text) and _status(folder) == "finished":
                return None  # by a worker that was lost before it could say so
            if _continued(folder, text, quiet, data):
                return None
            set_aside(folder)
        scenario = Scenario.of(documents.loads(text, str(folder / SCENARIO)), data)
        scenario.check_weights(text)
        runner.run(scenario, folder.parent.parent, quiet, folder.name, digest=digest)
    except (DivergenceError, FolderInUseError):
        return None  # the run's own summary says so, or its own process will
    except (NeurosimError, OSError) as error:
        return str(error)
    except Exception as error:  # whatever it is, the other runs go on
        return "".join(traceback.format_exception(error)).strip()
    return None


def _continued(folder: Path, text: str, console: Console, data: DataSource | None) -> bool:
    """Continues an interrupted run if that is possible, and one that has failed, perhaps as its
    process was killed, from its last checkpoint."""
    begun = _status(folder) != "failed" or (folder / LAST).is_file()
    if not (_is_of(folder, text) and begun):
        return False
    try:
        runner.resume(folder, console, patience=PATIENCE, given=data)
    except FolderInUseError:
        raise
    except (DataError, StateError, DocumentError, PluginError) as error:
        if _status(folder) == "finished":  # by the process that has owned it until now
            return True
        said = f"{error}. The folder is set aside, and the run made anew"
        warnings.warn(RepairWarning(said), stacklevel=2)
        return False
    return True


def _is_of(folder: Path, text: str) -> bool:
    """Whether a folder is that of a run of the scenario."""
    path = folder / SCENARIO
    return path.is_file() and path.read_bytes() == text.encode()


def _status(folder: Path) -> Any:
    try:
        return (RunFiles(folder).object(SUMMARY) or {}).get("status")
    except DataError:  # damaged: it is made again
        return None


def _note_failure(folder: Path, text: str, message: str) -> None:
    """A summary and a report for a run that could not write its own. Where there was no space for
    it, it is only interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SCENARIO).is_file():
        write_atomic(folder / SCENARIO, text)
    lines = message.splitlines() or ["no reason is known"]
    number = re.match(r"\[Errno (\d+)\]", lines[-1])
    full = number is not None and errno.errorcode.get(int(number[1])) in FULL
    status = GOES_ON if full else "failed"
    summary = {"name": folder.parent.name, "status": status, "error": lines[-1]}
    conclude(folder, summary | ({"details": lines} if len(lines) > 1 else {}))
    write_report(folder)
