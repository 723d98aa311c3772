"""A run's folder: how it is made, and what it says of any run, a training or a study."""

import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from rich.console import Console

from neurosim import documents
from neurosim._version import __version__
from neurosim.base import (
    DataError,
    DocumentError,
    Interrupted,
    Launch,
    NeurosimError,
    finite,
    interruptible,
    owned,
    plain,
    remove_unfinished,
    write_atomic,
)
from neurosim.data import Dataset
from neurosim.families import plugins
from neurosim.learning import Unasked
from neurosim.measures import Costs, parameters_of
from neurosim.network import Network
from neurosim.records import RunFiles, file_digest, files_below, measured, write_manifest
from neurosim.reports import write_report
from neurosim.scenario import CheckpointPlan, Robustness, Scenario
from neurosim.schedules import Periodic
from neurosim.simulation import Simulation
from neurosim.tensors import describe_machine

SCENARIO, ENVIRONMENT = "scenario.yaml", "environment.json"
METRICS, SUMMARY = "metrics.jsonl", "summary.json"
MODEL, REPORT, STATES = "checkpoints/model.safetensors", "report.html", "states.zarr"
LAST = "checkpoints/last.safetensors"
Found = tuple[
    dict[str, Any], NeurosimError | OSError | None
]  # a summary, and why the run failed if so


