"""What a saved value has to be: what the class says that its attribute is."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

Dtypes = tuple[torch.dtype, ...]  # those that states may have
_AS_IT_IS = ConfigDict(arbitrary_types_allowed=True, strict=True)


def check_kind(owner: type, name: str, value: Any) -> Any:
    """Returns a value, with a number for what is as good as one. Raises ValueError where it is not
    what ``owner`` annotates this attribute with, or else of the kind of its first value there.
    Where it has neither, anything will do."""
    kind, dtype = _kind(owner, name)
    try:
        if kind is not None:
            value = kind.validate_python(value)
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Input ")
        raise ValueError(f"{value!r:.40} {wrong}") from None
    if isinstance(value, np.ndarray) and dtype is not None and value.dtype != dtype:
        raise ValueError(f"an array of {value.dtype} should be one of {dtype}")
    return value


def check_array(array: Tensor | None, shape: Sequence[int], dtypes: Dtypes) -> None:
    """Raises ValueError where an array that is there has another shape, or none of the dtypes."""
    if array is not None and (array.shape != tuple(shape) or array.dtype not in dtypes):
        found = f"an array of {array.dtype}, {list(array.shape)}"
        raise ValueError(f"{found}, should be of {dtypes[0]}, {list(shape)}")


def restore(owner: object, name: str, value: Any) -> None:
    """Sets an attribute to a saved value. Raises what `check_kind` does."""
    try:
        checked = check_kind(type(owner), name, value)
    except ValueError as error:
        raise ValueError(f"{name.strip('_')}: {error}") from None
    setattr(owner, name, checked)


def check_like(value: Any, own: Any) -> None:
    """Raises ValueError where a saved tree is of other kinds than one's own: numbers, truth values,
    texts, lists, and tensors of as many dimensions and of numbers alike, by the keys that both
    have. What is None in one's own may be anything."""
    known: object = True
    match own:
        case None:
            return
        case bool() | str() | list() | tuple():
            known = isinstance(value, type(own))
        case int() | float():
            known = isinstance(value, int | float) and not isinstance(value, bool)
        case Tensor():
            known = isinstance(value, Tensor) and _numbers(value) == _numbers(own)
        case Mapping():
            known = isinstance(value, Mapping)
    if not known:
        raise ValueError(f"{value!r:.40} should be {_named(own)}")
    parts: list[tuple[Any, Any, Any]] = []
    if isinstance(own, Mapping):
        parts = [(key, value[key], part) for key, part in own.items() if key in value]
    elif isinstance(own, list | tuple) and len(own) == len(value):
        parts = [(place, *pair) for place, pair in enumerate(zip(value, own, strict=True))]
    for key, part, like in parts:
        try:
            check_like(part, like)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None


def _numbers(tensor: Tensor) -> tuple[int, bool, bool]:
    return tensor.dim(), tensor.is_floating_point(), tensor.is_complex()


def _named(own: Any) -> str:
    if isinstance(own, Tensor):
        return f"a tensor of {own.dtype} with {own.dim()} dimensions"
    return {bool: "true or false", str: "a text"}.get(type(own), f"a {type(own).__name__}")


@cache
def _kind(owner: type, name: str) -> tuple[TypeAdapter[Any] | None, np.dtype[Any] | None]:
    """Returns what checks it, and the dtype of an array."""
    first = getattr(owner, name, None)
    annotated = get_type_hints(owner).get(name, None if first is None else type(first))
    if annotated is None:
        return None, None
    arrays = [a for a in (annotated, *get_args(annotated)) if get_origin(a) is np.ndarray]
    dtypes = [np.dtype(get_args(get_args(array)[1])[0]) for array in arrays]
    return TypeAdapter(annotated, config=_AS_IT_IS), dtypes[0] if dtypes else None
