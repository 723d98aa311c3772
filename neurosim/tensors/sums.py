"""Numbers that know what they are sums of, while answers are not known."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self


class Sum(int):
    """An answer that will be another, or a sum of such, which knows its ``parts`` and how often
    each is in it. An answer knows its ``number``."""

    number: int | None
    parts: tuple[tuple["Sum", int], ...]

    @classmethod
    def of(cls, value: int, *parts: tuple["Sum", int], number: int | None = None) -> Self:
        made = cls(value)
        made.parts, made.number = parts, number
        return made

    @cached_property
    def terms(self) -> list[tuple[int, int]]:
        """The numbers of all answers in it, and how often each is: found when all are added."""
        found, left = list[tuple[int, int]](), [(self, 1)]
        while left:
            part, times = left.pop()
            if part.number is not None:
                found.append((part.number, times))
            left += [(one, times * factor) for one, factor in part.parts]
        return found

    def __add__(self, other: int) -> "Sum":
        parts = [(one, 1) for one in (self, other) if isinstance(one, Sum)]
        return Sum.of(int(self) + int(other), *parts)

    def __mul__(self, times: int) -> "Sum":
        return Sum.of(int(self) * times, (self, times))

    __radd__, __rmul__ = __add__, __mul__
    # Of these it would not know any more.
    __sub__ = __rsub__ = __neg__ = __truediv__ = __floordiv__ = None  # type: ignore[assignment]


def resolved(node: Any, value: Callable[[Sum], int]) -> Any:
    """Returns a tree with the value of each sum in its place."""
    match node:
        case Sum():
            return value(node)
        case dict():
            return {key: resolved(part, value) for key, part in node.items()}
        case list() | tuple():
            return type(node)(resolved(part, value) for part in node)
        case _:
            return node


def plain(node: Any) -> Any:
    """Returns a tree that a recording has left, its numbers without what they are sums of."""
    return resolved(node, int)
