"""Questions of a tape that can wait until its end, where all of a kind are answered in one pass.

Of small arrays, most of what an answer takes is the call. What is asked is `unequal` with `count`,
`tally`, `any_nonzero` or `finite_product`, see `tensors.changes`.
"""

from cmath import isfinite
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch._utils import _flatten_dense_tensors  # torch.cat of views takes three times as long

SMALL = 10_000  # values of an array that can wait
_KEPT = 2**20  # values that wait at a time

Values = list[Any]
Fetch = Callable[[Values], Sequence[Tensor]]


class Question(NamedTuple):
    """Asks for how many ``values`` differ from ``others`` (None: from zeros) and the sum of their
    ``weights``, or whether their products with the others are finite. ``step`` is where it was
    asked, ``place`` that of the answer, ``versions`` those that the tensors had."""

    kind: str  # the name of the function
    step: int
    place: int
    versions: list[int]
    weights: Tensor | None
    values: Tensor
    others: Tensor | None = None

    @property
    def alike(self) -> Any:
        """What those that are answered together have in common."""
        return self.kind, [None if t is None else t.dtype for t in self[-3:]]


class Questions:
    """Collects the questions that may wait, and keeps what they ask of."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[Tensor, list[Tensor | None], list[int]]] = {}
        self._asked: list[Question] = []
        self._kept = 0

    def compare(self, mask: Tensor, new: Tensor, old: Tensor | None = None) -> None:
        """Remembers what a mask was made of."""
        if self._takes(new, old):
            self._masks[id(mask)] = mask, [new, old], _versions(mask, new, old)

    def ask(self, kind: str, step: int, place: int, values: Tensor, *more: Tensor) -> None:
        """Takes a question if it may wait."""
        of: list[Tensor | None] = [values, *more[: kind == "finite_product"]]
        weights, versions = more[0] if kind == "tally" else None, _versions(*of)
        made = self._masks.get(id(values))
        if made and made[2][0] == values._version:
            of, versions = made[1], made[2][1:]
        if self._takes(*of):
            self._asked.append(Question(kind, step, place, versions, weights, *of))  # type: ignore[arg-type]

    def _takes(self, *tensors: Tensor | None) -> bool:
        if not all(t is None or (t.is_cpu and 0 < t.numel() <= SMALL) for t in tensors):
            return False
        self._kept += sum(t.numel() for t in tensors if t is not None)
        return self._kept <= _KEPT

    def kinds(self) -> list[list[Question]]:
        """Returns those that can be answered at the end, where their tensors have the same values
        still: lists of those that are answered together."""
        found: dict[str, list[Question]] = {}
        for question in self._asked:
            if question.versions == _versions(*question[-2:]):
                found.setdefault(repr(question.alike), []).append(question)
        return [*found.values()]


def _versions(*tensors: Any) -> list[int]:
    return [t._version for t in tensors if t is not None]


def answering(questions: list[Question], new: Fetch, old: Fetch) -> Callable[[Values], None]:
    """Returns what writes the answers to questions of a kind to their places; ``new`` and ``old``
    fetch what they ask of."""
    places, first = [q.place for q in questions], questions[0]

    def finite(values: Values) -> None:
        known = isfinite(np.vdot(_flat(new(values)), _flat(old(values))))
        for place in places:
            values[place] = known

    starts = np.cumsum([0, *(q.values.numel() for q in questions)])[:-1]
    of_all = [q.weights.expand(q.values.shape) for q in questions if q.weights is not None]
    factors = _flat(of_all) if of_all else None

    def counted(values: Values) -> None:
        differ = _flat(new(values)) != (0 if first.others is None else _flat(old(values)))
        answers: Any = np.add.reduceat(differ, starts, dtype=np.int64).tolist()
        if factors is not None:
            weighted = np.add.reduceat(differ * factors, starts).tolist()
            answers = zip(answers, weighted, strict=True)
        for place, answer in zip(places, answers, strict=True):
            values[place] = answer

    return finite if first.kind == "finite_product" else counted


def _flat(tensors: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    flat: Tensor = _flatten_dense_tensors(tensors)  # type: ignore[no-untyped-call]
    return flat.numpy()
