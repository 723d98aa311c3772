"""Questions of a tape that can wait until its end, where all are answered together.

Of small arrays, most of what an answer takes is the call: they are answered in a few passes. Of
larger ones it is that the processor has done something else meanwhile: they are answered one after
the other. What is asked is `unequal` with `count` or `tally`, `differing`, `any_nonzero` or
`finite_product`, see `tensors.changes`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosim.tensors.writes import versions

SMALL = 10_000  # values of an array that is laid out with others
_LARGE = 2**17  # and of one that can wait
_FEW = 8  # questions that are not worth that
_KEPT = 2**20  # values that wait at a time
_OF_TWO = {"differing", "finite_product"}  # what is asked of two arrays
_ROOM = 2.0**-20  # of the largest number there is: what a sum may be that is far from it

Values = list[Any]
Flat = np.ndarray[Any, Any]
Call = Callable[..., Any]
At = Callable[[Tensor], int]  # where a replay has a tensor


class Question(NamedTuple):
    """Asks for how many ``values`` differ from ``others`` (None: from zeros) and the sum of their
    ``weights``, or whether their products with the others are finite. ``call`` is asked, ``step``
    is where it was, ``place`` that of the answer, ``versions`` those that the tensors had."""

    call: Call
    step: int
    place: int
    versions: list[int]
    weights: Tensor | None
    values: Tensor
    others: Tensor | None = None
    compared: Call | None = None  # what made the marks that are asked for

    @property
    def kind(self) -> str:
        return self.call.__name__

    @property
    def asked_of(self) -> list[Tensor]:
        return [self.values] if self.others is None else [self.values, self.others]

    def again(self) -> Call:
        """Returns what answers it for other values in the place of these. It keeps none of them."""
        call, compared, weights = self.call, self.compared, self.weights
        more, pair = () if weights is None else (weights,), self.kind in _OF_TWO

        def answer(values: Tensor, others: Tensor | None = None) -> Any:
            if compared is not None:
                return call(compared(values, others), *more)
            return call(values, *more) if others is None and not pair else call(values, others)

        return answer


class Questions:
    """Collects the questions that may wait, and keeps what they ask of."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[Call, Tensor, list[Tensor | None], list[int]]] = {}
        self._asked: list[Question] = []
        self._kept = 0

    def compare(self, call: Call, mask: Tensor, new: Tensor, old: Tensor | None = None) -> None:
        """Remembers what a mask was made of."""
        if self._takes(new, old):
            self._masks[id(mask)] = call, mask, [new, old], versions(mask, new, old)

    def ask(self, call: Call, step: int, place: int, values: Tensor, *more: Tensor) -> None:
        """Takes a question if it may wait."""
        of: list[Any] = [values, more[0] if call.__name__ in _OF_TWO else None]
        weights, before = more[0] if call.__name__ == "tally" else None, versions(*of)
        compared, mask, both, written = self._masks.get(id(values), (None, values, of, []))
        if written[:1] == versions(mask):
            of, before = both, written[1:]
        else:
            compared = None
        if self._takes(*of):
            values, others = of
            question = Question(call, step, place, before, weights, values, others, compared)
            self._asked.append(question)

    def _takes(self, *tensors: Tensor | None) -> bool:
        if not all(t is None or (t.is_cpu and 0 < t.numel() <= _LARGE) for t in tensors):
            return False
        self._kept += sum(t.numel() for t in tensors if t is not None)
        return self._kept <= _KEPT

    def answers(self, at: At) -> list["Answers"]:
        """Returns what answers those that can be answered at the end, as their tensors still have
        the same values. ``at`` says where a replay has a tensor."""
        kept = [one for one in self._asked if one.versions == versions(one.values, one.others)]
        small, alone = dict[Any, list[Question]](), list[Question]()
        for one in kept:
            alike = one.values.dtype if one.values.numel() <= SMALL else None
            (alone if alike is None else small.setdefault(alike, [])).append(one)
        made: list[Answers] = []
        for questions in small.values():
            if len(questions) < _FEW:
                alone += questions
            else:
                made.append(Together(questions, at))
        return [*made, Apart(alone, at)] if alone else made


class Answers(ABC):
    """Answers questions, of the tensors at some ``places``; ``steps`` are where they were asked."""

    def __init__(self, questions: Iterable[Question], of: Iterable[Tensor], at: At) -> None:
        self.steps = {one.step for one in questions}
        self.places = tuple(map(at, of))

    @abstractmethod
    def __call__(self, tensors: Sequence[Tensor], values: Values) -> None:
        """Writes the answers to their places among the values of a replay."""


class Apart(Answers):
    """Answers questions about large arrays, one after the other."""

    def __init__(self, questions: Sequence[Question], at: At) -> None:
        super().__init__(questions, (t for one in questions for t in one.asked_of), at)
        ends = np.cumsum([0, *(len(one.asked_of) for one in questions)]).tolist()
        self._questions = [
            (one.again(), slice(*of), one.place)
            for one, of in zip(questions, pairwise(ends), strict=True)
        ]

    def __call__(self, tensors: Sequence[Tensor], values: Values) -> None:
        for answer, of, place in self._questions:
            values[place] = answer(*tensors[of])


class Kind(list[Question]):
    """Questions that are answered together, of tensors of one dtype."""

    def answer(self) -> Callable[[Flat, Flat, Values], None]:
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


class Together(Answers):
    """Answers questions about small arrays of one dtype, which it lays out in one array."""

    def __init__(self, questions: Sequence[Question], at: At) -> None:
        found: dict[Any, Kind] = {}
        for one in questions:
            squares = one.values is one.others  # of which no sum hides that one is large
            dtypes = [None if t is None else t.dtype for t in (one.others, one.weights)]
            found.setdefault((one.kind, squares, *dtypes), Kind()).append(one)
        of: list[Tensor] = []
        cuts = [0]
        for kind in (kinds := [*found.values()]):
            for tensors in ([q.values for q in kind], [q.others for q in kind]):
                of += [t for t in tensors if t is not None]
                cuts.append(sum(t.numel() for t in of))
        super().__init__(questions, of, at)
        ends = [slice(*ends) for ends in pairwise(cuts)]
        answers = [kind.answer() for kind in kinds]
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
def largest_moderate(count: int, dtype: torch.dtype) -> float:
    """Returns the largest size of so many values with which the sum of their squares is sure to be
    `moderate`."""
    return math.sqrt(_most(dtype) / max(1, count)) / 2


@cache
def _most(dtype: torch.dtype) -> float:
    return _ROOM * torch.finfo(dtype).max


def _flat(tensors: Sequence[Tensor]) -> Flat:
    """Joins all values: torch.cat would have to be given views, which takes longer."""
    return np.concatenate([tensor.numpy() for tensor in tensors], axis=None)
