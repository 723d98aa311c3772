"""Arrays that are written as a whole or in part, and marks of what made of them is out of date."""

from collections.abc import Callable
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import has_torch_function_unary

from neurosim.base import StateError
from neurosim.compiled import kernels
from neurosim.tensors.arrays import Array, Copied, Dimensions, Lifetime, as_array
from neurosim.tensors.kinds import Dtypes
from neurosim.tensors.order import by_position
from neurosim.tensors.selection import Selection, Shape

Floats = npt.NDArray[Any]

_FLOATS = torch.float32, torch.float64
_EMPTY = "an array of the state is empty where values have to be, as if what was saved was damaged"


class Deferred(NamedTuple):
    """An array that is computed when somebody asks for it, ``of`` others of its shape. It keeps
    them, and nobody may write them in place: computed again, it has to have the same values."""

    call: Callable[..., Tensor]
    of: tuple[Tensor, ...]

    @property
    def shape(self) -> torch.Size:
        return self.of[0].shape

    def compute(self) -> Tensor:
        if torch.is_inference_mode_enabled():  # whose tensors do not know their versions
            with torch.inference_mode(False):
                return self.call(*self.of)
        return self.call(*self.of)


def materialized(array: Tensor | Deferred) -> Tensor:
    """Returns an array, deferred or not."""
    return array.compute() if isinstance(array, Deferred) else array


