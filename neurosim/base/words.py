"""Numbers and texts as people read them."""

import unicodedata
from collections.abc import Mapping, Sequence
from math import floor, hypot, isfinite, log10, sqrt
from typing import Any

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of Unicode


def gigabytes(size: float) -> str:
    """Says how many bytes: ``1.2 GB``, ``340 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= 0.9995 * unit:  # which three digits round up to 1
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"


def duration(seconds: float) -> str:
    """Says how long: ``12.3 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes:.0f} min {rest:.0f} s"
    return f"{minutes // 60:,.0f} h {minutes % 60:.0f} min"


def compact(value: float, _: object = None) -> str:
    """Shortens ``589824`` to ``589.8 k``; small numbers stay. Also a tick formatter."""
    for least, unit, suffix in ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M")):
        if least <= abs(value) < 1e15:
            return f"{value / unit:.4g} {suffix}"
    return f"{value / 1e3:.4g} k" if 1e4 <= abs(value) < 1e6 else f"{value:.4g}"


def number(value: object) -> float | None:
    """Returns a finite number; None for anything else, and for what no axis could hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 and isfinite(value) else None


def flat(found: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Returns the values of a tree of mappings by their paths: ``rule.beta``, ``mean.h1``."""
    values: dict[str, Any] = {}
    for key, value in found.items():
        path = f"{above}{key}"
        values |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return values


def spoken(value: Any, inside: bool = False) -> str:
    """Says a value of a document: ``parallel, ticks: 8``, ``jitter (uniform, low: 0)``, ``h1, h2``.

    ``inside`` of another, what has several parts is in brackets.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        said = {key: spoken(item, True) for key, item in value.items()}
        parts = [said.pop("kind")] if "kind" in said else []
        text = ", ".join([*parts, *(f"{key}: {item}" for key, item in said.items())])
    elif isinstance(value, list | tuple):
        apart = "; " if any(isinstance(item, Mapping) for item in value) else ", "
        text = apart.join(spoken(item, apart == ", ") for item in value)
    else:
        return str(value)
    return f"({text})" if inside and len(value) > 1 else text or "none"


def harmless(text: str, length: int = 2000) -> str:
    """Returns a text of a stranger's file for a terminal: without control characters, which may be
    commands, and with every line cut to a length."""
    if not text.isprintable():
        hidden = {c for c in set(text) - {"\n", "\t"} if unicodedata.category(c) in _HIDDEN}
        text = text.translate({ord(c): c.encode("unicode_escape").decode() for c in hidden})
    return "\n".join(cut(line, length) for line in text.split("\n"))


def cut(text: str, length: int) -> str:
    """Cuts a text that is too long, with an ellipsis at its end."""
    return text if len(text) <= length else text[: length - 1] + "…"


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the sample standard deviation, which one value does not have."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, hypot(*(value - mean for value in values)) / sqrt(len(values) - 1)


def plus_minus(values: Sequence[float], seeds: int) -> str:
    """Says mean ± deviation, to the second digit of the deviation: more would say nothing.

    With the count where there are fewer values than ``seeds``.
    """
    if not values:
        return "–"
    mean, deviation = spread(values)
    if not deviation:  # one seed, or all the same
        text = f"{mean:,.0f}" if 1e4 <= abs(mean) < 1e15 else f"{mean:.4g}"
        text += "" if deviation is None else "\u00a0±\u00a00"
    elif 1e-4 <= deviation < 1e15 > abs(mean):
        digits = max(0, 1 - floor(log10(deviation)))
        text = f"{mean:,.{digits}f}\u00a0±\u00a0{deviation:,.{digits}f}"
    elif 1e-290 < deviation < 1e290 > abs(mean):  # both by the power of ten of the larger
        power = floor(log10(max(abs(mean), deviation)))
        digits = min(15, max(1, power + 1 - floor(log10(deviation))))
        mantissas = (f"{value / 10.0**power:.{digits}f}" for value in (mean, deviation))
        text = "\u00a0±\u00a0".join(mantissas)
        text = f"({text})·10{str(power).translate(_RAISED)}"
    else:
        text = f"{mean:.4g}\u00a0±\u00a0{deviation:.2g}"
    return text if len(values) == seeds else f"{text} ({len(values)})"
