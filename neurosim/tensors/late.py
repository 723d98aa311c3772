"""Questions of a tape that can wait until its end, where all are answered in a few passes.

Of small arrays, most of what an answer takes is the call. What is asked is `unequal` with `count`,
`tally`, `any_nonzero` or `finite_product`, see `tensors.changes`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosim.tensors.writes import versions

SMALL = 10_000  # values of an array that can wait
_KEPT = 2**20  # values that wait at a time
_ROOM = 2.0**-20  # of the largest number there is: what a sum may be that is far from it

Values = list[Any]
Flat = np.ndarray[Any, Any]
Answers = Callable[[Flat, Flat, Values], None]  # writes them to their places


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


class Questions:
    """Collects the questions that may wait, and keeps what they ask of."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[Tensor, list[Tensor | None], list[int]]] = {}
        self._asked: list[Question] = []
        self._kept = 0

    def compare(self, mask: Tensor, new: Tensor, old: Tensor | None = None) -> None:
        """Remembers what a mask was made of."""
        if self._takes(new, old):
            self._masks[id(mask)] = mask, [new, old], versions(mask, new, old)

    def ask(self, kind: str, step: int, place: int, values: Tensor, *more: Tensor) -> None:
        """Takes a question if it may wait."""
        of: list[Tensor | None] = [values, *more[: kind == "finite_product"]]
        weights, before = more[0] if kind == "tally" else None, versions(*of)
        made = self._masks.get(id(values))
        if made and made[2][:1] == versions(values):
            of, before = made[1], made[2][1:]
        if self._takes(*of):
            self._asked.append(Question(kind, step, place, before, weights, *of))  # type: ignore[arg-type]

    def _takes(self, *tensors: Tensor | None) -> bool:
        if not all(t is None or (t.is_cpu and 0 < t.numel() <= SMALL) for t in tensors):
            return False
        self._kept += sum(t.numel() for t in tensors if t is not None)
        return self._kept <= _KEPT

    def kept(self) -> list["Kind"]:
        """Returns those that can be answered at the end, as their tensors still have the same
        values; in lists, by what they have in common."""
        found: dict[Any, Kind] = {}
        for asked in self._asked:
            if asked.versions == versions(*asked[-2:]):
                dtypes = (None if t is None else t.dtype for t in asked[-3:])
                squares = asked.values is asked.others  # of which no sum hides that one is large
                found.setdefault((asked.kind, squares, *dtypes), Kind()).append(asked)
        return [*found.values()]


class Kind(list[Question]):
    """Questions that are answered together, of tensors of one dtype."""

    def answers(self) -> Answers:
        """Returns what answers them, from all their values and all others, flat."""
        places, sizes = [q.place for q in self], [q.values.numel() for q in self]
        starts, alone = np.cumsum([0, *sizes])[:-1], self[0].others is None
        spread = [q.weights.expand(q.values.shape) for q in self if q.weights is not None]
        factors, dtype = _flat(spread) if spread else None, self[0].values.dtype

        def finite(new: Flat, old: Flat, values: Values) -> None:
            known = moderate(np.vdot(new, old), dtype)
            for place in places:
                values[place] = known

        def counted(new: Flat, old: Flat, values: Values) -> None:
            differ = new != (0 if alone else old)
            answers: Any = np.add.reduceat(differ, starts, dtype=np.int64).tolist()
            if factors is not None:
                weighted = np.add.reduceat(differ * factors, starts).tolist()
                answers = zip(answers, weighted, strict=True)
            for place, answer in zip(places, answers, strict=True):
                values[place] = answer

        return finite if self[0].kind == "finite_product" else counted


class Answering:
    """Answers the kinds of questions that are of tensors of one dtype: what they ask of is laid
    out in one array. ``at`` says where a replay has a tensor."""

    def __init__(self, kinds: Sequence[Kind], at: Callable[[Tensor], int]) -> None:
        of: list[Tensor] = []
        cuts = [0]
        for kind in kinds:
            for tensors in ([q.values for q in kind], [q.others for q in kind]):
                of += [t for t in tensors if t is not None]
                cuts.append(sum(t.numel() for t in of))
        self.places = tuple(map(at, of))
        ends = [slice(*ends) for ends in pairwise(cuts)]
        answers = [kind.answers() for kind in kinds]
        self._kinds = [*zip(answers, ends[::2], ends[1::2], strict=True)]

    def __call__(self, tensors: Sequence[Tensor], values: Values) -> None:
        flat = _flat(tensors)
        for answer, new, old in self._kinds:
            answer(flat[new], flat[old], values)


def moderate(total: Any, dtype: torch.dtype) -> bool:
    """Says if a sum of numbers of this dtype is finite, and far from the largest one."""
    most = _most(dtype)
    if not dtype.is_complex:
        return bool(-most <= total <= most)
    return bool(abs(total.real) <= most and abs(total.imag) <= most)


@cache
def _most(dtype: torch.dtype) -> float:
    return _ROOM * torch.finfo(dtype).max


def _flat(tensors: Sequence[Tensor]) -> Flat:
    """Joins all values: torch.cat would have to be given views, which takes longer."""
    return np.concatenate([tensor.numpy() for tensor in tensors], axis=None)
