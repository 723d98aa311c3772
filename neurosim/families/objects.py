"""Objects made of what a document says of them."""

from collections.abc import Iterable, Iterator
from typing import Any

from neurosim.base import inside
from neurosim.families.kinds import Section, fields_of


def build(said: Any, makes: type[Any] | None = None, **given: Any) -> Any:
    """Makes the objects that a parsed document describes.

    ``makes`` is the class where the keys are not those of one object alone, and ``given`` are the
    fields that no document says. An error of an object has the path to it as its option.
    """
    if isinstance(said, Section):
        makes = makes or said.makes
        names = said.model_fields_set & {field.name for field in fields_of(makes)}
        return makes(**dict(_built((name, getattr(said, name)) for name in names)), **given)
    if isinstance(said, dict):
        return dict(_built(said.items()))
    if isinstance(said, list | tuple):
        return type(said)(item for _, item in _built(enumerate(said)))
    return said


def _built(items: Iterable[tuple[str | int, Any]]) -> Iterator[tuple[Any, Any]]:
    for key, item in items:
        with inside(key):
            made = build(item)
        yield key, made
