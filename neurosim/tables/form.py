"""What a table of runs is made of: rows, columns, and the figures that were published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Published:
    """A published test accuracy in percent: mean and standard deviation over ``seeds`` seeds."""

    accuracy: float
    std: float
    seeds: int
    epochs: int
    source: str


@dataclass(frozen=True)
class Setting:
    """Data and budget that rows share: overrides of their scenarios, in full and for a quick look.

    The quick ones take the digits that ship with the package, and a network that fits them.
    """

    full: tuple[str, ...]
    quick: tuple[str, ...]


@dataclass(frozen=True)
class TableRow:
    """A row: its name on each axis of the table, a scenario by file name, and its overrides."""

    values: tuple[str, ...]
    scenario: str
    overrides: tuple[str, ...]
    setting: Setting
    published: Published | None = None

    @property
    def label(self) -> str:
        return ", ".join(self.values)


@dataclass(frozen=True)
class Column:
    """A number of a row: its key, and what a reader has to know of it."""

    key: str
    title: str
    unit: str
    meaning: str
    scale: float = 1.0  # from the number to the unit
    axis: Literal["linear", "log", "focus"] = "linear"  # of pictures, see `plots.row_chart`

    @property
    def label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """``baseline`` is the first value of the rows that those like them otherwise are compared with.

    ``pictures`` are the columns that are drawn.
    """

    name: str
    title: str
    text: str
    axes: tuple[str, ...]
    rows: tuple[TableRow, ...]
    columns: tuple[Column, ...]
    pictures: tuple[Column, ...]
    seeds: int
    baseline: str | None = None


# ---- columns -----------------------------------------------------------------------------------

ACCURACY = Column(
    "test_accuracy",
    "test accuracy",
    "%",
    "on the test images, of the feed-forward prediction (rules with phases, EP, H-EP and CHL: of "
    "their free phase) at the epoch that was best on the validation images",
    100.0,
    "focus",
)
DIFFERENCE = Column("difference", "difference", "%", "mean test accuracy minus that of {baseline}")
SECONDS = Column(
    "seconds_per_epoch",
    "wall time",
    "s / epoch",
    "median over the epochs, with evaluation",
    axis="log",
)
CPU_SECONDS = Column(
    "cpu_seconds_per_epoch",
    "processor time",
    "s / epoch",
    "the same of all threads of the process, which other programs on the machine hardly change",
    axis="log",
)
OVER = Column(
    "time_over_baseline",
    "time over {baseline}",
    "times",
    "processor time over that of {baseline}",
)
TICKS = Column("ticks_per_step", "ticks", "per step", "inference steps of one batch", axis="log")
WAKES = Column("wakes_per_step", "wakes", "per step", "wakes of dyads for one batch", axis="log")
MESSAGES = Column(
    "messages_per_sample", "messages", "per sample", "messages sent for one sample", axis="log"
)
MEMORY = Column(
    "peak_memory_bytes",
    "memory",
    "MB",
    "peak of the process with program and data, or of the tensors on a GPU",
    1e-6,
)
ANGLE = Column(
    "gradient_angle",
    "angle",
    "°",
    "of the local gradient to back-propagation at the end of the last epoch",
)
RESIDUAL = Column(
    "residual",
    "residual",
    "",
    "‖s − T(s)‖ / ‖s‖, the larger one of mean and difference, at the end of that inference: "
    "0 at a fixed point",
    axis="log",
)
NORMS = Column(
    "largest_norm",
    "largest σ",
    "",
    "the largest spectral norm of a projection; the JSON file has all",
)
LIPSCHITZ = Column(
    "lipschitz_bound", "Lipschitz bound", "", "the product of the spectral norms", axis="log"
)
ATTACK = Column(
    "attack_accuracy",
    "accuracy under attack",
    "%",
    "test accuracy after FGSM moved every pixel by robustness.eps (0.1) of their range",
    100.0,
)
