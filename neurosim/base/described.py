"""Frozen dataclasses whose arguments are checked by the annotations of their fields."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from pydantic import (
    ConfigDict,
    InstanceOf,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import core_schema

from neurosim.base.errors import ConfigurationError


class Described:
    """Base of frozen dataclasses whose arguments are checked by the annotations of their fields."""

    def __post_init__(self) -> None:
        for name, adapter in _adapters(hashed(type(self))).items():
            value = getattr(self, name)
            try:
                checked = adapter.validate_python(_plain(value))
            except ValidationError as error:
                raise _refusal(name, value, error) from None
            if checked is not value:
                object.__setattr__(self, name, checked)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Lets checks in Python ask for an instance: it was checked when it was made."""
        return core_schema.is_instance_schema(cls)


def hashed(cls: Any) -> Hashable:
    """A class as a key of a cache: type checkers take the hash of its instances for its own."""
    key: Hashable = cls
    return key


@cache
def _adapters(cls: Any) -> dict[str, TypeAdapter[Any]]:
    """Makes what checks each field of a dataclass."""
    hints, types = get_type_hints(cls, include_extras=True), get_type_hints(cls)
    config = ConfigDict(strict=True, arbitrary_types_allowed=True)
    found: dict[str, TypeAdapter[Any]] = {}
    for field in fields(cls):
        annotation, own = hints[field.name], types[field.name]
        if is_dataclass(own):  # which takes no config
            found[field.name] = TypeAdapter(InstanceOf[own])  # type: ignore[misc, valid-type]
            continue
        with suppress(PydanticSchemaGenerationError):  # arrays, say, are checked by who takes them
            found[field.name] = TypeAdapter(annotation, config=config)
    return found


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as those of Python, and a list as a tuple, which strict checks
    ask for."""
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return value.item() if getattr(value, "ndim", None) == 0 else value


_MUST = {
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "finite",
    "literal_error": "one of {expected}",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "is_instance_of": "a {class}",
}


def _refusal(name: str, value: object, error: ValidationError) -> ConfigurationError:
    """Says what a field must be, of the first thing that is wrong with it."""
    # Of a union what got furthest, and there rather a bad value than a value of another type.
    found = max(
        error.errors(), key=lambda e: (len(e["loc"]), not e["type"].endswith(("_type", "_of")))
    )
    keys = value if isinstance(value, Mapping) else ()
    place = tuple(part for part in found["loc"] if isinstance(part, int) or part in keys)
    context = dict(found.get("ctx", {}))
    if "expected" in context:
        context["expected"] = str(context["expected"]).replace(" or ", ", ")
    must = _MUST.get(found["type"])
    said = f"it must be {must.format_map(context)}" if must else found["msg"]
    shown, whose = (found["input"], f" of {place[-1]!r}") if place else (value, "")
    return ConfigurationError(f"{name}{whose} is {shown!r}; {said}", (name, *place))
