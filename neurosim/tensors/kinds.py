"""What a saved value has to be: what the class says that its attribute is."""

from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

_AS_IT_IS = ConfigDict(arbitrary_types_allowed=True, strict=True)


def check_kind(owner: type, name: str, value: Any) -> None:
    """Raises ValueError where a value is not what ``owner`` annotates this attribute with, or else
    of the kind of its first value there. Where it has neither, anything will do."""
    kind, dtype = _kind(owner, name)
    own = name.strip("_")
    try:
        if kind is not None:
            kind.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{own}: {error.errors()[0]['msg'].lower()}") from None
    if isinstance(value, np.ndarray) and dtype is not None and value.dtype != dtype:
        raise ValueError(f"{own}: an array of {value.dtype}, where there has to be {dtype}")


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