class Slot(Array):
    """One array (B, *shape) that is replaced as a whole or written in part.

    Whole replacement keeps a reference, so two slots may hold one tensor; a slot makes its own copy
    before it writes in place. An empty slot stands for all zeros. ``itemsize`` is the bytes of a
    value that is no state but a whole number. ``rows`` are those of a sample. A slot without a
    shape takes any array, which is counted elsewhere. ``device`` is where it is, if not where its
    owner's other arrays are. Values can be written late, see `put`. `set` also takes a `Deferred`
    array, which is computed when it is first read. ``moderate``: the array that was set is known to
    be finite, with a norm far from overflow. A write in part clears it.
    """

    __slots__ = (
        "_deferred",
        "_fresh",
        "_late",
        "_numbers",
        "_own",
        "_tensor",
        "device",
        "itemsize",
        "lifetime",
        "moderate",
        "rows",
        "shape",
    )
    lifetime: Lifetime

    def __init__(
        self,
        shape: Shape | None = None,
        *,
        lifetime: Lifetime = "phase",
        itemsize: int | None = None,
        rows: int = 1,
        device: torch.device | None = None,
    ) -> None:
        self.device, self.rows = device, rows
        self.shape, self.itemsize, self.lifetime = shape, itemsize, lifetime
        self._tensor: Tensor | None = None
        self._deferred: Deferred | None = None  # what the array is to be made of, or was
        self._own = self.moderate = False
        self._numbers: Floats | None = None  # the array as numbers of the host
        self._fresh: tuple[Selection, Tensor] | None = None
        self._late: tuple[Selection, Tensor] | None = None  # what is still to be written

    def save(self, copied: Copied) -> Tensor | None:
        return copied(self.take(None))

    def load(self, saved: Tensor | None, copied: Copied) -> None:
        if saved is not None and self.shape is not None and saved.shape[1:] != self.shape:
            found, wanted = list(saved.shape[1:]), list(self.shape)
            raise ValueError(f"shape {found} per sample, where the network has {wanted}")
        value = copied(saved)
        self.set(value if value is None or self.device is None else value.to(self.device))

    def check(self, batch: int, dtypes: Dtypes) -> None:
        if self.tensor is None or self.shape is None:
            return
        if len(self.tensor) != batch * self.rows:
            raise ValueError(f"an array of {len(self.tensor)}, where there are {batch} samples")
        whole = self.tensor.dtype == torch.int64
        if not (whole if self.itemsize else self.tensor.dtype in dtypes):
            raise ValueError(f"an array of {self.tensor.dtype}")

    def reset(self) -> None:
        self.set(None)

    def nbytes(self, sizes: Dimensions) -> int:
        itemsize = sizes.itemsize if self.itemsize is None else self.itemsize
        size = 0 if self.shape is None else self.rows * prod(self.shape)
        return sizes.batch * size * itemsize

    @property
    def tensor(self) -> Tensor | None:
        """The array; None where it is empty."""
        tensor = self._tensor
        return self._present() if tensor is None or self._late is not None else tensor

    def _present(self) -> Tensor | None:
        """Returns the array, with all that is still to be written or made."""
        if self._tensor is None and self._deferred is not None:
            self._tensor = self._deferred.compute()
        if (late := self._late) is not None:
            self._late = None
            self._write(*late)
        return self._tensor

    @property
    def kept(self) -> Tensor | Deferred | None:
        """The array, deferred if it was set so; None where it is empty."""
        tensor = self._tensor if self._late is None else self.tensor
        return tensor if self._deferred is None else self._deferred

    @property
    def sources(self) -> list[Tensor]:
        """The array, or those that it is to be computed of."""
        if self._deferred is not None:
            return [*self._deferred.of]
        return [] if self.tensor is None else [self.tensor]

    @property
    def value(self) -> Tensor:
        """The array. Raises StateError where it is empty, as it can be where a saved state was
        damaged."""
        tensor = self.tensor
        if tensor is None:
            raise StateError(_EMPTY)
        return tensor

    def set(self, array: Tensor | Deferred | None, *, moderate: bool = False) -> None:
        """Replaces the array by a reference to this one; None for zeros."""
        if isinstance(array, Deferred):
            self._deferred, self._tensor = array, None
        else:
            self._deferred, self._tensor = None, array
        self._own, self._numbers = False, None
        self._fresh = self._late = None
        self.moderate = moderate

    def put(
        self,
        selection: Selection | None,
        values: Tensor | Deferred,
        *,
        taken_next: bool = False,
        late: bool = False,
    ) -> None:
        """Writes values of the shape that `Selection.take` returns; for None it is `set`. Those
        that are ``taken_next`` are not gathered again then, which is as dear as the writing. Those
        that are ``late`` besides are only written when somebody asks for the array, or by the pass
        that takes them: see `late_numbers`."""
        if selection is None:
            self.set(values)
            return
        values = materialized(values)
        if self._late is not None:
            self._write(*self._late)
        self._fresh = (selection, values) if taken_next else None
        self._late, self.moderate = None, False
        if late and taken_next and values.is_cpu and not has_torch_function_unary(values):
            self._late = self._fresh
        else:
            self._write(selection, values)

    def _write(self, selection: Selection, values: Tensor) -> None:
        tensor = self.tensor
        if tensor is None:
            zeros = values.new_zeros(len(values), *selection.shape)
            tensor = by_position(zeros) if selection.whole == "positions" else zeros
            self._replace(tensor)
        elif not self._own:
            tensor = tensor.clone()
            self._replace(tensor)
        selection.put(tensor, values)

    def _replace(self, tensor: Tensor) -> None:
        """Takes an array that is the slot's own."""
        self._tensor, self._own, self._numbers = tensor, True, None
        self._deferred = None

    def take(self, selection: Selection | None) -> Tensor | None:
        """Returns the whole array, or the selected values; None for zeros."""
        if selection is not None:
            fresh, self._fresh = self._fresh, None
            if fresh is not None and fresh[0] is selection:
                return fresh[1]
        tensor = self.tensor
        if selection is None:
            self._own = False  # the caller may keep it, so the next write in place copies
        return tensor if tensor is None or selection is None else selection.take(tensor)

    def some(self, selection: Selection | None) -> Tensor:
        """Returns what `take` does. Raises StateError where `value` does."""
        values = self.take(selection)
        if values is None:
            raise StateError(_EMPTY)
        return values

    def shared(self) -> Tensor | Deferred:
        """Returns `kept` for somebody who keeps it, too. Raises StateError where `value` does."""
        kept = self.kept  # which may write late values into an array of its own
        if kept is None:
            raise StateError(_EMPTY)
        self._own = False  # so the next write in place copies
        return kept

    def compute_again(self) -> None:
        """Has a deferred array computed when it is read next, though it has been read before."""
        if self._deferred is not None and self._late is None:
            self._tensor = self._numbers = None

    # ---- for compiled passes -------------------------------------------------------------------

    def numbers(self) -> Floats | None:
        """Returns the array as numbers (B, size) that share its memory. None where it is empty,
        elsewhere than in the memory of the host, or in another order."""
        if self._numbers is not None and self._late is None:
            return self._numbers
        tensor = self.tensor
        if self._numbers is None and tensor is not None:
            plain = tensor.is_cpu and tensor.is_contiguous() and not tensor.requires_grad
            if plain and tensor.dtype in _FLOATS:
                self._numbers = tensor.numpy().reshape(len(tensor), -1)
        return self._numbers

    def own_numbers(self) -> Floats | None:
        """Returns them for writing in place: the array is the slot's own."""
        self.moderate = False
        if self._own and self._numbers is not None and self._late is None:
            return self._numbers
        if not self._own and self.numbers() is not None:
            self._replace(self.value.clone())
        return self.numbers()

    def put_numbers(self, selection: Selection, values: Floats) -> None:
        """Writes values (B, n) in one pass into an array that has `numbers`."""
        numbers = self.own_numbers()
        assert numbers is not None
        kernels("slots").put(numbers, selection.dyads, values)
        self._fresh = None

    def late_numbers(self, selection: Selection) -> Floats | None:
        """Returns `own_numbers`, for a pass that writes the values of these dyads, if they are
        still to be written; None otherwise. From now on they count as written."""
        late = self._late
        if late is None or late[0] is not selection or self._tensor is None:
            return None
        self._late = None
        if (numbers := self.own_numbers()) is None:
            self._late = late
        return numbers


