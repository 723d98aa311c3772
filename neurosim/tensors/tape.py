"""A tape of what is computed with tensors: recorded once, replayed on other tensors.

Where tensors are small, most of the time goes into finding out what to compute. With tensors of the
same shapes that is the same again, as long as what is asked of their *values* has the same answers.
So a tape records the calls of torch, and the questions. A replay makes the same calls one after the
other, and looks at the end if the answers are those of the recording: if not, what it has computed
means nothing.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import getitem, itemgetter
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from neurosim.tensors.arrays import mapped
from neurosim.tensors.graph import Captured, capturable
from neurosim.tensors.host import drawn, read
from neurosim.tensors.late import Questions
from neurosim.tensors.sums import Sum

# Questions: of the first it only matters whether the answer is zero, or that is counted; see `Sum`.
_LATE = {"count", "differing", "tally", "any_nonzero", "finite_product"}
_COUNT = {"__bool__", "is_nonzero"} | _LATE
_EXACT = {"item", "__int__", "__index__", "__float__", "__complex__", "equal", "allclose"}
# What depends on shapes, and is the same of any tensor in the place of this one.
_SHAPE = {"__get__", "__len__", "__hash__", "size", "dim", "ndimension", "numel", "nelement"}
_SHAPE |= {"stride", "is_contiguous", "is_floating_point", "is_complex", "is_conj", "is_neg"}
_SHAPE |= {"element_size", "get_device", "storage_offset", "data_ptr"}
_IN_PLACE = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"}
_IN_PLACE |= {"__iand__", "__ior__", "__ixor__"}
_RANDOM = re.compile("rand|normal|uniform|bernoulli|multinomial|poisson|dropout|exponential")
_ATOMS = (bool, int, float, type(None))
MOST = 100_000  # steps: recording takes several times as long as computing


class Place(NamedTuple):
    """Where a replay has a tensor."""

    number: int


class _Row(NamedTuple):
    """A list or a tuple of tensors and constants, which are fetched at once."""

    kind: Callable[[Sequence[Any]], Any]
    fetch: Callable[[list[Any]], Sequence[Any]]


class _Table(NamedTuple):
    """A dict, and what of it is not known beforehand."""

    known: dict[str, Any]
    moving: list[tuple[str, Any]]


class _Step(NamedTuple):
    call: Callable[..., Any]
    places: tuple[int, ...]  # of what it is called with
    to: int  # and of the result
    pure: bool  # whether it is for nothing if nobody looks at the result


class Tape(TorchFunctionMode):
    """Records what is computed with ``inputs`` while it is entered.

    The ``sources`` are the same tensors in every replay, with the values that they have then. What
    depends on neither of both is a constant, and computed once. What is made has a place, which is
    given to something else once it is gone, so that a replay holds no more at a time than the
    recording did. ``problem`` tells what was done that a replay cannot do. ``graphs``: after the
    first replay the calls are captured where a device can do that, and launched at once.
    """

    def __init__(
        self, inputs: Iterable[Tensor], sources: Iterable[Tensor] = (), *, graphs: bool = False
    ) -> None:
        super().__init__()
        self._graphs = graphs
        self.graph: Captured | None = None
        self._sources = {id(tensor): tensor for tensor in sources}
        self.problem: str | None = None
        self.closed = False
        self._steps: list[_Step] = []
        self._values: list[Any] = []  # at the start of a replay: constants at their places
        self._free: list[int] = []
        self._made: dict[int, tuple[ref[Tensor], int]] = {}  # the places of living tensors, by id
        self._constants: dict[int, int] = {}  # those of all else
        self._asked: list[tuple[int, bool]] = []  # places of answers, or of several in a tuple
        self._answers: list[tuple[Any, bool]] = []  # and if they must be the same
        self._reads: list[tuple[Tensor, list[int]]] = []  # what is read; places of the answers
        self._questions = Questions()
        self._inputs = len([self._place(tensor) for tensor in inputs])
        self._when = (0, 0)  # the number of the inference that is replayed, and its first sample

    # ---- recording -----------------------------------------------------------------------------

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if len(self._steps) >= MOST:
            self.problem = "more is computed than is worth recording"
        if self.problem:
            return function(*args, **kwargs)
        result, name = function(*args, **kwargs), getattr(function, "__name__", "").split(".")[0]
        given, made = _tensors((args, kwargs)), _tensors(result)
        writes = (name.endswith("_") and not name.endswith("__")) or "out" in kwargs
        writes |= name in _IN_PLACE
        written = kwargs.get("out", args[0]) if writes else None
        if name in _SHAPE and not made:
            return result
        if name == "requires_grad_" or (name == "_set_grad_enabled" and args[0]):
            self.problem = "autograd computes"
        elif function is drawn:
            self._steps.append(_Step(partial(self._draw, args[0]), (), self._place(result), True))
            self._graphs = False  # which none of the host's draws can be part of
        elif _RANDOM.match(name):
            self.problem = f"{name} draws"
        elif not any(id(tensor) in self._made or id(tensor) in self._sources for tensor in given):
            if written is not None and id(written) in self._constants:
                self.problem = f"{name} writes into a constant"
        elif function is read:
            places = [self._new() for _ in result]
            self._reads.append((args[0], places))
            self._asked += [(place, False) for place in places]
            return [self._answer(number) for number in result]
        elif name in _COUNT | _EXACT and not made:
            return self._ask(function, args, kwargs, result, name in _EXACT)
        elif not made and not writes:
            self.problem = f"{name} takes values to where a tape does not see them"
        elif writes and id(written) not in self._made:
            self.problem = f"{name} writes into what was there before"
        elif writes or any(id(tensor) not in self._made for tensor in made):
            result = self._note(function, args, kwargs, result, pure=not writes)
            if name == "unequal":
                self._questions.compare(function, result, *args)
        return result

    def _note(self, function: Any, args: Any, kwargs: Any, result: Any, *, pure: bool) -> Any:
        """Adds a step, and those that take its result apart, which it returns: with the answers to
        questions that came along."""
        call = self._call(function, args, kwargs)
        if isinstance(result, Tensor):
            self._steps.append(_Step(*call, self._place(result), pure))
            return result
        whole = self._new()
        self._steps.append(_Step(*call, whole, pure))
        parts = list(result or ())
        for number, part in enumerate(parts):
            places = whole, self._constant(number)
            if isinstance(part, Tensor):
                self._steps.append(_Step(getitem, places, self._place(part), True))
            elif isinstance(part, int):
                self._steps.append(_Step(getitem, places, place := self._new(), True))
                self._asked.append((place, False))
                parts[number] = self._answer(part)
        self._free.append(whole)
        return tuple(parts) if any(isinstance(part, Sum) for part in parts) else result

    def _ask(self, function: Any, args: Any, kwargs: Any, result: Any, exact: bool) -> Any:
        place, several = self._new(), isinstance(result, tuple)
        name = function.__name__
        if name in _LATE and not kwargs and (result or name != "finite_product"):
            self._questions.ask(function, len(self._steps), place, *args)
        self._steps.append(_Step(*self._call(function, args, kwargs), place, True))
        self._asked.append((place, several))
        if several:
            return tuple(self._answer(part) for part in result)
        return self._answer(result, exact)

    def _draw(self, draw: Callable[[int, int], Tensor]) -> Tensor:
        return draw(*self._when)

    def _answer(self, value: Any, exact: bool = False) -> Any:
        self._answers.append((value, exact))
        if exact or isinstance(value, bool):
            return value
        return Sum.of(value, number=len(self._answers) - 1)

    def _call(self, function: Any, args: Any, kwargs: Any) -> tuple[Any, tuple[int, ...]]:
        """Returns a function of the values at some places that makes this call, and the places."""
        if any(_tensors(a) for a in (*args, *kwargs.values()) if not isinstance(a, Tensor)) or any(
            isinstance(a, Tensor) for a in kwargs.values()
        ):
            tree, tensors = [list(args), kwargs], _tensors([list(args), kwargs])
            places = tuple(dict.fromkeys(map(self._at, tensors)))
            where = mapped(tree, lambda t: Place(places.index(self._at(t))))  # type: ignore[arg-type,return-value]
            return partial(_deep, function, where), places
        at = (self._at(a) if isinstance(a, Tensor) else self._constant(a) for a in args)
        return partial(function, **kwargs) if kwargs else function, tuple(at)

    def _at(self, tensor: Tensor) -> int:
        """Returns where a tensor is that may be a constant."""
        known = self._made.get(id(tensor))
        return self._constant(tensor) if known is None else known[1]

    def _constant(self, value: Any) -> int:
        if id(value) not in self._constants:
            self._constants[id(value)] = len(self._values)
            self._values.append(value)
        return self._constants[id(value)]

    def _place(self, tensor: Tensor) -> int:
        """Returns the place of a tensor that was made, or given."""
        key = id(tensor)
        if key not in self._made:
            place = self._new()

            def gone(_: object) -> None:
                if self._made.pop(key, None):
                    self._free.append(place)

            self._made[key] = ref(tensor, gone), place
        return self._made[key][1]

    def _new(self) -> int:
        if self._free:
            return self._free.pop()
        self._values.append(None)
        return len(self._values) - 1

    def close(self, left: Any) -> None:
        """Ends the recording. ``left`` is the tree of tensors and numbers that it leaves behind:
        what nobody looks at is not computed any more."""
        self._left = mapped(left, lambda t: Place(self._at(t)))  # type: ignore[arg-type,return-value]
        self._read_from = [self._at(tensor) for tensor, _ in self._reads]
        self._read_to = [place for _, places in self._reads for place in places]
        needed = {place for place, _ in self._asked}.union(_places(self._left), self._read_from)
        made = self._questions.answers(self._at)
        late = {step for answers in made for step in answers.steps}
        self._late = [(answer, _fetch(answer.places)) for answer in made]
        needed.update(place for answer in made for place in answer.places)
        steps = []
        for number, step in reversed([*enumerate(self._steps)]):
            if number not in late and (step.to in needed or not step.pure):
                if step.pure:
                    needed.discard(step.to)
                needed.update(step.places)
                steps.append((step.call, _fetch(step.places), step.to))
        self._program = steps[::-1]
        self._packed = self._pack(self._left)
        self._recorded = [value for value, _ in self._answers]
        self._truths = [bool(value) for value in self._recorded]
        self._exact = [number for number, (_, exact) in enumerate(self._answers) if exact]
        self._made, self._reads, self._steps, self.closed = {}, [], [], True
        self._questions = Questions()

    def _pack(self, node: Any) -> Any:
        """Returns the tree with a `_Table` for each dict, and a `_Row` for each list of tensors and
        constants alone."""
        match node:
            case dict():
                all_of = {key: self._pack(part) for key, part in node.items()}
                moving = [key for key, part in all_of.items() if type(part) not in _ATOMS]
                return _Table(all_of, [(key, all_of[key]) for key in moving])
            case list() | tuple() if type(node) in (list, tuple):
                parts = [self._pack(part) for part in node]
                if not parts or any(type(p) is not Place and type(p) not in _ATOMS for p in parts):
                    return type(node)(parts)
                at = (p.number if type(p) is Place else self._constant(p) for p in parts)
                return _Row(type(node), _fetch(tuple(at)))
            case _:
                return node

    def clear(self) -> None:
        """Lets go of all: it cannot be replayed any more."""
        self._values, self._program, self._late = [], [], []
        self._left = self._packed = None

    @property
    def calls(self) -> int:
        """How many calls a replay makes."""
        return len(self._program)

    # ---- replaying -----------------------------------------------------------------------------

    def replay(self, inputs: Sequence[Tensor], when: tuple[int, int] = (0, 0)) -> Any:
        """Returns the tree that is left with these inputs, and what is `drawn` then; None where an
        answer is another."""
        self._when = when
        if len(inputs) != self._inputs:
            return None
        values = self._values.copy()
        values[: len(inputs)] = inputs
        numbers = self._computed(values, inputs)
        for answer, fetch in self._late:
            answer(fetch(values), values)
        if numbers is not None:
            for place, number in zip(self._read_to, read(numbers), strict=True):
                values[place] = number
        answers: list[Any] = []
        for place, several in self._asked:
            if several:
                answers += values[place]
            else:
                answers.append(values[place])
        if [*map(bool, answers)] != self._truths:
            return None
        if any(answers[number] != self._recorded[number] for number in self._exact):
            return None
        return self._resolved(self._packed, values, answers)

    def _compute(self, values: list[Any]) -> Tensor | None:
        """Makes the calls. Returns what is to be read."""
        for call, fetch, to in self._program:
            values[to] = call(*fetch(values))
        wanted = [values[place] for place in self._read_from]
        return torch.cat(wanted) if wanted else None

    def _computed(self, values: list[Any], inputs: Sequence[Tensor]) -> Tensor | None:
        """Does that, by a graph if there is one, or is to be one after this time."""
        if self.graph is not None:
            try:
                return self.graph.run(self._compute, values, len(inputs))
            except RuntimeError:  # something that no graph may do
                self.graph = None
                values[: len(inputs)] = inputs
        numbers = self._compute(values)
        if self._graphs:
            self._graphs = False
            made, kept = {to for *_, to in self._program}, _places(self._left)
            if capturable(inputs, [values[place] for place in made]):
                self.graph = Captured([*self._sources.values()], made & kept)
        return numbers

    def _resolved(self, node: Any, values: list[Any], answers: list[int]) -> Any:
        """Returns what is left, with tensors at their places and sums of these answers."""
        kind = type(node)
        if kind is _Row:
            return node.kind(node.fetch(values))
        if kind is Place:
            return values[node.number]
        if kind is _Table:
            found: dict[str, Any] = node.known.copy()
            for key, part in node.moving:
                found[key] = self._resolved(part, values, answers)
            return found
        if kind is list or kind is tuple:
            return kind([self._resolved(part, values, answers) for part in node])
        if kind is Sum:
            return int(node) + sum(f * (answers[n] - self._recorded[n]) for n, f in node.terms)
        return node


def _deep(function: Callable[..., Any], tree: Any, *tensors: Tensor) -> Any:
    """Makes a call with tensors within its arguments, at the places that the ``tree`` says."""
    args, kwargs = _filled(tree, tensors)
    return function(*args, **kwargs)


def _filled(node: Any, tensors: Sequence[Tensor]) -> Any:
    kind = type(node)
    if kind is Place:
        return tensors[node.number]
    if kind is dict:
        return {key: _filled(part, tensors) for key, part in node.items()}
    if kind is list or kind is tuple:
        return kind(_filled(part, tensors) for part in node)
    return node


def _fetch(places: tuple[int, ...]) -> Callable[[list[Any]], Sequence[Any]]:
    """Returns what takes the values at these places out of a list."""
    if len(places) > 1:
        return itemgetter(*places)  # which returns no tuple of a single place
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0, 0))


def _leaves(node: Any) -> Iterator[Any]:
    if type(node) in (dict, list, tuple):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _leaves(part)
    else:
        yield node


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, tuple):
        tree = list(tree)  # of a named one too
    return [leaf for leaf in _leaves(tree) if isinstance(leaf, Tensor)]


def _places(tree: Any) -> set[int]:
    return {leaf.number for leaf in _leaves(tree) if isinstance(leaf, Place)}
