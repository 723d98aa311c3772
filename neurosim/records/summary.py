"""Describes every number of a summary once: what pages, tables, CSV and the command line say of it.

To add a number, add a `Quantity` to ``QUANTITIES`` that says where the number comes from.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any, Literal

from neurosim.base import compact, duration, number

Summary = Mapping[str, Any]
# A line of the command line, a tile of a run or a study, a map (or curve) or a column of means of a
# sweep; what has a map has a column, too. Tables of papers name their columns.
Place = Literal["line", "run", "study", "map", "mean"]


def brief(value: float) -> str:
    """Writes three digits: ``0.0123``, ``589 k``; four of ``2765``, which would look exact."""
    return compact(float(f"{value:.{4 if 1e3 <= abs(value) < 1e4 else 3}g}"))


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
    # Where the number comes from, if whoever runs does not write it into the summary: from the
    # other numbers there, from the last record of a probe (its name, and the key there), or from
    # the `Simulation` when its run ends.
    derive: Callable[[Summary], object] | None = None
    record: tuple[str, str] | None = None
    measure: Callable[[Any], object] | None = None

    @property
    def bounded(self) -> bool:
        """True of percent and degrees: they have ends of their own, and are never drawn on a
        logarithmic axis, which would squeeze all but the smallest."""
        return self.unit in ("%", "°")

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


def _ratio(key: str, *others: str) -> Callable[[Summary], float | None]:
    """Divides a number by others."""

    def derive(summary: Summary) -> float | None:
        found, *shares = (number(summary.get(key)) for key in (key, *others))
        for share in shares:
            found = found / share if found is not None and share else None
        return found

    return derive


def _median_lap(key: str) -> Callable[[Summary], float | None]:
    """Takes the median of what lies between the times of a list."""

    def derive(summary: Summary) -> float | None:
        found = summary.get(key)
        times = [n for n in map(number, found if isinstance(found, list) else ()) if n is not None]
        return median([b - a for a, b in pairwise([0.0, *times])]) if times else None

    return derive


def _residual(summary: Summary) -> float | None:
    values = [number(summary.get(f"residual_{kind}")) for kind in ("mean", "difference")]
    found = [value for value in values if value is not None]
    return max(found) if len(found) == len(values) else None


def _largest_norm(summary: Summary) -> float | None:
    found = summary.get("spectral_norms")
    norms = map(number, found.values() if isinstance(found, dict) else ())
    return max((norm for norm in norms if norm is not None), default=None)


# ---- the numbers, in the order in which pages show them -----------------------------------------

_HUNDREDTHS, _SIGNED = "{:.2f}".format, "{:+.2f}".format


def _count(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e6 else compact(value)


def _degrees(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


QUANTITIES = (
    Quantity(
        "test_accuracy",
        "test accuracy",
        "%",
        "line run map",
        "on the test samples, of the feed-forward prediction (rules with phases, EP, H-EP and CHL: "
        "of their free phase) at the epoch that was best on the validation samples",
        axis="focus",
        factor=100.0,
        show=_HUNDREDTHS,
        better="higher",
    ),
    Quantity(
        "difference",
        "difference",
        "%",
        meaning="mean test accuracy minus that of {baseline}",
        show=_SIGNED,
        better="higher",
    ),
    Quantity("test_loss", "test loss", "per sample", "run mean"),
    Quantity("test_mse", "test MSE", "", "line run mean"),
    Quantity("test_r2", "test R²", "", "line run mean", show="{:.4f}".format, better="higher"),
    *(
        Quantity(key, title, "", "line run mean", show="{:.4f}".format, better="higher")
        for key, title in (
            ("test_exact_match", "test samples with all labels right"),
            ("test_f1_macro", "test F1, mean of labels"),
            ("test_f1_micro", "test F1 of all labels"),
        )
    ),
    Quantity(
        "test_top_5",
        "test accuracy of the best five",
        "%",
        "line run mean",
        factor=100.0,
        show=_HUNDREDTHS,
        better="higher",
    ),
    Quantity(
        "cumulative_accuracy",
        "prequential accuracy",
        "%",
        "line run map",
        "of the answers of a stream, each read before its label could act, since its beginning",
        axis="focus",
        factor=100.0,
        show=_HUNDREDTHS,
        better="higher",
    ),
    Quantity(
        "last_label_accuracy",
        "last label",
        "%",
        meaning="of always answering with the label before",
        factor=100.0,
        show=_HUNDREDTHS,
        better="higher",
    ),
    Quantity("smape", "sMAPE", "%", "line run map"),
    Quantity(
        "foretold_smape",
        "sMAPE, foretold",
        "%",
        "line run map",
        "of values of the test that the network foretells by its own answers",
    ),
    Quantity(
        "trips_per_hold",
        "hold / (1 + hops × delay)",
        meaning="how often, while a sample is shown, it could go up and its error come down",
        better="",
    ),
    Quantity(
        "attack_accuracy",
        "accuracy under attack",
        "%",
        "map",
        "test accuracy after FGSM moved every pixel by robustness.eps (0.1) of their range",
        factor=100.0,
        show=_HUNDREDTHS,
        better="higher",
    ),
    *(
        Quantity(f"{of}_to_tolerance", f"{of} to tolerance", unit, "line study map", absent="never")
        for of, unit in (("time", "time units"), ("wakes", "count"), ("messages", "count"))
    ),
    Quantity(
        "gradient_angle",
        "gradient angle",
        "°",
        "line study map",
        "of the local gradient to back-propagation (of rules that settle: to the gradient of the "
        "settled network) at the end of the last epoch",
        show=_degrees,
        record=("gradient_angle", "total_angle"),
    ),
    Quantity(
        "feedback_angle",
        "feedback angle",
        "°",
        "map",
        show=_degrees,
        record=("feedback_angle", "total_angle"),
    ),
    Quantity(
        "residual",
        "residual",
        meaning="‖s − T(s)‖ / ‖s‖, the larger one of mean and difference, at the end of that "
        "inference: 0 at a fixed point",
        axis="log",
        derive=_residual,
    ),
    *(
        Quantity(
            f"residual_{kind}",
            f"residual of the {kind}",
            "relative",
            "mean",
            record=("residual", f"total_{kind}"),
        )
        for kind in ("mean", "difference")
    ),
    *(
        Quantity(f"distance_{kind}", f"distance of the {kind}", "relative", "line study mean")
        for kind in ("mean", "difference")
    ),
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
    Quantity(
        "energy",
        "energy",
        "µJ per sample",
        "line run map",
        "of a training step on the hardware that costs names, by its figures for messages, wakes, "
        "synaptic operations, updates and static power",
        axis="log",
        factor=1e6,
    ),
    Quantity(
        "energy_per_right",
        "energy of a right answer",
        "µJ",
        "line run",
        "of a stream: the same, over the part of its answers that were right",
        axis="log",
        factor=1e6,
    ),
    Quantity(
        "hardware_seconds",
        "hardware time",
        "µs per sample",
        "line run map",
        "of a training step, by the same figures",
        axis="log",
        factor=1e6,
    ),
    Quantity("epochs", "epochs", "count", "run", show=_count, better=""),
    Quantity("seconds", "duration", shown="line run study", show=duration),
    Quantity(
        "seconds_per_epoch",
        "wall time",
        "s / epoch",
        meaning="median over the epochs, with evaluation",
        axis="log",
        derive=_median_lap("epoch_seconds"),
    ),
    Quantity(
        "cpu_seconds_per_epoch",
        "processor time",
        "s / epoch",
        meaning="the same of all threads of the process, which other programs on the machine "
        "hardly change",
        axis="log",
        derive=_median_lap("epoch_cpu_seconds"),
    ),
    Quantity(
        "time_over_baseline",
        "time over {baseline}",
        "times",
        meaning="processor time over that of {baseline}",
    ),
    Quantity("dyads", "dyads", "count", "run", show=_count, better=""),
    Quantity("parameters", "parameters", "count", "run", show=_count, better=""),
    Quantity("ticks", "ticks", "count", "line", show=_count),
    Quantity("wakes", "wakes", "count", "line mean", show=_count),
    Quantity("messages", "messages", "count", "line run mean", show=_count),
    Quantity("synaptic_operations", "synaptic operations", "count", "run", show=_count),
    Quantity("updates", "updates of weights", "count", "run", show=_count),
    *(
        Quantity(key, title, unit, meaning=meaning, axis="log", derive=_ratio(*keys.split()))
        for key, title, unit, meaning, keys in (
            ("ticks_per_step", "ticks", "per step", "inference steps of one batch", "ticks steps"),
            ("wakes_per_step", "wakes", "per step", "wakes of dyads for one batch", "wakes steps"),
            (
                "messages_per_sample",
                "messages",
                "per sample",
                "messages sent for one sample",
                "messages samples",
            ),
        )
    ),
    Quantity(
        "peak_memory_bytes",
        "memory",
        "MB",
        meaning="peak of the process with program and data, or of the tensors on a GPU",
        factor=1.0e-6,
    ),
)


def measured(simulation: Any) -> dict[str, Any]:
    """Returns what is measured of a simulation when its run ends, as its summary says it."""
    return {one.key: one.measure(simulation) for one in QUANTITIES if one.measure}


def recorded(probe: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a summary says of a probe's last record."""
    wanted = ((one.key, one.record) for one in QUANTITIES if one.record)
    return {key: record[name] for key, (of, name) in wanted if of == probe}