def set_aside(folder: Path) -> None:
    """Makes room for a run without deleting anything: ``NAME.1``, ``NAME.2``, …"""
    if not folder.exists():
        return
    number = 1
    while (other := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(other)


def _new_folder(parent: Path, run_id: str | None) -> Path:
    """Makes a new folder in ``parent``: of that name, or named by the time."""
    if run_id is not None and (Path(run_id).name != run_id or run_id in ("", ".", "..")):
        raise DataError(f"the id {run_id!r} must be a plain folder name")
    parent.mkdir(parents=True, exist_ok=True)  # where it cannot be, that is not for the id
    stamp = run_id or f"{datetime.now():%Y%m%d-%H%M%S}"
    for number in range(1, 2 if run_id else 10_000):
        folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
    if run_id is not None:
        raise DataError(f"{folder}: exists already; choose another id")
    raise DataError(f"{parent}: cannot find a free name for a new run")


@dataclass(frozen=True)
class Job:
    """What a run folder is of: a scenario, or what was put together in Python.

    ``text`` is what scenario.yaml says; ``length``, the key that prolongs it, if there is one;
    ``words``, the names of the classes, where they have any.
    """

    name: str
    text: str
    network: Network
    checkpoints: CheckpointPlan = CheckpointPlan()
    robustness: Robustness | None = None
    costs: Costs | None = None
    length: str | None = None
    words: tuple[str, ...] | None = None

    @classmethod
    def of(cls, scenario: Scenario, data: Dataset) -> Self:
        """Returns the run of a scenario with its data."""
        file, text = scenario.file, scenario.resolved()
        checkpoints, robustness = file.training.checkpoints, file.robustness
        parts = scenario.network, checkpoints, robustness, scenario.costs
        return cls(file.name, text, *parts, length_of(scenario), data.words)


def length_of(scenario: Scenario) -> str:
    """Returns the key that says how long a run is."""
    return "training.epochs" if scenario.file.stream is None else "stream.horizon"


@contextmanager
def begun(job: Job, device: torch.device, out: Path, run_id: str | None) -> Iterator[Path]:
    """Makes and owns the folder ``out/<name>/<id>`` of a run for as long as the block runs. From
    there on a Ctrl-C is a request, so that no folder is left without a summary and a report.

    Raises:
        DataError: where the folder exists.
    """
    with interruptible():
        folder = _begin(job, device, out, run_id)
        with owned(folder):
            yield folder


def _begin(job: Job, device: torch.device, out: Path, run_id: str | None) -> Path:
    """Makes the folder of a run with what is known before it."""
    folder = _new_folder(out / job.name, run_id)
    text, found = job.text, json.dumps(finite(_environment(device)), indent=2) + "\n"
    write_atomic(folder / SCENARIO, text)
    write_atomic(folder / ENVIRONMENT, found)
    write_manifest(folder, {SCENARIO: text.encode(), ENVIRONMENT: found.encode()})
    (folder / METRICS).touch()
    return folder


def former(job: Job, out: Path, run_id: str | None) -> Path | None:
    """Finds the folder that the same torchrun began for a run, before it was started again."""
    launched, found = Launch.read().job, []
    for folder in (out / job.name).glob(run_id or "*") if launched else ():
        with suppress(DataError, OSError):
            files = RunFiles(folder)
            same = (files.object(ENVIRONMENT) or {}).get("torchrun") == launched
            if same and (folder / SCENARIO).read_text(encoding="utf-8") == job.text:
                found.append(((folder / SCENARIO).stat().st_mtime_ns, folder))
    return max(found)[1] if found else None


def reopen(folder: Path, job: Job) -> None:
    """Makes a folder that of a run under way again, with what may have changed of its scenario."""
    for name in (SUMMARY, MODEL, LAST, REPORT):
        if (folder / name).is_dir():
            raise DataError(f"{folder / name}: a folder in the place of a file; remove it")
    (folder / SUMMARY).unlink(missing_ok=True)
    remove_unfinished(folder)
    digests, text = RunFiles(folder).digests, job.text
    if documents.load(folder / SCENARIO).value != documents.loads(text, "").value:
        write_atomic(folder / SCENARIO, text)
    kept = {ENVIRONMENT: digests[ENVIRONMENT]} if ENVIRONMENT in digests else {}
    write_manifest(folder, {SCENARIO: (folder / SCENARIO).read_bytes(), **kept})


def conclude(folder: Path, summary: dict[str, Any]) -> None:
    """Writes the summary of a run, and which files belong to it."""
    files: dict[str, bytes | str] = {**RunFiles(folder).digests}
    for name in (METRICS, MODEL, STATES):
        files |= files_below(folder, name)
    text = json.dumps(finite(summary), indent=2, allow_nan=False) + "\n"
    write_manifest(folder, files | {SUMMARY: text.encode()})
    write_atomic(folder / SUMMARY, text)


def carry_on(
    job: Job, folder: Path, console: Console, work: Callable[[Interrupted], Found]
) -> Path:
    """Does the work of a run, then writes its summary and its report, whatever came of it.

    Raises:
        NeurosimError: why the work failed; the folder is valid all the same.
        OSError: why something could not be written; the run can be resumed.
    """
    if not isinstance(console, Unasked):
        console.print(f"run folder {folder}", soft_wrap=True, markup=False)
    with interruptible() as interrupted:  # until everything is written
        try:
            summary, problem = work(interrupted)
        except OSError as error:
            summary, problem = {"name": job.name, "status": "interrupted"}, error
        if problem is not None:
            summary["error"] = str(problem)
        with suppress(OSError) if isinstance(problem, OSError) else nullcontext():
            conclude(folder, summary)
            write_report(folder, job.network)
    if problem is not None:
        problem.add_note(f"the run folder is {folder}")
        raise problem
    return folder


@torch.no_grad()
def facts(folder: Path, simulation: Simulation) -> dict[str, Any]:
    """Returns what a summary says of what was simulated, and of what came of it by its digest."""
    model = simulation.model
    return {
        "dyads": model.network.dyads,
        "parameters": parameters_of(model),
        **measured(simulation),
        **_faults(simulation),
        "weights_sha256": _weights_digest(model),
        "metrics_sha256": file_digest(folder / METRICS),
    }


def _weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over all parameters, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _environment(device: torch.device) -> dict[str, Any]:
    """What the results may depend on besides the scenario, and how they came to be."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "neurosim": __version__,
        "commit": _commit(),
        **describe_machine(),
        "device": name,
    }
    if (launch := Launch.read()).job:
        found |= {"torchrun": launch.job, "processes": launch.size}
    if loaded := [asdict(plugin) for plugin in plugins.in_force()]:
        found["plugins"] = loaded
    return found


@cache
def _commit() -> str | None:
    """The commit of neurosim's own repository, with -dirty where files differ; None outside one."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() or None
    return None


def _faults(simulation: Simulation) -> dict[str, Any]:
    """What is broken: numbers of dyads by population, the mismatch, the spread of the clocks."""
    found: dict[str, Any] = dict(simulation.state.damage.summary())
    found["weight_noise"] = simulation.faults.weight_noise
    schedule = simulation.schedule
    found["clock_spread"] = schedule.spread if isinstance(schedule, Periodic) else 0.0
    faults = {name: value for name, value in found.items() if value}
    return {"faults": faults} if faults else {}


def network_in(folder: Path) -> Network | None:
    """Returns the network of a run; a sweep has none of its own, and what is damaged no more."""
    try:
        return Scenario.load(plain(folder / SCENARIO)).network
    except (DocumentError, OSError):
        return None
