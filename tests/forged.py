"""Saved values that are wrong on purpose, as no damage by chance is that has the right checksum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Every array, number and list of a state is replaced by each of these.
WRONG = ["x", [], {}, None, 1.5, 3, True, (1,), torch.zeros(2), torch.zeros(())]


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Everything below a node, with the way to it."""
    found = node.items() if isinstance(node, dict) else ()
    found = enumerate(node) if isinstance(node, list | tuple) else found
    for key, value in found:
        yield (*path, key), value
        yield from leaves(value, (*path, key))


def replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value in one place."""
    if not path:
        return value
    key, *rest = path
    if isinstance(node, dict):
        return node | {key: replaced(node[key], tuple(rest), value)}
    made = list(node)
    made[key] = replaced(node[key], tuple(rest), value)
    return tuple(made) if isinstance(node, tuple) else made


def wrong(value: Any) -> Iterator[Any]:
    """What is put in its place: of another kind, type, or shape."""
    yield from WRONG
    if isinstance(value, Tensor):
        for dtype in (torch.float32, torch.float64, torch.int64, torch.complex128, torch.bool):
            if dtype != value.dtype:
                yield value.to(dtype)
        yield from (value.flatten(), value[..., None], value[None])
        yield from (value[:1] if value.dim() else value, torch.full_like(value, 7))
        yield torch.full_like(value, 1)


def place(path: tuple[Any, ...]) -> str:
    """The place of a value, whatever its number in a list."""
    return ".".join("#" if isinstance(key, int) else str(key) for key in path)
