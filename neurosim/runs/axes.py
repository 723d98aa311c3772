"""What a sweep is over: ``key.path=v1,v2`` on the command line, and all combinations of values."""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from neurosim import documents
from neurosim.base import DocumentError, Problem, finite
from neurosim.documents import COMMAND_LINE

# A sign, with the quoted text that may follow it: a quote opens only where a value can begin.
_TOKEN = re.compile(
    r"""[,:\[{]\s*(?:"(?:\\.|[^"\\])*(?:"|\\?\Z)|'(?:''|[^'])*(?:'|\Z))|.""", re.DOTALL
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
        sign = token[0][0]
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth = max(0, depth - 1)
        elif sign == "," and not depth:
            commas.append(token.start())
    return [text[i : j - 1].strip() for i, j in itertools.pairwise([*commas, len(text) + 1])]


def _read_axis(assignment: str) -> Axis:
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        hint = documents.quotes_hint(assignment)
        raise ValueError(f"write it as key.path=value1,value2{hint}")
    texts = split_values(text)
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
