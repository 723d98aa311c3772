"""Arrays that know themselves: what objects hold as they run is saved, loaded, kept, reset and
counted by one walk.

An object of the class `Arrays` declares each of its arrays once, where it makes it: as an attribute
that is an `Array` (a `Slot`, a `Stale`), or by the name of an attribute in ``plain`` that is a
number, a tensor, or a list or dict of them. Everything below finds it there.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from neurosim.base import NeurosimError, StateError
from neurosim.tensors.kinds import Dtypes, check_kind
from neurosim.tensors.machine import out_of_memory

# How long a value lives. One of the ``phase`` is kept for the phases that begin with it; one of the
# ``inference`` is reset where an inference starts; one of the ``simulation`` never is.
Lifetime = Literal["phase", "inference", "simulation"]
_NUMBERS = (bool, int, float)
Copied = Callable[[Tensor | None], Tensor | None]


class Dimensions(NamedTuple):
    """What the size of an array depends on."""

    batch: int  # samples
    itemsize: int  # bytes of one value
    ticks: int  # of an inference


class Array(ABC):
    """One value that changes as a simulation runs."""

    __slots__ = ()
    lifetime: Lifetime = "phase"

    @abstractmethod
    def save(self, copied: Copied) -> Any:
        """Returns the value as tensors and numbers. Its tensors pass through ``copied``."""

    @abstractmethod
    def load(self, saved: Any, copied: Copied) -> None:
        """Restores what `save` returned. Raises ValueError where it has another shape or kind."""

    def check(self, batch: int, dtypes: Dtypes) -> None:
        """Raises ValueError where what was restored does not go with that many samples, and values
        of these kinds."""
        del batch, dtypes

    @abstractmethod
    def reset(self) -> None:
        """Restores the value that it was made with."""

    def nbytes(self, sizes: Dimensions) -> int:
        """Returns how many bytes it takes at most, once in use."""
        del sizes
        return 0


class Arrays:
    """An object that holds arrays. ``plain`` names those of its attributes that are plain data.

    A plain attribute lives as long as an inference. Its first value is the attribute of the class,
    its annotation says what may be restored.
    """

    plain: ClassVar[tuple[str, ...]] = ()
    device: torch.device | None = None  # where its arrays are, if it knows

    def arrays(self) -> dict[str, Any]:
        """Returns its arrays by name, and whatever holds others: `Arrays`, or lists or dicts of
        them."""
        own = {name.strip("_"): Plain(self, name) for name in self.plain}
        found = {name.strip("_"): a for name, a in vars(self).items() if isinstance(a, Array)}
        return own | found

    def check(self, batch: int, dtypes: Dtypes) -> None:
        """Raises ValueError where what was restored does not fit together, or does not go with that
        many samples, and values of these kinds."""
        del batch, dtypes

    def nbytes(self, sizes: Dimensions) -> int:
        """Returns how many bytes its plain attributes take at most."""
        del sizes
        return 0


class Plain(Array):
    """A plain attribute of an object."""

    lifetime = "inference"

    def __init__(self, owner: object, name: str) -> None:
        self.owner, self.name = owner, name

    @property
    def is_number(self) -> bool:
        """Whether it is a number now, or nothing."""
        value = getattr(self.owner, self.name)
        return value is None or type(value) in _NUMBERS

    def save(self, copied: Copied) -> Any:
        return mapped(getattr(self.owner, self.name), copied)

    def load(self, saved: Any, copied: Copied) -> None:
        before = getattr(self.owner, self.name)
        counted = isinstance(before, np.ndarray) and isinstance(saved, Tensor)
        value = as_array(saved) if counted else mapped(saved, copied)
        if counted and value.shape != before.shape:
            raise ValueError(f"{value.shape}, where there has to be {before.shape}")
        setattr(self.owner, self.name, check_kind(type(self.owner), self.name, value))

    def reset(self) -> None:
        own = vars(self.owner)
        value = own.get(self.name)
        if isinstance(value, np.ndarray):
            value.fill(0)
        else:
            own.pop(self.name, None)  # what is left is the attribute of the class


class Copier:
    """Copies tensors, each of them once: slots that share one share the copy.

    A copy has the order in memory of its original, so that sums over it round alike.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._others: dict[torch.device, Self] = {}
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # the first keeps its id taken

    def __call__(self, tensor: Tensor | None) -> Tensor | None:
        """Returns the copy of a tensor, on the copier's device; None of None."""
        if tensor is None:
            return None
        if id(tensor) not in self._copies:
            copy = tensor.detach().clone()
            copy = copy if self._device is None else copy.to(self._device)
            self._copies[id(tensor)] = tensor, copy
        return self._copies[id(tensor)][1]

    def on(self, device: torch.device) -> Self:
        """Returns the copier, the same every time, to another device."""
        if device == self._device:
            return self
        return self._others.setdefault(device, type(self)(device))


