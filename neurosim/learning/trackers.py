"""Listeners that tell a tracker of experiments what happens; each tracker is an extra."""

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from neurosim import documents
from neurosim.base import ConfigurationError, flat, number
from neurosim.families import register
from neurosim.learning import events

_SCENARIO = "scenario.yaml"
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Tracker(events.Listener, ABC):
    """Hands on what a training records: its logged steps, probes and epochs, each with the step.

    Raises:
        ConfigurationError: without the ``module`` that the ``extra`` brings, or where it cannot
            begin or go on.
    """

    module: ClassVar[str]
    extra: ClassVar[str]
    hint: ClassVar[str] = ""  # what to do where it cannot begin
    opened = False

    def __init__(self, folder: Path) -> None:
        self.folder, self.library = folder, self.imported()

    @classmethod
    def imported(cls) -> Any:
        """Returns the library. Raises ConfigurationError where it is missing."""
        try:
            return importlib.import_module(cls.module)
        except ImportError:
            how = f"pip install 'neurosim[{cls.extra}]'"
            said = f"the listener {cls.extra} needs a package: {how}"
            raise ConfigurationError(said) from None

    @abstractmethod
    def open(self, scenario: str, step: int) -> None:
        """Begins, or goes on after that many steps; ``scenario`` is YAML, empty without one."""

    @abstractmethod
    def write(self, numbers: Mapping[str, float], step: int) -> None:
        """Hands on numbers by name."""

    @abstractmethod
    def close(self, status: events.Status) -> None:
        """Ends."""

    def on_start(self, event: events.StartEvent) -> None:
        file = self.folder / _SCENARIO
        scenario = file.read_text(encoding="utf-8") if file.is_file() else ""
        with self._in_words("cannot begin", self.hint):
            self.open(scenario, event.step)
        self.opened = True

    @contextmanager
    def _in_words(self, what: str, hint: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each library has its own, for servers and folders alike
            said = " ".join(f"{error or type(error).__name__}".split())
            said = f"the listener {self.extra} {what}: {said[:400]}{hint}"
            raise ConfigurationError(said) from error

    def _told(self, event: events.TrainingEvent) -> None:
        record = event.record()
        if record is not None:
            kind = record.get("probe", record["event"])
            known = ("event", "probe", "epoch", "step", "tick")
            named = flat({key: record[key] for key in record if key not in known}, f"{kind}/")
            numbers = {key: n for key, value in named.items() if (n := number(value)) is not None}
            with self._in_words("cannot go on"):
                self.write(numbers, event.step)

    on_step = on_trace = on_epoch = _told

    def on_end(self, event: events.EndEvent) -> None:
        if self.opened:  # and not where that failed, of which the error tells
            with self._in_words("cannot end"):
                self.close(event.status)


class _TensorBoard(Tracker):
    module, extra = "torch.utils.tensorboard", "tensorboard"

    def open(self, scenario: str, step: int) -> None:
        # What was written after the checkpoint that a run goes on from is not shown any more.
        folder = str(self.folder / "tensorboard")
        self._writer = self.library.SummaryWriter(folder, purge_step=step + 1)
        if scenario and not step:
            self._writer.add_text("scenario", f"```yaml\n{scenario}\n```")

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self, status: events.Status) -> None:
        self._writer.close()


class _WeightsAndBiases(Tracker):
    module = extra = "wandb"

    def __init__(self, folder: Path, project: str, mode: str) -> None:
        super().__init__(folder)
        self._how: dict[str, Any] = {"project": project, "mode": mode}

    def open(self, scenario: str, step: int) -> None:
        config = documents.loads(scenario, _SCENARIO).value if scenario else None
        about = {"id": self.folder.name, "name": self.folder.name, "resume": "allow"}
        self._run = self.library.init(dir=str(self.folder), config=config, **about, **self._how)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self, status: events.Status) -> None:
        self._run.finish(exit_code=int(status == "failed"))


