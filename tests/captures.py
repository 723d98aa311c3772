"""A graph of the device that is not there: what CUDA does, as far as a program can tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from away import Away, Elsewhere
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class FakeGraph(TorchDispatchMode):
    """Notes the operations on tensors that are away. A replay makes them again on the very same
    tensors, and writes into the memory of the results of then, which lie there until it does."""

    made: ClassVar[list[FakeGraph]] = []
    replays = 0

    def __init__(self, elsewhere: Elsewhere) -> None:
        super().__init__()
        self._elsewhere = elsewhere
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        self.made.append(self)

    def capture(self, work: Callable[[], Tensor | None]) -> Tensor | None:
        waited = len(self._elsewhere.waits)
        with self:
            read = work()
        if len(self._elsewhere.waits) > waited:
            del self._elsewhere.waits[waited:]
            raise RuntimeError("operation not permitted when stream is capturing")
        for *_, results in self._calls:  # nothing has been computed yet
            for result in results:
                if isinstance(result, Away) and result.held.is_floating_point():
                    result.held.fill_(torch.nan)
        return read

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = operation(*arguments, **(options or {}))
        given = {leaf.held.untyped_storage().data_ptr() for leaf in _away((arguments, options))}
        own = [t.held.untyped_storage().data_ptr() not in given for t in _away(result)]
        made = [t if new else None for t, new in zip(_away(result), own, strict=True)]
        self._calls.append((operation, arguments, options or {}, made))
        return result

    def replay(self) -> None:
        self.replays += 1
        for operation, arguments, options, made in self._calls:
            found = operation(*arguments, **options)
            for value, result in zip(made, _away(found), strict=True):
                if value is not None:
                    value.held.copy_(result.held)


def _away(tree: Any) -> list[Away]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Away)]
