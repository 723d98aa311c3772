"""A scenario: one YAML file that names everything of a run. Every error has its line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from neurosim import documents
from neurosim.datasets import Dataset, Split
from neurosim.documents import COMMAND_LINE, Document, NodePath
from neurosim.engine import Processes
from neurosim.errors import DocumentError, NeurosimError
from neurosim.inputs import Device
from neurosim.losses import LossName
from neurosim.model import Model
from neurosim.network import Network
from neurosim.random import stream
from neurosim.schedules import Schedule
from neurosim.sections import (
    AnyData,
    AnyProbe,
    AnySchedule,
    ChannelsSection,
    DualPropagationSection,
    PlasticitySection,
    Section,
    StopSection,
    TrainingSection,
    probe_intervals,
    tick_probes,
)
from neurosim.simulation import Init, Simulation
from neurosim.tick import Compute
from neurosim.training import Trainer, TrainingPlan

DTYPES = {"float32": torch.float32, "float64": torch.float64}
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=100)]


class ScenarioFile(Section):
    """A neurosim scenario."""

    name: RunName = Field(description="names the folder of the run")
    network: str | dict[str, Any] = Field(description="a network file, or a network itself")
    data: AnyData
    rule: DualPropagationSection = DualPropagationSection(kind="dual_propagation")
    loss: LossName = "squared_error"
    init: Init = "feedforward"
    schedule: AnySchedule
    nudge_after: int | None = Field(
        None, ge=0, description="ticks after which the target acts; parallel: the depth"
    )
    stop: StopSection | None = None
    channels: ChannelsSection = ChannelsSection()
    plasticity: PlasticitySection = PlasticitySection()
    training: TrainingSection = TrainingSection()
    probes: list[AnyProbe] = Field(default=["accuracy"])
    seed: int = Field(0, ge=0, lt=2**63)
    device: Device = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    compute: Compute = "auto"
    processes: Processes = "population"
    threads: int | None = Field(None, ge=1, le=4096, description="threads of torch")

    @model_validator(mode="after")
    def _together(self) -> ScenarioFile:
        probe_intervals(self.probes)
        if self.rule.nudge == "prediction" and self.init != "feedforward":
            raise ValueError(
                f"the nudge 'prediction' needs init 'feedforward', not {self.init!r}; or use the "
                "nudge 'potential' or 'proximal'"
            )
        if self.rule.nudge == "proximal" and self.loss != "squared_error":
            raise ValueError(
                f"the nudge 'proximal' is the closed form of squared_error, not of {self.loss}; "
                "use the nudge 'potential' or 'prediction'"
            )
        return self


@dataclass(frozen=True)
class Scenario:
    """A scenario that has been checked as far as it can be without reading data."""

    file: ScenarioFile
    document: Document
    network_document: Document
    network: Network
    schedule: Schedule

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> Scenario:
        """Reads a scenario file. Raises DocumentError that lists what is wrong, with lines."""
        return cls.of(documents.apply_overrides(documents.load(path), overrides))

    @classmethod
    def of(cls, document: Document) -> Scenario:
        """The same from a document."""
        file = documents.parse(ScenarioFile, document)
        if isinstance(file.network, str):
            with located(document, ("network",)):
                path = _folder(document, ("network",)) / Path(file.network).expanduser()
                network_document = documents.load(path)
        else:
            network_document = document.part(("network",))
        network = Network.from_document(network_document)
        schedule = file.schedule.make()
        scenario = cls(file, document, network_document, network, schedule)
        scenario._check()
        return scenario

    def _check(self) -> None:
        self._check_cycle()
        tick = self.schedule.tick
        for name in self.file.channels.overrides:
            with located(self.document, ("channels", "overrides", name)):
                self.network.projection(name)
        with located(self.document, ("channels",)):
            self.file.channels.make().resolve(self.network, tick)
        if self.file.nudge_after is None:
            with located(self.document, ("schedule",)):
                self.schedule.nudge_after(self.network.depth)
        # Tensors on "meta" have shapes but no memory: enough for what a simulation checks.
        with located(self.document, ("init",)):
            simulation = self._simulation(
                Model(self.network, dtype=self.dtype, device="meta"), "meta"
            )
        with located(self.document, ("schedule",)):
            simulation.check_schedule()

    def _check_cycle(self) -> None:
        """What a network with a cycle cannot be asked for."""
        if self.network.cycle is None:
            return
        problems = []
        if self.file.training.evaluation == "feedforward":
            problems.append(
                self.document.problem(
                    ("training", "evaluation"),
                    "the network has a cycle, so it has no feed-forward prediction; use "
                    "evaluation 'settled'",
                )
            )
        if "gradient_angle" in probe_intervals(self.file.probes):
            problems.append(
                self.document.problem(
                    ("probes",),
                    "gradient_angle compares with back-propagation, which needs a network without "
                    "cycles",
                )
            )
        if problems:
            raise DocumentError(problems)

    # ---- what it makes -------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.file.dtype]

    def data(self) -> Dataset:
        """The data set, checked against the network. Raises DocumentError."""
        with located(self.document, ("data",)):
            data = self.file.data.read(_folder(self.document, ("data", "root")))
            shape = self.network.input.shape
            train, test = data.train.reshaped(shape), data.test.reshaped(shape)
            data = Dataset(data.name, train, test, data.classes)
            if self.network.output.size != data.classes:
                raise NeurosimError(
                    f"{data.name} has {data.classes} classes, but the output population "
                    f"{self.network.output.name!r} has {self.network.output.size} dyads"
                )
            limit = self.file.data.limit
            data = data.limit(limit, limit)
            held = self.file.training.validation or 0
            if len(data.train) - held < self.file.data.batch_size:
                raise NeurosimError(
                    f"there are {len(data.train) - held} training images, fewer than one batch of "
                    f"{self.file.data.batch_size}"
                )
            return data

    def model(self) -> Model:
        """The model with its initial weights."""
        return Model(self.network, seed=self.file.seed, dtype=self.dtype)

    def _simulation(self, model: Model, device: str) -> Simulation:
        file = self.file
        return Simulation(
            model,
            rule=file.rule.make(),
            loss=file.loss,
            schedule=self.schedule,
            channels=file.channels.make(),
            init=file.init,
            nudge_after=file.nudge_after,
            learn_every=file.plasticity.every,
            probes=tick_probes(probe_intervals(file.probes)),
            stop=None if file.stop is None else file.stop.make(),
            device=device,
            compute=file.compute,
            processes=file.processes,
            seed=file.seed,
        )

    def simulation(self, model: Model) -> Simulation:
        """The simulation of a model, on the scenario's device. Raises DocumentError."""
        with located(self.document, ("device",)):
            return self._simulation(model, self.file.device)

    def trainer(self, data: Dataset) -> Trainer:
        """Everything put together, ready to train on ``data``."""
        file = self.file
        model = self.model()
        simulation = self.simulation(model)
        intervals = probe_intervals(file.probes)
        plan = TrainingPlan(
            epochs=file.training.epochs,
            max_steps=file.training.max_steps,
            batch_size=file.data.batch_size,
            evaluation=file.training.evaluation,
            learning_rate=file.plasticity.learning_rate.make(),
            loss_every=intervals.get("loss", 10),
            accuracy_every=intervals.get("accuracy", file.training.epochs),
        )
        train, validation = self._held_out(data)

        def settled() -> Simulation:
            simulation = self._simulation(model, self.file.device)
            simulation.random = stream(file.seed, "evaluation")
            return simulation

        return Trainer(
            simulation,
            file.plasticity.optimizer.make().make(model),
            train,
            data.test,
            plan,
            classes=data.classes,
            validation=validation,
            settled=settled,
            seed=file.seed,
        )

    def _held_out(self, data: Dataset) -> tuple[Split, Split | None]:
        count = self.file.training.validation
        if count is None:
            return data.train, None
        return data.validation(count)

    def resolved(self) -> str:
        """The scenario as YAML that runs anywhere: network inline, every default written out."""
        value = self.file.model_dump(mode="json", by_alias=True)
        value["network"] = self.network_document.value
        if "root" in value["data"]:
            root = _folder(self.document, ("data", "root")) / Path(value["data"]["root"])
            value["data"]["root"] = str(root.expanduser().resolve())
        return documents.dumps(value)


def _folder(document: Document, path: NodePath) -> Path:
    """What a path in a document is relative to: its file, or here for the command line."""
    file = document.position(path).file
    return Path() if file in (COMMAND_LINE, "<dict>") else Path(file).parent


@contextmanager
def located(document: Document, path: NodePath) -> Iterator[None]:
    """Gives an error of the program's own a line in the document."""
    try:
        yield
    except DocumentError:
        raise
    except NeurosimError as error:
        raise DocumentError([document.problem(path, str(error))]) from None
