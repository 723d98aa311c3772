"""Overrides and axes as Python has them, in the words of the command line."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurosim.base import ConfigurationError
from neurosim.data import DataSource
from neurosim.families import check, described
from neurosim.runs.axes import is_range

Overrides = Mapping[str, Any] | Sequence[str]
_PLAIN = re.compile(r"(?!(?:true|false|yes|no|on|off|null)$)[A-Za-z][A-Za-z_/.-]*", re.IGNORECASE)


def assignments(said: Overrides, swept: bool = False) -> list[str]:
    """Returns overrides, or with ``swept`` axes of a sweep, as KEY=VALUE. Of data of Python it is
    all but the data."""
    if isinstance(said, str):
        return [said]
    if not isinstance(said, Mapping):
        return list(check(Sequence[str], overrides=said))
    several = (list, tuple, range, np.ndarray) if swept else ()
    every = {k: v if isinstance(v, several) else [v] for k, v in said.items()}
    ranges = {k: v for k, v in said.items() if swept and isinstance(v, str) and is_range(v)}
    for value in every.get("data", ()):
        if not isinstance(value, DataSource | Mapping | str):
            said = f"data of Python are given as neurosim.TorchData(…), not {type(value).__name__}"
            raise ConfigurationError(said, "data")
    written = {key: ",".join(map(_text, values)) for key, values in every.items()} | ranges
    return [f"{key}={text}" for key, text in written.items()]


def _text(value: Any) -> str:
    """A value as a document holds it, on one line."""
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    try:
        return json.dumps(described(value), ensure_ascii=False)
    except (TypeError, ValueError):
        raise ConfigurationError(f"no document can hold {value!r}; use numbers and text") from None


def data_among(*said: Overrides) -> DataSource | None:
    """Returns the data among overrides and axes, which may be of Python, as `TorchData` is.

    Raises ConfigurationError where there are several of Python: no document tells them apart.
    """
    among = [one["data"] for one in said if isinstance(one, Mapping) and "data" in one]
    if len(among) == 1 and isinstance(among[0], DataSource):
        return among[0]
    values = [v for one in among for v in (one if isinstance(one, list | tuple) else [one])]
    if any(isinstance(value, DataSource) and value.given for value in values):
        raise ConfigurationError("data of Python cannot be swept: start a sweep for each", "data")
    return None
