"""What a sweep is over: ``key.path=v1,v2`` on the command line, and all combinations of values."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from neurosim import documents
from neurosim.base import DocumentError, Problem, finite
from neurosim.documents import COMMAND_LINE

MAX_VALUES = 10_000  # of a range
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?"
_STEPS = re.compile(rf"(?!.*\.{{3}})({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
_SPACED = re.compile(r"(lin|log)\((.*)\)")
# A range, or a sign with the quoted text that may follow it: a quote opens only where a value can
# begin.
_TOKEN = re.compile(
    r"""(?<=,)\s*(?:lin|log)\([^()]*\)|"""
    r"""[,:\[{]\s*(?:"(?:\\.|[^"\\])*(?:"|\\?\Z)|'(?:''|[^'])*(?:'|\Z))|.""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Axis:
    """A key of the scenario and the values it takes: as they were written, and as data."""

    key: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]

    @property
    def swept(self) -> bool:
        """Says if it takes more than one value; one alone is an override like any other."""
        return len(self.texts) > 1


def read_axes(assignments: Sequence[str]) -> list[Axis]:
    """Reads the axes in the order given.

    Raises:
        DocumentError: for what is not ``key.path=v1,v2,…`` in YAML, or names something twice.
    """
    axes: list[Axis] = []
    problems = []
    first: dict[str, int] = {}
    for ordinal, assignment in enumerate(assignments, 1):
        try:
            axis = _read_axis(assignment)
            # layers[0] and layers.0 are the same key.
            name = re.sub(r"\[([0-9]+)\]", r".\1", axis.key)
            if name in first:
                raise ValueError(
                    f"argument {first[name]} gives {axis.key!r} already; write all values in one "
                    "argument, separated by commas"
                )
            first[name] = ordinal
            axes.append(axis)
        except ValueError as error:
            shown = assignment if len(assignment) <= 100 else assignment[:99] + "…"
            message = f"in the argument {shown!r}: {error}"
            problems.append(Problem(COMMAND_LINE, ordinal, 1, "", message))
    if problems:
        raise DocumentError(problems)
    return axes


def combinations(axes: Sequence[Axis]) -> Iterator[tuple[str, ...]]:
    """Yields every combination of values (as written), the last axis changing fastest."""
    return itertools.product(*(axis.texts for axis in axes))


def split_values(text: str) -> list[str]:
    """Splits at the commas that stand outside of brackets and quotes, as YAML has them."""
    depth, commas = 0, []
    for token in _TOKEN.finditer(f",{text}"):
        sign = token[0][:1]
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth = max(0, depth - 1)
        elif sign == "," and not depth:
            commas.append(token.start())
    return [text[i : j - 1].strip() for i, j in itertools.pairwise([*commas, len(text) + 1])]


def is_range(text: str) -> bool:
    """Says if a text is a range, as ``1..5`` and ``log(1e-4,1e-1,4)`` are, or several values with
    commas between them."""
    parts = split_values(text)
    return len(parts) > 1 or bool(_STEPS.fullmatch(text) or _SPACED.fullmatch(text))


def _expanded(text: str) -> list[str]:
    """The values of a range, both ends included; of anything else itself.

    ``1..5``, ``0..1..0.25``, ``lin(0,1,5)`` or ``log(1e-4,1e-1,4)``, the last two in six digits.
    """
    if steps := _STEPS.fullmatch(text):
        return _stepped(text, *(Decimal(part or "nan") for part in steps.groups()))
    if not (spaced := _SPACED.fullmatch(text)):
        return [text]
    kind, parts = spaced[1], [part.strip() for part in spaced[2].split(",")]
    if len(parts) != 3 or not all(re.fullmatch(_NUMBER, part) for part in parts):
        raise ValueError(f"{text}: write it as {kind}(low, high, number)")
    low, high, count = map(float, parts)
    if not (count.is_integer() and 2 <= count <= MAX_VALUES):
        raise ValueError(f"{text}: needs a whole number of values, 2 to {MAX_VALUES}")
    if kind == "log" and min(low, high) <= 0:
        raise ValueError(f"{text}: both ends must be above 0")
    made = np.geomspace if kind == "log" else np.linspace
    return [f"{value:.6g}" for value in made(low, high, int(count))]


def _stepped(text: str, low: Decimal, high: Decimal, step: Decimal) -> list[str]:
    if step.is_nan():
        step = Decimal(1).copy_sign(high - low)
        if 0 < abs(high - low) < 1:
            raise ValueError(f"{text}: in steps of 1 there is one value; say a step, {text}..0.1")
    if not step or (high - low) / step < 0:
        raise ValueError(f"{text}: the step leads nowhere")
    if max(abs(low), abs(high)) > 10**18 or (high - low) / step >= MAX_VALUES:
        raise ValueError(f"{text}: more than {MAX_VALUES} values, or too large ones")
    values = [low + step * n for n in range(int((high - low) / step) + 1)]
    return [str(int(v)) if v == int(v) else repr(float(v)) for v in values]


def _read_axis(assignment: str) -> Axis:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        hint = documents.quotes_hint(assignment)
        raise ValueError(f"write it as key.path=value1,value2{hint}")
    texts = [value for part in split_values(text) for value in _expanded(part)]
    if texts == [""]:
        raise ValueError("there is no value after '='; write key.path=value1,value2")
    values: list[Any] = []
    seen: dict[str, str] = {}
    for part in texts:
        if not part:
            raise ValueError(
                "a value is missing between two commas or at the end; leave out the comma, or "
                "write null or '\"\"' if that is meant"
            )
        try:
            value = documents.loads(part, COMMAND_LINE).value
        except DocumentError as error:
            raise ValueError(f"{part!r}: {error.problems[0].message}") from None
        same = json.dumps(finite(value), sort_keys=True)
        if same in seen:
            raise ValueError(f"the value {part} is there twice; leave one out")
        seen[same] = part
        values.append(value)
    return Axis(key.strip(), tuple(texts), tuple(values))
