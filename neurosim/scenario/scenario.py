"""A scenario: one YAML file that names everything of a run. Every error has its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from neurosim import documents
from neurosim.base import ConfigurationError, DocumentError, NetworkError, here
from neurosim.data import Dataset, DataSource, digest_of
from neurosim.documents import Document, NodePath
from neurosim.families import build, check, described, plugins
from neurosim.learning import (
    FOREVER,
    Memory,
    StreamTrainer,
    Trainer,
    TrainingPlan,
    check_shards,
    estimate,
    load_weights,
)
from neurosim.measures import Costs, in_order, lipschitz_bound
from neurosim.network import Model, Network, groups_of
from neurosim.scenario.file import (
    DTYPES,
    ScenarioFile,
    Training,
    costs_of,
    located,
    overridden,
    parsed,
)
from neurosim.simulation import Simulation, run_length, why_none


@dataclass(frozen=True)
class Scenario:
    """A scenario that has been checked as far as it can be without reading data."""

    file: ScenarioFile
    document: Document
    network_document: Document
    network: Network
    costs: Costs | None = None

    @classmethod
    def load(
        cls, path: Path, overrides: Sequence[str] = (), data: DataSource | None = None
    ) -> Scenario:
        """Reads a scenario file, whose data are ``data`` if given, but for what overrides say of
        them. Raises DocumentError that lists what is wrong, with lines."""
        check(Sequence[str], overrides=overrides)
        document = documents.load(path)
        if data is not None and isinstance(document.value, dict):
            document = replace(document, value={**document.value, "data": described(data)})
        return cls.of(overridden(document, overrides), data)

    @classmethod
    def of(cls, document: Document, data: DataSource | None = None) -> Scenario:
        """The same from a document, which says all of its data but what only Python can hold."""
        check(Document, document=document)
        check(DataSource | None, data=data)
        document, said = parsed(document)
        with located(document, ()):
            file: ScenarioFile = build(said)
        if type(data) is type(file.data):
            held = {name: getattr(data, name) for name in file.data.given}
            file = replace(file, data=replace(file.data, **held))
        if isinstance(file.network, str):
            network_document = documents.load_part(document, ("network",))
        else:
            network_document = document.part(("network",))
        network = Network.from_document(network_document)
        if file.feedback is not None:
            network = network.with_feedback(file.feedback)
        scenario = cls(file, document, network_document, network, costs_of(file, document))
        scenario._check()
        return scenario

    def _check(self) -> None:
        file, document = self.file, self.document
        with located(document, ("probes",)):
            in_order(file.probes)
        rule = file.rule
        if file.record is not None:
            with located(document, ("record",)):
                file.record.check(
                    self.network,
                    file.batch,
                    study=file.study is not None,
                    shards=file.training.shards > 1,
                )
        self._check_prediction()
        with located(document, ()):
            rule.check_loss(file.loss)
        warmup = getattr(file.plasticity.learning_rate, "warmup_epochs", 0.0)
        if file.stream is None and warmup >= file.training.epochs:
            message = f"the warm-up takes {warmup:g} of {file.training.epochs} epochs: none is left"
            path = ("plasticity", "learning_rate", "warmup_epochs")
            raise DocumentError([document.problem(path, message)])
        if file.robustness is not None:
            with located(document, ("robustness",)):  # that it can be bounded, and not how
                lipschitz_bound(self.network, {q.name: 1.0 for q in self.network.projections})
        with located(document, ("faults",)):
            file.faults.damage(self.network, file.seed)
        with located(document, ("channels",)):
            file.channels.resolve(self.network, file.schedule.tick)
        if file.nudge_after is None and not rule.phases:
            with located(document, ("schedule",)):
                file.schedule.nudge_after(self.network.depth)
        with located(document, ()):
            simulation = self._hollow()
        with located(document, ("plasticity", "optimizer")):
            file.plasticity.optimizer.make_for(simulation.model.named_parameters())
        if file.stream is not None:
            self._check_stream(simulation)
            return
        if file.study is None:
            with located(document, ()):
                check_shards(simulation, file.training.shards, file.batch)
        with located(document, ("schedule",)):
            try:
                simulation.check_schedule()
            except ConfigurationError as error:
                if error.option == ("nudge_after",) and file.nudge_after is None:
                    error.option = ("ticks",)  # it is parallel's default that does not fit
                raise

    def _check_stream(self, simulation: Simulation) -> None:
        """Refuses what a stream does not do: what belongs to inferences, or to passes."""
        file, usual = self.file, Training()
        assert file.stream is not None
        said = "a stream is as long as its horizon says: leave this out"
        wrong = {
            ("study",): (file.study is not None, "a stream is no study: leave one of them out"),
            ("nudge_after",): (
                file.nudge_after is not None,
                "in a stream labels act in their window: say stream.target.window",
            ),
            ("training", "epochs"): (file.training.epochs != usual.epochs, said),
            ("data", "batch_size"): (
                file.data.batch_size != DataSource.batch_size,
                "in a stream all samples of a tick are of different streams: say stream.streams",
            ),
            ("data", "shuffle"): (not file.data.shuffle, "the source of a stream has its order"),
            ("data", "augment"): (file.data.augment is not None, "a stream does not augment"),
            ("data", "remainder"): (file.data.remainder == "keep", "a stream has no batches"),
            ("training", "shards"): (file.training.shards > 1, "a stream has no batches to cut"),
            ("training", "label_smoothing"): (
                bool(file.training.label_smoothing),
                "a stream does not smooth labels",
            ),
        }
        problems = [
            self.document.problem(path, message)
            for path, (is_wrong, message) in wrong.items()
            if is_wrong
        ]
        if problems:
            raise DocumentError(problems)
        with located(self.document, ("stream",)):
            file.stream.check(simulation, file.plasticity.learning_rate)
        with located(self.document, ("schedule",)):
            if file.stream.episodes:
                simulation.check_schedule()
            run_length(simulation)  # there is none, but is there anybody who never wakes?

    def _check_prediction(self) -> None:
        """What a network that has no feed-forward prediction cannot be asked for."""
        file, rule, problem = self.file, self.file.rule, self.document.problem
        problems = []
        try:
            file.training.evaluation.check(self.network, rule)
        except ConfigurationError as error:
            problems.append(problem(("training", "evaluation"), str(error)))
        if file.robustness is not None and (why := why_none(self.network, rule)):
            message = "attacks and Lipschitz bounds are those of a feed-forward prediction"
            problems.append(problem(("robustness",), f"{message}, but {why}; leave it out"))
        if problems:
            raise DocumentError(problems)

    def _hollow(self) -> Simulation:
        """The simulation on "meta", where tensors have shapes but no memory: enough to check."""
        return self._simulation(Model(self.network, dtype=self.dtype, device="meta"), "meta")

    def memory(self, batch: int) -> dict[str, Memory]:
        """The bytes that training with batches of that size needs, or the scenario's study, by
        device."""
        file, hollow, found = self.file, self._hollow(), dict[str, list[str]]()
        groups = groups_of(self.network, file.devices)
        for population in self.network.populations:
            device = file.devices.get(groups.get(population.name, ""), file.device)
            found.setdefault(device, []).append(population.name)
        learns = file.study is None
        optimizer, averaged = file.plasticity.optimizer, learns and file.training.ema is not None
        how = hollow, batch, optimizer if learns else None, averaged
        return {device: estimate(*how, some) for device, some in found.items()}

    # ---- what it makes -------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Tells the dtype of weights and states."""
        return DTYPES[self.file.dtype]

    def data(self, digest: str = "") -> Dataset:
        """The data set, checked against the network. Raises DocumentError, also for data that have
        another `digest` than this one."""
        file, document = self.file, self.document
        batch, limit = file.batch, file.data.limit
        source, paths = file.data, self._data_paths()
        where = paths[0] if paths else ("data",)
        folder = documents.folder(document, where)
        if any(self.path(path) != self._named(path, folder) for path in paths):
            said: dict[str, Any] = {str(p[-1]): str(self.path(p).resolve()) for p in paths}
            source = replace(source, **said)
        with documents.located(document, ("data",), {(): where}):
            data = source.read(folder)
        if (augmentation := file.data.augmentation) is not None:
            with located(document, ("data", "augment")):
                augmentation.check(data.train.shape)
        with located(document, ("network",)):
            train = data.train.reshaped(self.network.input.shape)
            test = data.test.reshaped(self.network.input.shape)
            output = self.network.output
            if output.size != data.outputs:
                what = "classes" if data.classes is not None else "values a target"
                raise NetworkError(
                    f"{data.name} has {data.outputs} {what}, but the output population "
                    f"{output.name!r} has {output.size} dyads"
                )
        if data.classes is None:
            with located(document, ("loss",)):
                for split in (train, test):
                    file.loss.check_targets(split.labels.reshape(len(split), -1))
        data = replace(data, train=train, test=test).limit(limit, limit)
        if digest and (found := self.digest(data)) != digest:
            names = ", ".join(self._absolute(path) for path in paths)
            told = f"{names}: other data (SHA-256 {found[:12]}…) than where the run was planned"
            with located(document, where):
                raise ConfigurationError(f"{told} ({digest[:12]}…); copy those here")
        held = file.training.held_out(len(data.train))
        if held + (1 if file.data.remainder == "keep" else batch) > len(data.train):
            out = f", {held} of them held out for validation" if held else ""
            message = f"there are {len(data.train)} training samples{out}"
            where = ("data", "batch_size") if file.stream is None else ("stream", "streams")
            fewer = "training.validation, or a smaller " if held else ""
            message += f": no batch of {batch} is left; choose a smaller {fewer}{where[-1]}"
            raise DocumentError([document.problem(where, message)])
        return data

    def digest(self, data: Dataset) -> str:
        """Returns the SHA-256 of its `data` as they are stored; "" where they come from no file."""
        return digest_of(data.train, data.test, numbers=False) if self._data_paths() else ""

    def model(self, resumed: bool = False) -> Model:
        """The model with its initial weights, those drawn if the rest comes from a checkpoint.

        Raises DocumentError where the file that ``weights`` names does not fit.
        """
        model = Model(self.network, seed=self.file.seed, dtype=self.dtype)
        if self.file.weights is not None and not resumed:
            with located(self.document, ("weights",)):
                load_weights(model, self.path(("weights",)))
        return model

    def _simulation(self, model: Model, device: str) -> Simulation:
        file = self.file
        return Simulation(
            model,
            rule=file.rule,
            loss=file.loss,
            schedule=file.schedule,
            channels=file.channels,
            faults=file.faults,
            init=file.init,
            nudge_after=file.nudge_after,
            plasticity=file.plasticity,
            probes=[probe for probe in in_order(file.probes) if probe.per == "tick"],
            stop=file.stop,
            device=device,
            devices=file.devices,
            compute=file.compute,
            precision=file.precision,
            processes=file.processes,
            seed=file.seed,
        )

    def simulation(self, model: Model) -> Simulation:
        """The simulation of a model, on the scenario's device. Raises DocumentError."""
        with located(self.document, ()):
            return self._simulation(model, self.file.device)

    def trainer(self, data: Dataset, resumed: bool = False) -> Trainer:
        """Everything put together, ready to train on ``data``, or to continue from a checkpoint."""
        file = self.file
        model = self.model(resumed)
        simulation = self.simulation(model)
        intervals = {probe.kind: probe.every for probe in file.probes}
        plan = TrainingPlan(
            epochs=file.training.epochs,
            max_steps=file.training.max_steps,
            batch_size=file.batch,
            evaluation=file.training.evaluation,
            learning_rate=file.plasticity.learning_rate,
            loss_every=intervals.get("loss", 10),
            accuracy_every=intervals.get("accuracy", FOREVER),
            augment=file.data.augmentation,
            shuffle=file.data.shuffle,
            remainder=file.data.remainder,
            label_smoothing=file.training.label_smoothing,
            ema=file.training.ema,
            early_stopping=file.training.early_stopping,
            metrics=file.training.metrics,
            shards=file.training.shards,
        )
        held = file.training.held_out(len(data.train))
        train, validation = data.validation(held) if held else (data.train, None)

        with located(self.document, ()):
            made: Any = Trainer if file.stream is None else partial(StreamTrainer, file.stream)
            trainer: Trainer = made(
                simulation,
                file.plasticity.optimizer,
                train,
                data.test,
                plan,
                validation=validation,
                seed=file.seed,
            )
            return trainer

    def resolved(self) -> str:
        """The scenario as YAML that runs anywhere: network inline, every default written out.

        The plugins in force and the weights to start from are a comment, so that a sweep with
        another content is another one.
        """
        value = described(self.file)
        value["network"] = self.network_document.value
        if self.costs is not None:
            value["costs"] = described(self.costs)
        value["threads"] = self.file.threads or torch.get_num_threads()
        weights = self._weights()
        for path in [*self._data_paths(), *weights]:
            part = value
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = self._absolute(path)
        return plugins.comment() + "".join(weights.values()) + documents.dumps(value)

    def check_weights(self, text: str) -> None:
        """Raises DocumentError for a file of weights that is another one than that of which a
        resolved scenario says the SHA-256."""
        for where, line in self._weights().items():
            if line not in text:
                said = f"{self._absolute(where)}: is another file than where the run was planned"
                raise DocumentError([self.document.problem(where, f"{said}; copy that here")])

    def _weights(self) -> dict[NodePath, str]:
        """Where the scenario names files of weights, and what a comment says of each; "" where
        there is none, as a run goes on without it."""
        file, found = self.file, dict[NodePath, str]()
        studied: NodePath = ("study", "weights")
        named = {("weights",): file.weights, studied: getattr(file.study, "weights", None)}
        for where in (where for where, name in named.items() if name is not None):
            path, found[where] = self.path(where), ""
            if path.is_file():
                digest = sha256(path.read_bytes()).hexdigest()
                said = f"{'.'.join(map(str, where))} {Path(self._absolute(where)).name}"
                found[where] = f"# {said}, SHA-256 {digest}\n"
        return found

    def _data_paths(self) -> list[NodePath]:
        """Where the scenario names the files and folders of its data."""
        said = self.file.data
        return [("data", n) for n in said.paths if isinstance(getattr(said, n, None), str)]

    def reads(self) -> list[str]:
        """The files and folders that it names, data and weights."""
        return [self._absolute(where) for where in (*self._data_paths(), *self._weights())]

    def _absolute(self, where: NodePath) -> str:
        return str(self._named(where, documents.folder(self.document, where)).resolve())

    def _named(self, where: NodePath, folder: Path) -> Path:
        return folder / Path(self.document.part(where).value).expanduser()

    def path(self, where: NodePath) -> Path:
        """Where the file or folder is that a value of the scenario names, from where we are."""
        return here(self._named(where, documents.folder(self.document, where)))
