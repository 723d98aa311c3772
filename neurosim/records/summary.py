"""Describes every number of a summary once: what pages, tables, CSV and the command line say of it.

To add a number, write it into the summary of a run and add a `Quantity` to `QUANTITIES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Literal

from neurosim.base import compact, duration, number

Summary = Mapping[str, Any]
Place = Literal["line", "run", "study", "map", "mean"]


def brief(value: float) -> str:
    """Writes three digits: ``0.0123``, ``589 k``."""
    return compact(float(f"{value:.3g}"))


def _count(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e6 else compact(value)


def _degrees(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


@dataclass(frozen=True)
class Quantity:
    """Describes a number of a summary.

    Args:
        key: its name in the summary, in CSV files and in JSON.
        title: its name for a reader.
        unit: the unit in which it is shown.
        shown: the places where it is shown, with blanks between: a ``line`` of the command line,
            a tile of a ``run`` or a ``study``, a ``map`` (or curve) or column of ``mean`` values of
            a sweep. What has a map has a column, too. Tables of papers name their columns.
        meaning: what a reader of a table has to know.
        factor: leads from the number in the summary to the unit.
        show: writes a value in the unit.
        better: which values a reader looks for. Most numbers are costs or errors.
        axis: of pictures. ``log`` is for values that are far apart, ``focus`` leaves out rows that
            are far off all others.
        absent: why a finished run may lack it.
        derive: computes it where it does not stand in the summary as it is.
    """

    key: str
    title: str
    unit: str = ""
    shown: str = ""
    meaning: str = ""
    factor: float = 1.0
    show: Callable[[float], str] = brief
    better: Literal["lower", "higher", ""] = "lower"
    axis: Literal["linear", "log", "focus"] = "linear"
    absent: Literal["absent", "never"] = "absent"
    derive: Callable[[Summary], object] | None = None

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


def _per(what: str, one: str, meaning: str, *parts: str) -> Quantity:
    """Describes a count divided by other numbers of the summary."""

    def divided(summary: Summary) -> float | None:
        found = number(summary.get(what))
        for part in parts:
            share = number(summary.get(part))
            found = found / share if found is not None and share else None
        return found

    key, unit = f"{what}_per_{one}", f"per {one}"
    return Quantity(key, what, unit, meaning=meaning, axis="log", derive=divided)


def _per_epoch(key: str, title: str, meaning: str) -> Quantity:
    """Describes the median duration of the epochs that ended at the times in the summary."""

    def typical(summary: Summary) -> float | None:
        times = [n for n in map(number, summary.get(f"epoch_{key}") or ()) if n is not None]
        return median([b - a for a, b in pairwise([0.0, *times])]) if times else None

    more: Any = {"meaning": meaning, "axis": "log", "derive": typical}
    return Quantity(f"{key}_per_epoch", title, "s / epoch", **more)


def _residual(summary: Summary) -> float | None:
    both = [number(summary.get(f"residual_{kind}")) for kind in ("mean", "difference")]
    return None if None in both else max(value for value in both if value is not None)


def _largest_norm(summary: Summary) -> float | None:
    return max(map(float, (summary.get("spectral_norms") or {}).values()), default=None)


_percent: Any = {"factor": 100.0, "show": "{:.2f}".format, "better": "higher"}
_whole: Any = {"show": _count}
_size: Any = {"show": _count, "better": ""}
QUANTITIES: tuple[Quantity, ...] = (
    Quantity(
        "test_accuracy",
        "test accuracy",
        "%",
        "line run map",
        "on the test images, of the feed-forward prediction (rules with phases, EP, H-EP and CHL: "
        "of their free phase) at the epoch that was best on the validation images",
        axis="focus",
        **_percent,
    ),
    Quantity(
        "difference",
        "difference",
        "%",
        meaning="mean test accuracy minus that of {baseline}",
        show="{:+.2f}".format,
        better="higher",
    ),
    Quantity("test_loss", "test loss", "per sample", "run mean"),
    Quantity(
        "attack_accuracy",
        "accuracy under attack",
        "%",
        "map",
        "test accuracy after FGSM moved every pixel by robustness.eps (0.1) of their range",
        **_percent,
    ),
    *(
        Quantity(
            f"{what}_to_tolerance", f"{what} to tolerance", u, "line study map", absent="never"
        )
        for what, u in (("time", "time units"), ("wakes", "count"), ("messages", "count"))
    ),
    Quantity(
        "gradient_angle",
        "gradient angle",
        "°",
        "line study map",
        "of the local gradient to back-propagation at the end of the last epoch",
        show=_degrees,
    ),
    Quantity("feedback_angle", "feedback angle", "°", "map", show=_degrees),
    Quantity(
        "residual",
        "residual",
        meaning="‖s − T(s)‖ / ‖s‖, the larger one of mean and difference, at the end of that "
        "inference: 0 at a fixed point",
        axis="log",
        derive=_residual,
    ),
    Quantity("residual_mean", "residual of the mean", "relative", "mean"),
    Quantity("residual_difference", "residual of the difference", "relative", "mean"),
    Quantity("distance_mean", "distance of the mean", "relative", "line study mean"),
    Quantity("distance_difference", "distance of the difference", "relative", "line study mean"),
    Quantity("residual_floor", "residual, last third", "relative", "study"),
    Quantity(
        "largest_norm",
        "largest σ",
        meaning="the largest spectral norm of a projection; the JSON file has all",
        better="",
        derive=_largest_norm,
    ),
    Quantity(
        "lipschitz_bound",
        "Lipschitz bound",
        shown="map",
        meaning="the product of the spectral norms",
        axis="log",
    ),
    Quantity("epochs", "epochs", "count", "run", **_size),
    Quantity("seconds", "duration", shown="line run study", show=duration),
    _per_epoch("seconds", "wall time", "median over the epochs, with evaluation"),
    _per_epoch(
        "cpu_seconds",
        "processor time",
        "the same of all threads of the process, which other programs on the machine hardly change",
    ),
    Quantity(
        "time_over_baseline",
        "time over {baseline}",
        "times",
        meaning="processor time over that of {baseline}",
    ),
    Quantity("dyads", "dyads", "count", "run", **_size),
    Quantity("parameters", "parameters", "count", "run", **_size),
    Quantity("ticks", "ticks", "count", "line", **_whole),
    Quantity("wakes", "wakes", "count", "line mean", **_whole),
    Quantity("messages", "messages", "count", "line run mean", **_whole),
    Quantity("synaptic_operations", "synaptic operations", "count", "run", **_whole),
    _per("ticks", "step", "inference steps of one batch", "steps"),
    _per("wakes", "step", "wakes of dyads for one batch", "steps"),
    _per("messages", "sample", "messages sent for one sample", "steps", "batch_size"),
    Quantity(
        "peak_memory_bytes",
        "memory",
        "MB",
        meaning="peak of the process with program and data, or of the tensors on a GPU",
        factor=1e-6,
    ),
)


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