def quantities() -> dict[str, Quantity]:
    """Returns what is described, by key."""
    return {one.key: one for one in QUANTITIES}


def shown_in(place: Place) -> list[Quantity]:
    """Returns what a place shows, in its order."""
    return [found for found in QUANTITIES if place in found.shown.split()]


def told(summary: Summary, place: Place) -> list[tuple[str, str]]:
    """Returns titles and texts of what a place shows of a summary, as far as it is there.

    On the command line the loss stands for an accuracy that there is none of.
    """
    loss = place == "line" and summary.get("test_accuracy") is None
    shown = [quantities()["test_loss"], *shown_in(place)] if loss else shown_in(place)
    if place in ("line", "run"):
        shown += _of_metrics(summary)
    found = [(one, one.of(summary)) for one in shown]
    return [(one.title, one.text(value)) for one, value in found if value is not None]


def _of_metrics(summary: Summary) -> list[Quantity]:
    """Describes the numbers of metrics that nobody else does: a plugin's, or another k."""
    known, found = quantities(), []
    for key in summary:
        if key.startswith("test_") and key not in known:
            best = re.fullmatch(r"test_top_(\d+)", key)
            title = f"test accuracy of the best {best[1]}" if best else key.replace("_", " ")
            alike = known["test_top_5"] if best else Quantity("", "", show="{:.4g}".format)
            found.append(replace(alike, key=key, title=title))
    return found
