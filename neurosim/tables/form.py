"""Describes tables of runs: rows, columns, and the figures that were published."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """Holds a published test accuracy in percent: mean and standard deviation over ``seeds``."""

    accuracy: float
    std: float
    seeds: int
    epochs: int
    source: str


@dataclass(frozen=True)
class Setting:
    """Holds data and budget that rows share: overrides of their scenarios, in full and for a quick
    look, which takes the digits that ship with the package, and a network that fits them."""

    full: tuple[str, ...]
    quick: tuple[str, ...]


@dataclass(frozen=True)
class TableRow:
    """Describes a row: its name on each axis of the table, a scenario by file name, overrides."""

    values: tuple[str, ...]
    scenario: str
    overrides: tuple[str, ...]
    setting: Setting
    published: Published | None = None

    @property
    def label(self) -> str:
        """The names of the row."""
        return ", ".join(self.values)


@dataclass(frozen=True)
class Table:
    """Describes a table.

    ``baseline`` is the first value of the rows that those like them otherwise are compared with.
    ``columns`` are keys of `neurosim.records.quantities`, with blanks between; ``pictures`` are
    those that are drawn.
    """

    name: str
    title: str
    text: str
    axes: tuple[str, ...]
    rows: tuple[TableRow, ...]
    columns: str
    pictures: str
    seeds: int
    baseline: str | None = None
