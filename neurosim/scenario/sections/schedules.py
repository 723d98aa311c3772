"""What each section of a scenario may say, and the object that it makes.

Every section is a pydantic model; a family of alternatives is a union told apart by ``kind`` (or
``name`` for data). A new schedule or data set is one class here and one entry in its union.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from neurosim import schedules
from neurosim.base import ConfigurationError
from neurosim.data import Augmentation, Dataset, cifar
from neurosim.data import idx as datasets
from neurosim.learning import Evaluation, LearningRate, OptimizerChoice
from neurosim.measures import Probe, ProbeKind
from neurosim.scenario.sections.base import (
    BelowOne,
    Count,
    Fraction,
    Maker,
    NotNegative,
    Portion,
    Positive,
    Section,
)
from neurosim.schedules import Order, Phase, Schedule, Unit, UnitKind
from neurosim.simulation import Stop

# ---- schedules ---------------------------------------------------------------------------------


class UnitSection(Section):
    """A tile of ``size`` × ``size`` positions, or a block of ``size`` dyads."""

    kind: Literal["tile", "block"]
    size: Count


class ScheduleSection(Maker):
    """Common to all schedules."""

    tick: Positive = Field(1.0, description="simulated time of one tick")

    def make(self) -> Schedule:
        arguments = self.arguments()
        if "unit" in arguments:
            unit = arguments["unit"]
            given = isinstance(unit, UnitSection)
            arguments["unit"] = Unit(unit.kind, unit.size) if given else Unit(unit)
        schedule = self.makes(**arguments)
        assert isinstance(schedule, Schedule)
        return schedule


UnitChoice = UnitKind | UnitSection


class SweepSection(ScheduleSection):
    """One population per tick."""

    makes = schedules.Sweep
    kind: Literal["sweep"]
    order: Order = "forward_backward"
    passes: Count = 1
    unit: UnitChoice = "population"


class ParallelSection(ScheduleSection):
    """Every dyad at every tick."""

    makes = schedules.Parallel
    kind: Literal["parallel"]
    ticks: Count = 16
    unit: UnitChoice = "population"


class RandomOrderSection(ScheduleSection):
    """Units in random order: ``updates`` for populations, ``groups`` and ``passes`` for others."""

    makes = schedules.RandomOrder
    kind: Literal["random_order"]
    unit: UnitChoice = "neuron"
    updates: Count | None = None
    groups: Count | None = None
    passes: Count | None = None


class PoissonSection(ScheduleSection):
    """Every unit has its own exponential clock."""

    makes = schedules.Poisson
    kind: Literal["poisson"]
    unit: UnitChoice = "neuron"
    rate: Positive | dict[str, Positive] = 1.0
    duration: Positive


class PeriodicSection(ScheduleSection):
    """Every unit has its own period, phase and jitter."""

    makes = schedules.Periodic
    kind: Literal["periodic"]
    unit: UnitChoice = "neuron"
    period: Positive = 1.0
    spread: NotNegative = 0.0
    jitter: NotNegative = 0.0
    phase: Phase = "random"
    duration: Positive


class LazySection(ScheduleSection):
    """A unit wakes exactly when something has reached it."""

    makes = schedules.Lazy
    kind: Literal["lazy"]
    unit: UnitChoice = "neuron"
    duration: Positive


class ReplaySection(ScheduleSection):
    """An explicit list of wakes: [time, population, flat indices or null for all]."""

    makes = schedules.Replay
    kind: Literal["replay"]
    wakes: list[tuple[Positive, str, list[int] | None]] = Field(min_length=1)


AnySchedule = Annotated[
    SweepSection
    | ParallelSection
    | RandomOrderSection
    | PoissonSection
    | PeriodicSection
    | LazySection
    | ReplaySection,
    Field(discriminator="kind"),
]


# ---- stopping ----------------------------------------------------------------------------------


class StopSection(Maker):
    """Ends an inference once both total residuals are small enough."""

    makes = Stop
    residual: Positive
    every: Count = 1


# ---- learning ----------------------------------------------------------------------------------


class OptimizerSection(Maker):
    """A torch optimizer."""

    makes = OptimizerChoice
    lr: Positive = 1e-3
    weight_decay: NotNegative = 0.0

    def make(self) -> OptimizerChoice:
        kind: str = getattr(self, "kind")  # noqa: B009
        made: OptimizerChoice = OptimizerChoice.family[kind](**self.arguments())
        return made


class SGDSection(OptimizerSection):
    """Stochastic gradient descent."""

    kind: Literal["sgd"]
    momentum: Fraction = 0.0


class AdamSection(OptimizerSection):
    """Adam, or AdamW with decoupled weight decay."""

    kind: Literal["adam", "adamw"]
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    eps: Positive = 1e-8


class ConstantSection(Maker):
    """The optimizer's own rate."""

    makes = LearningRate
    kind: Literal["constant"]

    def make(self) -> LearningRate:
        made: LearningRate = LearningRate.family["constant"]()
        return made


