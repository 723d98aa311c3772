"""Describes every number of a summary once: what pages, tables, CSV and the command line say of it.

To add a number, write it into the summary of a run, and what it means into ``quantities.yaml``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

import yaml

from neurosim.base import compact, duration, number

Summary = Mapping[str, Any]
# A line of the command line, a tile of a run or a study, a map (or curve) or a column of means of a
# sweep; what has a map has a column, too. Tables of papers name their columns.
Place = Literal["line", "run", "study", "map", "mean"]


def brief(value: float) -> str:
    """Writes three digits: ``0.0123``, ``589 k``."""
    return compact(float(f"{value:.3g}"))


@dataclass(frozen=True)
class Quantity:
    """Describes a number of a summary."""

    key: str  # in the summary, in CSV files and in JSON
    title: str  # for a reader
    unit: str = ""  # in which it is shown
    shown: str = ""  # the places where it is, see `Place`, with blanks between
    meaning: str = ""  # what a reader of a table has to know
    factor: float = 1.0  # from the number in the summary to the unit
    show: Callable[[float], str] = brief  # writes a value in the unit
    better: Literal["lower", "higher", ""] = "lower"  # most numbers are costs or errors
    # Of pictures: log is for values far apart, focus leaves out rows far off all others.
    axis: Literal["linear", "log", "focus"] = "linear"
    absent: Literal["absent", "never"] = "absent"  # why a finished run may lack it
    derive: Callable[[Summary], object] | None = None  # where it does not stand in the summary

    @property
    def heading(self) -> str:
        """The title as a heading."""
        return self.title[0].upper() + self.title[1:]

    @property
    def label(self) -> str:
        """The title with the unit, as axes and columns are named."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def of(self, summary: Summary) -> float | None:
        """Returns the number of a summary as it stands there, None where there is none."""
        return number(self.derive(summary) if self.derive else summary.get(self.key))

    def text(self, value: float) -> str:
        """Returns a number of a summary for a reader, with its unit."""
        unit = "" if self.unit in ("count", "relative") else self.unit
        return f"{self.show(self.factor * value)}{'' if unit in ('', '°') else ' '}{unit}"


# ---- numbers that do not stand in a summary as they are ----------------------------------------


def _ratio(summary: Summary, *keys: str) -> float | None:
    """Divides a number by others."""
    found, *shares = (number(summary.get(key)) for key in keys)
    for share in shares:
        found = found / share if found is not None and share else None
    return found


def _median_lap(summary: Summary, key: str) -> float | None:
    """Takes the median of what lies between the times of a list."""
    times = [n for n in map(number, summary.get(key) or ()) if n is not None]
    return median([b - a for a, b in pairwise([0.0, *times])]) if times else None


def _larger(summary: Summary, *keys: str) -> float | None:
    values = [n for key in keys if (n := number(summary.get(key))) is not None]
    return max(values) if len(values) == len(keys) else None


def _largest(summary: Summary, key: str) -> float | None:
    return max(map(float, (summary.get(key) or {}).values()), default=None)


_SHOWN: dict[str, Callable[[float], str]] = {
    "brief": brief,
    "count": lambda value: f"{value:,.0f}" if abs(value) < 1e6 else compact(value),
    "degrees": lambda value: f"{value:.2f}" if value < 10 else f"{value:.1f}",
    "duration": duration,
    "hundredths": "{:.2f}".format,
    "signed": "{:+.2f}".format,
}
_DERIVED = {one.__name__[1:]: one for one in (_ratio, _median_lap, _larger, _largest)}


def _read(key: str, said: dict[str, Any]) -> Quantity:
    if "derive" in said:
        name, *keys = said["derive"]
        said["derive"] = lambda summary: _DERIVED[name](summary, *keys)
    return Quantity(key, **said | {"show": _SHOWN[said.get("show", "brief")]})


_TEXT = Path(__file__).with_name("quantities.yaml").read_text(encoding="utf-8")
QUANTITIES = tuple(_read(key, said) for key, said in yaml.safe_load(_TEXT).items())


def quantities() -> dict[str, Quantity]:
    """Returns what is described, by key."""
    return {one.key: one for one in QUANTITIES}


def shown_in(place: Place) -> list[Quantity]:
    """Returns what a place shows, in its order."""
    return [found for found in QUANTITIES if place in found.shown.split()]


def told(summary: Summary, place: Place) -> list[tuple[str, str]]:
    """Returns titles and texts of what a place shows of a summary, as far as it is there."""
    found = [(one, one.of(summary)) for one in shown_in(place)]
    return [(one.title, one.text(value)) for one, value in found if value is not None]