class Stale(Array):
    """Which dyads' cached potentials are out of date: all, none, or a mask by flat index."""

    __slots__ = ("_cleared", "_marks", "_mask", "shape", "size")

    def __init__(self, shape: Shape) -> None:
        self.shape, self.size = shape, prod(shape)
        self._mask: npt.NDArray[np.bool_] | bool = True
        self._cleared: Selection | None = None  # who is up to date, but not yet in the mask
        self._marks: npt.NDArray[np.bool_] | None = None  # the array that a mask is written in

    @property
    def mask(self) -> npt.NDArray[np.bool_] | bool:
        """The dyads that are out of date."""
        if (cleared := self._cleared) is not None:
            self._cleared = None
            self._writable()[cleared.dyads] = False
        return self._mask

    @mask.setter
    def mask(self, mask: npt.NDArray[np.bool_] | bool) -> None:
        self._mask, self._cleared = mask, None

    def _writable(self) -> npt.NDArray[np.bool_]:
        """Returns the mask as an array."""
        if isinstance(mask := self.mask, bool):
            if self._marks is None:
                self._marks = np.empty(self.size, dtype=bool)
            self._marks.fill(mask)
            self._mask = mask = self._marks
        return mask

    def save(self, copied: Copied) -> Tensor | bool:
        del copied
        mask = self.mask
        return mask if isinstance(mask, bool) else torch.from_numpy(mask.copy())

    def load(self, saved: Tensor | bool, copied: Copied) -> None:
        del copied
        if not isinstance(saved, bool) and (saved.dtype, saved.shape) != (torch.bool, (self.size,)):
            raise ValueError(f"a mask of {self.size} dyads has to be there")
        self.mask = saved if isinstance(saved, bool) else as_array(saved)

    def reset(self) -> None:
        self.touch()

    def touch(self, selection: Selection | None = None) -> None:
        """Marks the selected dyads (None for all) as out of date."""
        if selection is None:
            self.mask = True
        elif self.mask is not True:
            self._writable()[selection.dyads] = True

    def clear(self, selection: Selection | None) -> None:
        """Marks the selected dyads (None for all) as up to date. Where all dyads were out of date
        the mask is only written when somebody asks for it: most often all are again before."""
        if selection is None:
            self.mask = False
        elif self._mask is True and self._cleared is None:
            self._cleared = selection
        elif self._mask is not False:
            self._writable()[selection.dyads] = False

    def look(self, selection: Selection | None) -> bool:
        """Says if any of the selected dyads (None for all) was out of date, and marks them as up to
        date."""
        if self._mask is False:
            return False
        if self._mask is True and self._cleared is None:
            all_of = selection is None or selection.count == self.size
            self.clear(None if all_of else selection)
            return True
        mask = self._writable()
        found = np.count_nonzero(mask if selection is None else mask[selection.dyads])
        self.clear(selection)
        if not np.count_nonzero(mask):
            self.mask = False
        return bool(found)

    def part(
        self, selection: Selection | None, device: torch.device
    ) -> Selection | Literal[False] | None:
        """Returns the part of the selection that is out of date: False for nothing, None for all of
        the population."""
        if self._mask is False:
            return False
        if (mask := self.mask) is True:
            return selection
        assert not isinstance(mask, bool)
        if selection is None:
            stale = np.flatnonzero(mask)
            if len(stale) == self.size:
                return None
            return Selection(self.shape, stale, device) if len(stale) else False
        some = mask[selection.dyads]
        found = np.count_nonzero(some)
        if found == len(some):
            return selection
        return selection.narrow(some) if found else False