class CosineSection(Maker):
    """Linear warm-up, then half a cosine down."""

    makes = LearningRate
    kind: Literal["cosine"]
    warmup_epochs: NotNegative = 0.0
    warmup_from: NotNegative = 0.0
    final: NotNegative = 0.0

    def make(self) -> LearningRate:
        made: LearningRate = LearningRate.family["cosine"](**self.arguments())
        return made


class PlasticitySection(Section):
    """How weights learn: at the end of every inference, or ``every`` so many ticks."""

    kind: Literal["contrastive_hebbian"] = "contrastive_hebbian"
    every: Count | None = None
    optimizer: Annotated[SGDSection | AdamSection, Field(discriminator="kind")] = AdamSection(
        kind="adam"
    )
    learning_rate: Annotated[ConstantSection | CosineSection, Field(discriminator="kind")] = (
        ConstantSection(kind="constant")
    )


class TrainingSection(Section):
    """How long to train, and how to evaluate."""

    epochs: Count = 10
    max_steps: Count | None = None
    evaluation: Evaluation = "feedforward"
    validation: Count | Portion | None = Field(
        None,
        description="training images held out, or the portion of them below 1; the epoch best on "
        "them is the one tested",
    )

    def held_out(self, images: int) -> int:
        """How many of so many training images are held out; of a portion at least one."""
        if isinstance(self.validation, float):
            return max(1, round(self.validation * images))
        return self.validation or 0


class RobustnessSection(Section):
    """After training: spectral norms, their Lipschitz bound, and the accuracy under attack."""

    eps: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="how far FGSM moves every value of an image, as a part of their range"
    )


# ---- data --------------------------------------------------------------------------------------


class DataSection(Section):
    """Common to all data sets."""

    batch_size: Count = 50
    limit: Count | None = Field(None, description="use this many training and test images")

    @property
    def augmentation(self) -> Augmentation | None:
        """What is done to training images at random."""
        return None

    def read(self, folder: Path) -> Dataset:
        raise NotImplementedError


class DigitsSection(DataSection):
    """The 1,797 handwritten digits of 8×8 pixels that ship with the package."""

    name: Literal["digits"]

    def read(self, folder: Path) -> Dataset:
        del folder
        return datasets.digits()


class MnistSection(DataSection):
    """MNIST's IDX files in the folder ``root``."""

    name: Literal["mnist"]
    root: str

    def read(self, folder: Path) -> Dataset:
        return datasets.mnist(folder / Path(self.root).expanduser())


class ColourSection(DataSection):
    """Colour images of 32×32 pixels; training images may be cropped and flipped at random."""

    root: str
    augment: Augmentation | None = Field(
        None, description="crop_flip: random crops of training images padded by 4, half mirrored"
    )

    @property
    def augmentation(self) -> Augmentation | None:
        return self.augment


class Cifar10Section(ColourSection):
    """CIFAR-10's binary files in the folder ``root`` or in cifar-10-batches-bin there."""

    name: Literal["cifar10"]

    def read(self, folder: Path) -> Dataset:
        return cifar.cifar10(folder / Path(self.root).expanduser())


class Cifar100Section(ColourSection):
    """CIFAR-100's binary files in the folder ``root`` or in cifar-100-binary there."""

    name: Literal["cifar100"]

    def read(self, folder: Path) -> Dataset:
        return cifar.cifar100(folder / Path(self.root).expanduser())


class Imagenet32Section(ColourSection):
    """The NumPy archives of ImageNet32×32 in the folder ``root``."""

    name: Literal["imagenet32"]

    def read(self, folder: Path) -> Dataset:
        return cifar.imagenet32(folder / Path(self.root).expanduser())


AnyData = Annotated[
    DigitsSection | MnistSection | Cifar10Section | Cifar100Section | Imagenet32Section,
    Field(discriminator="name"),
]


# ---- probes ------------------------------------------------------------------------------------


class LossProbe(Section):
    """Training loss, every so many steps."""

    kind: Literal["loss"]
    every: Count = 10


class AccuracyProbe(Section):
    """Accuracy, every so many epochs."""

    kind: Literal["accuracy"]
    every: Count = 1


class TickProbe(Section):
    """A measure every so many ticks of one inference per epoch, the last."""

    kind: ProbeKind
    every: Count = 1


ProbeName = Literal["loss", "accuracy"] | ProbeKind
AnyProbe = ProbeName | Annotated[LossProbe | AccuracyProbe | TickProbe, Field(discriminator="kind")]


def probe_intervals(chosen: Sequence[Any]) -> dict[str, int]:
    """Kind → every. Raises ConfigurationError where a probe is named twice."""
    result: dict[str, int] = {}
    defaults = {"loss": 10}
    for number, probe in enumerate(chosen):
        kind = probe if isinstance(probe, str) else probe.kind
        if kind in result:
            raise ConfigurationError(f"the probe {kind!r} is named twice", (number,))
        result[kind] = defaults.get(kind, 1) if isinstance(probe, str) else probe.every
    return result


def tick_probes(intervals: dict[str, int]) -> list[Probe]:
    """The probes of an inference among them."""
    return [Probe(kind, intervals[kind]) for kind in get_args(ProbeKind) if kind in intervals]
