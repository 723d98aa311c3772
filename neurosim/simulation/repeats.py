"""Inferences that are repeated: the second of a kind is recorded, and the others replay it.

See `tensors.tape`. It is possible where a schedule says beforehand who wakes when, channels are
ideal, and nobody looks at states in between. Results are the same bits, states and counts included.
An inference that turns out to decide otherwise is run as any other, from its start.
"""

from typing import Any

import torch
from torch import Tensor

from neurosim.simulation.common import Common
from neurosim.simulation.inference import Inference
from neurosim.tensors import Array, Slot, Tape, load_arrays, plain, same, save_arrays

_KINDS = 4  # that are kept: of whole batches and of what remains, with and without a target
_MISSES = 3  # in succession, after which a tape is given up

Learned = tuple[dict[str, Tensor], int]


class Recording:
    """An inference on tape, and what is learned of it.

    Weights count as they are when it is replayed, but must be the same tensors.
    """

    def __init__(self, common: Common, inference: Inference, given: list[Tensor]) -> None:
        self._common, self._parts = common, _parts(common)
        self.misses = 0
        self._sources = [*common.model.parameters(), *common.model.buffers()]
        self._sources += [part for part in self._parts if isinstance(part, Tensor)]
        self._tape, self._learning = Tape(given, self._sources), Tape(())
        with self._tape:
            inference.begin(given[0], carried=False)
            inference.advance(None, lambda: False)
        self._clock = inference.clock  # that of its last run
        arrays = [array.save(same) for array in common.state.passing]
        left = arrays, save_arrays(_passing(inference), same)
        self._tape.close(left)
        self._leave(inference, plain(left))

    @property
    def holds(self) -> bool:
        """Whether it can be replayed."""
        return not self._tape.problem and self.misses < _MISSES

    @property
    def fits(self) -> bool:
        """Whether it is of the present parts of the simulation."""
        return all(a is b for a, b in zip(self._parts, _parts(self._common), strict=True))

    def replay(self, inference: Inference, given: list[Tensor]) -> bool:
        """Runs an inference from its start to its end; returns if that is what it comes to."""
        left = self._tape.replay(given)
        if left is None:
            self.misses += 1
            return False
        self.misses, inference.clock = 0, self._clock
        self._leave(inference, left)
        return True

    def _leave(self, inference: Inference, left: Any) -> None:
        """Has states and inference as they are at its end."""
        self._left = left[0]
        for array, value in zip(self._common.state.passing, self._left, strict=True):
            array.load(value, same)
        load_arrays(_passing(inference), left[1], same)
        inference.learned = self.learned

    def learned(self, inference: Inference) -> Learned:
        """Returns what `Phases.gradients` does; on tape, where states are as they were left."""
        arrays, tape = self._common.state.passing, self._learning
        if inference.phases.all or not all(map(_holds, arrays, self._left)) or tape.problem:
            return inference.phases.gradients()
        given = list({id(v): v for v in self._left if isinstance(v, Tensor)}.values())
        found: Learned | None = tape.replay(given) if tape.closed else None
        if found is None:
            tape = self._learning = Tape(given, self._sources)
            with tape:
                found = inference.phases.gradients()
            tape.close(found)
        return found


class Repeats:
    """The inferences of a simulation that are repeated, by what those of a kind have in common."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._kinds: dict[Any, Recording | None] = {}  # None where there has been one so far

    @torch.no_grad()
    def run(self, inference: Inference, x: Tensor) -> bool:
        """Runs an inference of input x from its start to its end. Returns False where that is not
        possible in this way, and nothing has happened."""
        common, target = self._common, inference.nudge.target
        if not self._may(inference) or target is x:
            return False
        given = [x] if target is None else [x, target]
        alike = tuple((t.shape, t.dtype, t.stride()) for t in given)
        kind = alike, inference.phases.all, common.caching
        if kind not in self._kinds:
            if len(self._kinds) < _KINDS:
                self._kinds[kind] = None
            return False
        common.state.mark_weights_seen()
        known = self._kinds[kind]
        if known is None or not known.fits:
            self._kinds[kind] = Recording(common, inference, given)
            return True
        return known.holds and known.replay(inference, given)

    def _may(self, inference: Inference) -> bool:
        """Whether all but values follows from the schedule, and nobody looks at states."""
        common = self._common
        looks = common.stop is not None or common.sink is not None
        looks = looks or (inference.recording and bool(common.probes))
        waits = (
            common.state.crosses
            or bool(common.state.lines)
            or inference.clock.listens
            or bool(inference.clock.wants)
        )
        may = common.schedule.repeats and common.init != "carry"
        may = may and common.plasticity.trace_time is None  # it goes by every tick
        return may and not (looks or waits or inference.optimizer)


def _passing(inference: Inference) -> dict[str, Any]:
    """Returns what of an inference changes as it runs."""
    own = inference.arrays()
    names = ("tick", "running", "stopped", "prediction", "phases", "counts")
    return {name: own[name] for name in names} | {"nudge": inference.nudge}


def _parts(common: Common) -> list[Any]:
    """Returns what must be the same objects for a tape to hold."""
    weights = [w for link in common.state.links for w in (link.weight, link.feedback, link.bias)]
    parts = common.rule, common.loss, common.schedule, common.plasticity, common.compute
    return [*weights, *parts, common.nudge_after, common.state]


def _holds(array: Array, value: Any) -> bool:
    """Whether an array has this value; tensors must be the same ones."""
    if type(array) is Slot:
        return array.tensor is value
    found = array.save(same)
    if isinstance(found, Tensor) and isinstance(value, Tensor):
        return torch.equal(found, value)
    return type(found) is type(value) and bool(found == value)
