"""What each section of a scenario may say, and the object that it makes.

Every section is a pydantic model; a family of alternatives is a union told apart by ``kind`` (or
``name`` for data). A new schedule or data set is one class here and one entry in its union.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from neurosim.base import (
    BelowOne,
    ConfigurationError,
    Count,
    Fraction,
    NotNegative,
    Positive,
)
from neurosim.data import Augmentation, Dataset, cifar
from neurosim.data import idx as datasets
from neurosim.learning import LearningRate, OptimizerChoice
from neurosim.measures import Probe, ProbeKind
from neurosim.scenario.sections.base import Maker, Section

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


AnyOptimizer = Annotated[SGDSection | AdamSection, Field(discriminator="kind")]
AnyLearningRate = Annotated[ConstantSection | CosineSection, Field(discriminator="kind")]


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