class _MLflow(Tracker):
    module = extra = "mlflow"
    hint = (
        " (uri names a server; databases and files need all of MLflow, of which the extra "
        "neurosim[mlflow] is a part: pip install mlflow)"
    )

    def __init__(self, folder: Path, uri: str | None, experiment: str) -> None:
        super().__init__(folder)
        self._uri, self._experiment, self._id = uri, experiment, ""

    def open(self, scenario: str, step: int) -> None:
        self._client = client = self.library.MlflowClient(self._uri)
        if self._id:  # of the run that goes on
            client.update_run(self._id, "RUNNING")
            return
        found = client.get_experiment_by_name(self._experiment)
        place = found.experiment_id if found else client.create_experiment(self._experiment)
        self._id = client.create_run(place, run_name=self.folder.name).info.run_id
        value = documents.loads(scenario, _SCENARIO).value if scenario else {}
        for key, part in value.items():
            client.log_param(self._id, key, str(part)[:6000])

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            plain = re.sub(r"[^\w./ :-]", "_", name.replace("[", ".").replace("]", ""))
            self._client.log_metric(self._id, plain, value, step=step)  # which takes no h1[5]

    def close(self, status: events.Status) -> None:
        self._client.set_terminated(self._id, _STATUS[status])

    def state_dict(self) -> dict[str, Any]:
        """Returns the number that the tracker gave the run."""
        return {"id": self._id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._id = state["id"]


class _Aim(Tracker):
    module = extra = "aim"

    def __init__(self, folder: Path, repo: str | None, experiment: str) -> None:
        super().__init__(folder)
        self._repo, self._experiment, self._id = repo, experiment, ""

    def open(self, scenario: str, step: int) -> None:
        # Aim's own watching of the machine and of what is printed is not asked for.
        alone = {"system_tracking_interval": None, "capture_terminal_logs": False}
        about = {"repo": self._repo or str(self.folder), "experiment": self._experiment, **alone}
        self._run = self.library.Run(self._id or None, **about)
        if not self._id:
            self._run.name = self.folder.name
            self._run["scenario"] = documents.loads(scenario, _SCENARIO).value if scenario else {}
        self._id = self._run.hash

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._run.track(value, name=name, step=step)

    def close(self, status: events.Status) -> None:
        self._run["status"] = status
        self._run.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns the hash that the tracker gave the run."""
        return {"id": self._id}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._id = state["id"]


class _Choice(events.ListenerChoice, ABC):
    tracker: ClassVar[type[Tracker]]

    def check(self) -> None:
        self.tracker.imported()


@register("tensorboard")
@dataclass(frozen=True)
class TensorBoard(_Choice):
    """Writes events for TensorBoard into the folder ``tensorboard`` of the run."""

    tracker = _TensorBoard

    def make(self, folder: Path) -> Tracker:
        return _TensorBoard(folder)


@register("wandb")
@dataclass(frozen=True)
class WeightsAndBiases(_Choice):
    """Tells Weights & Biases, by default into files of the run's folder (``wandb sync`` later)."""

    tracker = _WeightsAndBiases

    project: Annotated[
        str, Field(min_length=1, description="the project or experiment that the run belongs to")
    ] = "neurosim"
    mode: Annotated[
        Literal["offline", "online"],
        Field(description="offline: into files; online: tell the server at once"),
    ] = "offline"

    def make(self, folder: Path) -> Tracker:
        return _WeightsAndBiases(folder, self.project, self.mode)


@register("mlflow")
@dataclass(frozen=True)
class MLflow(_Choice):
    """Tells MLflow."""

    tracker = _MLflow

    uri: Annotated[
        str | None,
        Field(description="of the tracking server or store; default: as MLflow is set up"),
    ] = None
    experiment: Annotated[
        str, Field(min_length=1, description="the project or experiment that the run belongs to")
    ] = "neurosim"

    def make(self, folder: Path) -> Tracker:
        return _MLflow(folder, self.uri, self.experiment)


@register("aim")
@dataclass(frozen=True)
class Aim(_Choice):
    """Tells Aim, by default in files of the run's folder (``aim up --repo FOLDER``)."""

    tracker = _Aim

    repo: Annotated[
        str | None, Field(description="folder or server of Aim; default: the run's folder")
    ] = None
    experiment: Annotated[
        str, Field(min_length=1, description="the project or experiment that the run belongs to")
    ] = "neurosim"

    def make(self, folder: Path) -> Tracker:
        return _Aim(folder, self.repo, self.experiment)
