"""What a scenario file may say: one dataclass a section, whose fields are the keys.

And where in it an error of the program's own belongs.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field

from neurosim import documents
from neurosim.base import DocumentError
from neurosim.channels import Channels
from neurosim.convergence import RESIDUAL, SWEEPS, TOLERANCE
from neurosim.data import DataSource
from neurosim.documents import Document, NodePath
from neurosim.dynamics import Compute, Plasticity
from neurosim.families import BelowOne, Count, Portion, Positive, described, model_of
from neurosim.learning import EarlyStopping, ListenerChoice, Metric, StreamPlan
from neurosim.maths import Loss, Precision
from neurosim.measures import Costs, Probe, RecordPlan, shipped_costs
from neurosim.network import Faults, Feedback, file_models
from neurosim.rules import DualPropagation, Rule
from neurosim.schedules import Schedule
from neurosim.simulation import Init, Prediction, Processes, Stop
from neurosim.tensors import PATTERN, check_device

DTYPES = {"float32": torch.float32, "float64": torch.float64}

Device = Annotated[str, AfterValidator(check_device), Field(json_schema_extra={"pattern": PATTERN})]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=100)]


def says(description: str) -> Any:
    """Describes a key in the schema and in the docs."""
    return Field(description=description)


MAX_KEEP = 100


@dataclass(frozen=True)
class CheckpointPlan:
    """Which checkpoints of a training are saved, besides those of its end and interruptions."""

    every: Annotated[Count, says("epochs from one to the next")] = 1
    keep: Annotated[
        int,
        Field(ge=1, le=MAX_KEEP),
        says("how many: where the newest is damaged, the run goes on from the one before"),
    ] = 2


@dataclass(frozen=True)
class Training:
    """How long to train, and how to evaluate."""

    epochs: Annotated[Count, says("passes through the training samples")] = 10
    max_steps: Annotated[Count | None, says("end after so many steps at the latest")] = None
    evaluation: Annotated[
        Prediction, says("predict by one pass from the input up, or by the settled network")
    ] = Prediction.of("feedforward")
    validation: Annotated[
        Count | Portion | None,
        says(
            "training samples held out, or the portion of them below 1; the epoch best on them is "
            "the one tested"
        ),
    ] = None
    early_stopping: Annotated[
        EarlyStopping | None, says("end once validation has not improved for some epochs")
    ] = None
    label_smoothing: Annotated[
        BelowOne, says("the part of a target that all classes share, in training")
    ] = 0.0
    ema: Annotated[
        Portion | None,
        says("decay of a moving average of the weights, which is what is evaluated and saved"),
    ] = None
    metrics: Annotated[
        tuple[Metric, ...], says("what an evaluation measures besides accuracy and loss")
    ] = ()
    shards: Annotated[
        Count, says("parts of every batch, computed one by one, which processes share out")
    ] = 1
    checkpoints: Annotated[
        CheckpointPlan, says("how often to save, and how many of them to keep")
    ] = CheckpointPlan()

    def __post_init__(self) -> None:
        if self.early_stopping is not None:
            self.early_stopping.check(self.validation)

    def held_out(self, samples: int) -> int:
        """Returns how many of so many training samples are held out; of a portion at least one."""
        if isinstance(self.validation, float):
            return max(1, round(self.validation * samples))
        return self.validation or 0


@dataclass(frozen=True)
class Robustness:
    """After training: spectral norms, their Lipschitz bound, and the accuracy under attack."""

    eps: Annotated[
        float,
        Field(gt=0, le=1),
        says("how far FGSM moves every value of an image, as a part of their range"),
    ] = 0.1


@dataclass(frozen=True)
class Reference:
    """How exactly a fixed point is computed."""

    sweeps: Annotated[int, Field(ge=1, le=10**6), says("synchronous sweeps at most")] = SWEEPS
    residual: Annotated[Positive, says("what a sweep may still move, relative")] = RESIDUAL


@dataclass(frozen=True)
class ConvergenceStudy:
    """One inference on real samples, measured from its start to the end of the schedule."""

    kind: Annotated[Literal["convergence"], says("which study: convergence")]
    samples: Annotated[Count, says("the first so many samples, as one batch")] = 50
    split: Annotated[Literal["test", "train"], says("the part of the data that they are from")] = (
        "test"
    )
    weights: Annotated[
        str | None, says("a safetensors file of weights; default: the initial ones")
    ] = None
    every: Annotated[Count, says("a record every so many ticks")] = 1
    tolerance: Annotated[Positive, says("of residual and distance, relative")] = TOLERANCE
    reference: Annotated[Reference, says("the fixed point to measure against")] = Reference()


@dataclass(frozen=True, kw_only=True)
class ScenarioFile:
    """A neurosim scenario."""

    name: Annotated[RunName, says("names the folder of the run")]
    network: Annotated[str | dict[str, Any], says("a network file, or a network itself")]
    feedback: Annotated[
        Feedback | None,
        says("feedback weights of all projections, in place of what the network says"),
    ] = None
    data: Annotated[DataSource, says("what to learn")]
    rule: Annotated[Rule, says("what a neuron does when it wakes")] = DualPropagation()
    loss: Annotated[Loss, says("what learning makes small, of the output and its target")] = (
        Loss.of("squared_error")
    )
    init: Annotated[
        Init, says("start each inference anew, from one pass up, or where the last one ended")
    ] = "feedforward"
    schedule: Annotated[Schedule, says("who wakes when")]
    nudge_after: Annotated[
        int | None,
        Field(ge=0),
        says("the tick from which the target acts; default: 0, of parallel the depth"),
    ] = None
    stop: Annotated[Stop | None, says("end an inference once both residuals are small")] = None
    channels: Annotated[Channels, says("what happens to messages on their way")] = Channels()
    faults: Annotated[Faults, says("dyads and synapses that are broken")] = Faults()
    plasticity: Annotated[Plasticity, says("how weights learn")] = Plasticity.of(
        "contrastive_hebbian"
    )
    training: Annotated[Training, says("how long to train, and how it is evaluated")] = Training()
    probes: Annotated[tuple[Probe, ...], says("what is recorded, and how often")] = (
        Probe.of("accuracy"),
    )
    record: Annotated[
        RecordPlan | None, says("dyads that a file of the run follows through every inference")
    ] = None
    listeners: Annotated[
        tuple[ListenerChoice, ...],
        says("who is told of a training: trackers of experiments, or kinds of a plugin"),
    ] = ()
    robustness: Annotated[Robustness | None, says("also measure this of the trained network")] = (
        None
    )
    study: Annotated[ConvergenceStudy | None, says("measure this instead of training")] = None
    stream: Annotated[
        StreamPlan | None, says("show samples without end, and learn from them as they come")
    ] = None
    costs: Annotated[
        str | dict[str, Any] | None,
        says(
            "what messages, wakes, … take on hardware: loihi, a100, a file or its content; energy "
            "and time are then among the numbers"
        ),
    ] = None
    weights: Annotated[
        str | None,
        says("a safetensors file of the weights to start from, as of a run; default: drawn"),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**63), says("every random draw follows from it")] = 0
    device: Annotated[Device, says("cpu, cuda or cuda:N; auto: cuda where there is one")] = "auto"
    devices: Annotated[
        Mapping[str, Device],
        says("populations on other devices, by name, a..b, or rest; messages go between them"),
    ] = field(default_factory=dict)
    dtype: Annotated[Literal["float32", "float64"], says("number format of weights and states")] = (
        "float32"
    )
    precision: Annotated[
        Precision | None, says("bf16-mixed: products in bfloat16; default: as dtype")
    ] = None
    compute: Annotated[
        Compute, says("dense: never a part of a population; graph: captured by CUDA")
    ] = "auto"
    processes: Annotated[
        Processes, says("one process a population, or one a unit; the results are the same")
    ] = "population"
    threads: Annotated[
        int | None, Field(ge=1, le=4096), says("threads of torch; default: as torch chooses")
    ] = None

    @property
    def batch(self) -> int:
        """How many samples are simulated at the same time."""
        return self.data.batch_size if self.stream is None else self.stream.streams


def overridden(document: Document, assignments: Sequence[str]) -> Document:
    """Applies overrides to a scenario; ``network.activation=tanh`` changes the network it names.

    Where it says nothing, a key belongs to the kind that is the default: ``rule.beta=0.5``.
    """
    said = [re.sub(r"^\s*data\.kind\b", "data.name", assignment) for assignment in assignments]
    before = _by_name(document)
    files: dict[NodePath, documents.ReadPart] = {
        ("network",): documents.load_part,
        ("costs",): _costs_at,
    }
    found = documents.apply_overrides(before, said, files)
    defaults = {f.name: described(f.default) for f in fields(ScenarioFile)}
    return _by_name(replace(found, value=_with_kinds(found.value, defaults, before.value)))


def costs_of(file: ScenarioFile, document: Document) -> Costs | None:
    """Returns what hardware takes, where the scenario says so."""
    if file.costs is None:
        return None
    read = _costs_at if isinstance(file.costs, str) else Document.part
    return Costs.of(read(document, ("costs",)))


def _costs_at(document: Document, path: NodePath) -> Document:
    """Reads the costs that are named at ``path``: those of some hardware, or of a file."""
    with documents.located(document, path):
        known = shipped_costs(document.part(path).value)
    return documents.load(known) if known else documents.load_part(document, path)


def _with_kinds(said: Any, default: Any, before: Any) -> Any:
    """Names the kind of the default in mappings that were not there before."""
    if not (isinstance(said, dict) and isinstance(default, dict)):
        return said
    kind = {"kind": default["kind"]} if "kind" in default else {}
    said = said if before is not None else kind | said
    if said.get("kind", default.get("kind")) != default.get("kind"):
        return said
    old = before if isinstance(before, dict) else {}
    return {k: _with_kinds(value, default.get(k), old.get(k)) for k, value in said.items()}


def parsed(document: Document) -> tuple[Document, Any]:
    """Returns a document with the names that a scenario has, and what it says.

    Raises:
        DocumentError: for what a scenario does not have; it says where keys of a network belong.
    """
    document, model = _by_name(document), model_of(ScenarioFile)
    own = file_models()[0].model_fields.keys() - model.model_fields.keys()
    said = document.value.keys() if isinstance(document.value, dict) else set()
    if said & {"layers", "populations"} and not said & {"network", "data", "schedule"}:
        problem = "this is a network, not a scenario; a scenario names it: network: FILE"
        raise DocumentError([document.problem((), problem)])
    model.elsewhere = {key: f"the network: network.{key}" for key in own}
    return document, documents.parse(model, document)


def _by_name(document: Document) -> Document:
    """Calls the ``kind`` of the data, which may stand there too, their ``name``. Where one file
    says one and another the other, the later file counts."""
    data = document.value.get("data") if isinstance(document.value, dict) else None
    if not isinstance(data, dict) or "kind" not in data:
        return document
    marks, kind, name = dict(document.marks), ("data", "kind"), ("data", "name")
    if "name" in data:
        if not {kind, name} <= marks.keys() or document.layer(kind) == document.layer(name):
            return document
        later = document.layer(kind) > document.layer(name)
        data = {key: value for key, value in data.items() if key != ("name" if later else "kind")}
    renamed = {"name" if key == "kind" else key: value for key, value in data.items()}
    mark, spelled = marks.pop(kind, None), dict(document.spelled)
    if "kind" in data:
        spelled[name] = "kind"
        marks |= {} if mark is None else {name: mark}
    value = {**document.value, "data": renamed}
    return replace(document, value=value, marks=marks, spelled=spelled)


# Where a scenario has the options of a simulation.
OPTIONS: dict[NodePath, NodePath] = {
    ("loss",): ("loss",),
    ("init",): ("init",),
    ("nudge_after",): ("nudge_after",),
    ("learn_every",): ("plasticity", "every"),
    ("learning_rate",): ("plasticity", "learning_rate"),
    ("probes",): ("probes",),
    ("optimizer",): ("plasticity", "optimizer"),
    ("learning_rate", "options"): ("plasticity", "learning_rate", "options"),
    ("device",): ("device",),
    ("shards",): ("training", "shards"),
    ("precision",): ("precision",),
    ("source",): ("stream", "source"),
    ("target",): ("stream", "target"),
    ("metrics", "k"): ("training", "metrics"),
    **{(key,): ("training", key) for key in ("metrics", "early_stopping", "label_smoothing")},
}


def located(document: Document, path: NodePath) -> AbstractContextManager[None]:
    """Gives an error of the program's own a line in the scenario: that of the option at fault."""
    return documents.located(document, path, OPTIONS)