def same(tensor: Tensor | None) -> Tensor | None:
    """Returns the tensor itself, in place of a copy."""
    return tensor


def mapped(node: Any, change: Copied) -> Any:
    """Returns a tree of dicts, lists and tuples with every array in it changed."""
    if node is None or type(node) in _NUMBERS:  # most are
        return node
    match node:
        case Tensor():
            return change(node)
        case np.ndarray():
            return torch.from_numpy(node.copy())
        case dict():
            return {key: mapped(value, change) for key, value in node.items()}
        case list() | tuple():
            found = [mapped(value, change) for value in node]
            return found if isinstance(node, list) else tuple(found)
        case _:
            return node


def as_tensors(**arrays: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Returns copies of arrays as tensors, the form in which states are saved."""
    found: dict[str, Any] = mapped(arrays, same)
    return found


def as_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """Returns a copy of a saved tensor as the array that it was."""
    return tensor.cpu().numpy().copy()


@contextmanager
def complete(what: str) -> Iterator[None]:
    """Raises StateError where something that is looked up in saved data is not there, or not what
    it has to be."""
    try:
        yield
    except NeurosimError:
        raise
    except (
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
    ) as error:
        if out_of_memory(error):
            raise
        found = f"has no {error}" if isinstance(error, KeyError) else f"does not fit ({error})"
        raise StateError(
            f"the saved {what} {found}: it is damaged, or of another version of neurosim"
        ) from None


# ---- the walks -----------------------------------------------------------------------------------

_ALL: tuple[Lifetime, ...] = ("phase", "inference", "simulation")


def save_arrays(node: Any, copied: Copied, lifetimes: Sequence[Lifetime] = _ALL) -> Any:
    """Returns the tree of all arrays of these lifetimes below ``node``, as tensors and numbers."""
    if isinstance(node, Array):
        return node.save(copied)
    if isinstance(node, Sequence):
        return [save_arrays(part, copied, lifetimes) for part in node]
    return {name: save_arrays(p, copied, lifetimes) for name, p in _living(node, lifetimes)}


def load_arrays(
    node: Any, saved: Any, copied: Copied, lifetimes: Sequence[Lifetime] = _ALL
) -> None:
    """Restores what `save_arrays` returned.

    Raises:
        KeyError: an array is missing.
        ValueError: an array has another shape, or a list another length.
    """
    if isinstance(node, Array):
        node.load(saved, copied)
    elif isinstance(node, Sequence):
        for part, value in zip(node, saved, strict=True):
            load_arrays(part, value, copied, lifetimes)
    else:
        if isinstance(node, Arrays) and node.device is not None:
            copied = _to(node.device, copied)
        for name, part in _living(node, lifetimes):
            try:
                load_arrays(part, saved[name], copied, lifetimes)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None


def check_arrays(node: Any, batch: int, dtypes: Dtypes) -> None:
    """Raises ValueError where arrays below ``node`` that were restored one by one do not fit each
    other, or do not go with that many samples, and values of these kinds."""
    if isinstance(node, Array | Arrays):
        node.check(batch, dtypes)
    for name, part in _below(node):
        try:
            check_arrays(part, batch, dtypes)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _to(device: torch.device, copied: Copied) -> Copied:
    if isinstance(copied, Copier):
        return copied.on(device)
    return lambda tensor: None if (found := copied(tensor)) is None else found.to(device)


def reset_arrays(node: Any) -> None:
    """Resets all arrays below ``node`` but those that live as long as the simulation."""
    for array in passing_arrays(node):
        array.reset()


def passing_arrays(node: Any) -> list[Array]:
    """Returns all arrays below ``node`` but those that live as long as the simulation."""
    if isinstance(node, Array):
        return [] if node.lifetime == "simulation" else [node]
    return [array for _, part in _below(node) for array in passing_arrays(part)]


def count_bytes(node: Any, sizes: Dimensions, counted: set[int]) -> int:
    """Returns the bytes of all arrays below ``node``, at most.

    It leaves out what is in ``counted`` and notes there what it counts: an array that two objects
    share is counted once.
    """
    total = 0
    if isinstance(node, Array | Arrays):
        if id(node) in counted:
            return 0
        counted.add(id(node))
        total = node.nbytes(sizes)
    return total + sum(count_bytes(part, sizes, counted) for _, part in _below(node))


def _below(node: Any) -> Iterable[tuple[object, Any]]:
    if isinstance(node, Array):
        return ()
    return enumerate(node) if isinstance(node, Sequence) else _named(node).items()


def _named(node: Arrays | Mapping[str, Any]) -> Mapping[str, Any]:
    return node.arrays() if isinstance(node, Arrays) else node


def _living(
    node: Arrays | Mapping[str, Any], lifetimes: Sequence[Lifetime]
) -> Iterator[tuple[str, Any]]:
    for name, part in _named(node).items():
        if not isinstance(part, Array) or part.lifetime in lifetimes:
            yield name, part
