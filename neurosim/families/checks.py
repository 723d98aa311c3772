"""Arguments checked by annotations, those of frozen dataclasses first of all."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import core_schema

from neurosim.base import ConfigurationError

# The ranges that numbers have.
LARGEST = 1e30  # float32 holds it, and its products with what it meets


def _not_tiny(value: float) -> float:
    if value < 1 / LARGEST:
        raise ValueError(f"must be at least {1 / LARGEST:.0e}, got {value:g}")
    return value


Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False), AfterValidator(_not_tiny)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Bounded = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Portion = Annotated[float, Field(gt=0, lt=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**12)]
Whole = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
# What pydantic wanted, by the type of its error: where the value is something else altogether,
TYPES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "none_required": "null",
}
# and where it is out of bounds.
_BOUNDS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "finite_number": "must be finite",
    "too_short": "needs at least {min_length} item(s)",
    "too_long": "can have at most {max_length} item(s)",
    "string_too_short": "needs at least {min_length} character(s)",
    "string_too_long": "can have at most {max_length} character(s)",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "literal_error": "must be one of {expected}",
    "is_instance_of": "must be a {class}",
}


def demand(kind: str, context: Mapping[str, Any]) -> str | None:
    """Says ``must be at least 1``, of the type and the context of an error of pydantic."""
    if kind in TYPES:
        return f"must be {TYPES[kind]}"
    # The bound 0 of a float is 0.0; people write 0.
    bounds = {k: f"{v:g}" if isinstance(v, float) else v for k, v in context.items()}
    return _BOUNDS[kind].format_map(bounds) if kind in _BOUNDS else None


def check(annotation: Any, **values: object) -> Any:
    """Raises ConfigurationError for an option that does not fit: ``check(Count, every=every)``.

    Returns:
        The option, or the last one, with numbers as those of Python.
    """
    adapter, found = _adapter(annotation), None
    for name, value in values.items():
        found = _checked(adapter, name, value)
    return found


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    """Makes what checks one. A dataclass, which takes no config, is not looked into."""
    if is_dataclass(annotation):
        return TypeAdapter(InstanceOf[annotation])
    return TypeAdapter(annotation, config=_STRICT)


class Described:
    """Base of frozen dataclasses whose arguments are checked by the annotations of their fields."""

    def __post_init__(self) -> None:
        cls: Any = type(self)  # of which type checkers know no hash
        for name, adapter in _adapters(cls).items():
            value = getattr(self, name)
            if (checked := _checked(adapter, name, value)) is not value:
                object.__setattr__(self, name, checked)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Lets checks in Python ask for an instance: it was checked when it was made."""
        return core_schema.is_instance_schema(cls)


@cache
def _adapters(cls: Any) -> dict[str, TypeAdapter[Any]]:
    """Makes what checks each field of a dataclass."""
    hints, types = get_type_hints(cls, include_extras=True), get_type_hints(cls)
    found: dict[str, TypeAdapter[Any]] = {}
    for field in fields(cls):
        own = types[field.name]
        with suppress(PydanticSchemaGenerationError):  # arrays, say, are checked by who takes them
            found[field.name] = _adapter(own if is_dataclass(own) else hints[field.name])
    return found


def _checked(adapter: TypeAdapter[Any], name: str, value: object) -> Any:
    """The value as the adapter makes it. Raises ConfigurationError where it does not fit."""
    try:
        return adapter.validate_python(_plain(value))
    except ValidationError as error:
        raise _refusal(name, value, error) from None


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as those of Python, and lists as tuples, which strict checks ask
    for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return value.item() if getattr(value, "ndim", None) == 0 else value


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
    said = demand(found["type"], context)
    said = f"it {said}" if said else found["msg"]
    shown, whose = (found["input"], f" of {place[-1]!r}") if place else (value, "")
    return ConfigurationError(f"{name}{whose} is {shown!r}; {said}", (name, *place))
