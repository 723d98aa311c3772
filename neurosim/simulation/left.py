"""What an inference leaves in the arrays of a state, and in itself."""

from typing import Any

import numpy as np
from torch import Tensor

from neurosim.simulation.inference import Inference
from neurosim.tensors import Array, Arrays, Deferred, Plain, Slot, Stale, same


class Left:
    """What an inference leaves in the ``arrays`` of a state, and in itself, to be written there
    again. Most of it is the same numbers every time, which are written at once."""

    def __init__(self, arrays: list[Array], inference: Inference) -> None:
        self._slots = [array for array in arrays if type(array) is Slot]
        self._marks = [array for array in arrays if type(array) is Stale]
        self._masks = [np.copy(a.mask) if np.ndim(a.mask) else a.mask for a in self._marks]
        self.arrays: list[Tensor | Deferred | None] = []
        self._moderate: list[bool] = []
        others = [array for array in arrays if type(array) not in (Slot, Stale)]
        self._others = [a for a in others if not isinstance(a, Plain) or not a.is_number]
        numbers: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        for array in others:
            if isinstance(array, Plain) and array.is_number:
                own = vars(array.owner)
                numbers.setdefault(id(own), (own, {}))[1][array.name] = array.save(same)
        self._numbers = list(numbers.values())

    def saved(self, inference: Inference) -> Any:
        """Returns it, as tensors and numbers."""
        own = [{name: getattr(part, name) for name in names} for part, names in _own(inference)]
        kept = [None if slot.kept is None else slot.shared() for slot in self._slots]
        slots = [tuple(one) if isinstance(one, Deferred) else one for one in kept]
        self._moderate = [slot.moderate for slot in self._slots]
        return slots, [array.save(same) for array in self._others], own

    def write(self, inference: Inference, left: Any) -> None:
        """Writes what `saved` has returned."""
        slots, others, own = left
        self.arrays = [Deferred(*one) if isinstance(one, tuple) else one for one in slots]
        for slot, kept, known in zip(self._slots, self.arrays, self._moderate, strict=True):
            slot.set(kept, moderate=known)
        for marks, mask in zip(self._marks, self._masks, strict=True):
            marks.mask = mask if isinstance(mask, bool) else mask.copy()
        for attributes, numbers in self._numbers:
            attributes.update(numbers)
        for array, value in zip(self._others, others, strict=True):
            array.load(value, same)
        for (part, _), values in zip(_own(inference), own, strict=True):
            vars(part).update(values)

    def forget(self) -> None:
        """Lets go of what was written: it does not hold any more."""
        self.arrays = []

    @property
    def given(self) -> list[Tensor]:
        """All different tensors of it, whoever has asked for arrays that are deferred."""
        return [*{id(t): t for slot in self._slots for t in slot.sources}.values()]

    def compute_again(self) -> None:
        """Has deferred arrays computed when they are read next: a tape has to see that."""
        for slot in self._slots:
            slot.compute_again()

    @property
    def holds(self) -> bool:
        """Whether the arrays of the state are still as it was written."""
        if not self.arrays:
            return False
        if any(s.kept is not kept for s, kept in zip(self._slots, self.arrays, strict=True)):
            return False
        masks = ((marks.mask, mask) for marks, mask in zip(self._marks, self._masks, strict=True))
        return all(now is then or np.array_equal(now, then) for now, then in masks)


def _own(inference: Inference) -> list[tuple[Arrays, tuple[str, ...]]]:
    """Returns what of an inference changes as it runs."""
    parts = inference.phases, inference.counts, inference.nudge
    names = "tick", "running", "stopped", "prediction"
    return [(inference, names), *((part, part.plain) for part in parts)]
