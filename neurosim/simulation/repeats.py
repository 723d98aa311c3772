"""Inferences that are repeated: the second of a kind is recorded, and the others replay it.

See `tensors.tape`. It is possible where a schedule says beforehand who wakes when, and channels how
late messages are, and nobody looks at states in between. Results are the same bits, states and
counts included. An inference that turns out to decide otherwise is run as any other, from its
start.
"""

import time
from operator import is_
from typing import Any

from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.dynamics import Gradients
from neurosim.schedules import Clock
from neurosim.simulation.ahead import Ahead, is_foreseen
from neurosim.simulation.common import Common, new_clock
from neurosim.simulation.inference import Inference
from neurosim.simulation.left import Left
from neurosim.tensors import GRAPHS, Tape, plain

_KINDS = 4  # that are kept: of whole batches and of what remains, with and without a target
_LOST = 9  # in replays, after which a tape is given up: one that is for nothing loses as much as
_MISS = 3  # so many others gain
_SAVED = 1e-5  # seconds that a call takes less in a replay, about
_LEAST = 0.02  # of an inference that is to be saved, or it is not worth what may be lost
BRIEF = 1.0  # seconds in which an inference need not be interrupted


class Recording:
    """An inference on tape, and what is learned of it.

    Weights count as they are when it is replayed, but must be the same tensors.
    """

    def __init__(self, common: Common, inference: Inference, given: list[Tensor]) -> None:
        self._common, self._parts = common, _parts(common)
        self.lost, self._judged = 0, False
        self._sources = [*common.model.parameters(), *common.model.buffers()]
        self._sources += [part for part in self._parts if isinstance(part, Tensor)]
        graphs = common.compute != "dense"
        self._tape, self._learning = Tape(given, self._sources, graphs=graphs), Tape(())
        with self._tape:
            inference.begin(given[0], carried=False)
            inference.advance(None, lambda: self._tape.problem is not None)
        if not inference.done:  # to record the rest is for nothing
            inference.advance(None, lambda: False)
        self._clock = inference.clock  # that of its last run
        self._left = Left(common.state.passing, inference)
        left = self._left.saved(inference)
        self._tape.close(left)
        self._leave(inference, plain(left))
        self._forget_if_lost()

    def _forget_if_lost(self) -> None:
        """Lets go of what is on tape, and left, where nobody will need it again."""
        if not self.holds:
            self._tape.clear()
            self._left.forget()

    @property
    def holds(self) -> bool:
        """Whether it can be replayed."""
        return not self._tape.problem and self.lost < _LOST

    @property
    def fits(self) -> bool:
        """Whether it is of the present parts of the simulation."""
        return all(map(is_, self._parts, _parts(self._common)))

    def replay(self, inference: Inference, given: list[Tensor]) -> bool:
        """Runs an inference from its start to its end; returns if that is what it comes to."""
        began = time.thread_time()  # what else the machine does must not count
        left = self._tape.replay(given, (inference.number, self._common.sample))
        took = time.thread_time() - began
        if left is None:
            self.lost += _MISS
            self._forget_if_lost()
            return False
        self.lost, inference.clock = max(0, self.lost - 1), self._clock
        self._leave(inference, left)
        self._judge(took)
        return True

    def _judge(self, took: float) -> None:
        """Gives up, after its first replay, a tape that saves next to nothing of what that took.

        The recording itself would not tell: libraries still make what they use later.
        """
        pays = self._tape.calls * _SAVED >= _LEAST * took
        if not self._judged and not pays and self._common.compute != "graph":
            self._tape.problem = "arithmetic takes nearly all of the time"
            self._forget_if_lost()
        self._judged = True

    def _leave(self, inference: Inference, left: Any) -> None:
        """Has states and inference as they are at its end."""
        self._left.write(inference, left)
        inference.learned = self.learned

    def learned(self, inference: Inference) -> Gradients:
        """Returns what `Phases.gradients` does; on tape, where states are as they were left."""
        tape, repeats = self._learning, self._common.plasticity.repeats
        if not repeats or inference.phases.all or not self._left.holds or tape.problem:
            return inference.phases.gradients()
        given = self._left.given
        found: Gradients | None = tape.replay(given) if tape.closed else None
        if found is None:
            graphs = self._common.compute != "dense"
            tape = self._learning = Tape(given, self._sources, graphs=graphs)
            self._common.state.forget_made()
            self._left.compute_again()
            with tape:
                found = inference.phases.gradients()
            tape.close(found)
        return found


class Repeats:
    """The inferences of a simulation that are repeated, by what those of a kind have in common."""

    def __init__(self, common: Common) -> None:
        check_capture(common)
        self._common, self._ahead = common, Ahead(common)
        self._kinds: dict[Any, Recording | None] = {}  # None where there has been one so far
        self._clock: tuple[list[Any], Clock] | None = None  # the last, as it was made of these

    def clock(self, tick: int, previous: Clock | None, *, nudged: bool) -> Clock:
        """Returns `new_clock`, which is a copy of the last where it would be the same."""
        common, known = self._common, self._clock
        made_of = [common.schedule, common.plasticity, common.init, common.nudge_after, nudged]
        if known and all(map(is_, known[0], made_of)):
            return known[1].again()
        clock = new_clock(common, tick, common.random, previous, nudged=nudged)
        same_again = common.schedule.repeats and common.init != "carry"
        self._clock = (made_of, clock.again()) if same_again else None
        return clock

    def run(self, inference: Inference, x: Tensor) -> bool:
        """Runs an inference of input x from its start to its end: on tape, or ahead of a device.
        Returns False where neither is possible, and nothing has happened."""
        return self._replay(inference, x) or self._ahead.run(inference, x)

    def _replay(self, inference: Inference, x: Tensor) -> bool:
        common, target = self._common, inference.nudge.target
        if not self._may(inference) or target is x:
            return False
        given = [x] if target is None else [x, target]
        alike = tuple((t.shape, t.dtype, t.stride()) for t in given)
        kind = alike, inference.phases.all, common.caching, inference.moderate
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
        return self._common.schedule.repeats and is_foreseen(self._common, inference)


def check_capture(common: Common) -> None:
    """Raises ConfigurationError for a simulation that has to capture inferences, and cannot."""
    if common.compute != "graph":
        return
    device = getattr(common.state.device, "type", "")
    graphs = device in GRAPHS or device == "meta"  # where it will run is seen when it does
    lines = [(f"{link.name!r} ({line.kind})", line) for link, line in common.state.lines]
    late = next((name for name, line in lines if not line.planned), "")
    changed = next((name for name, line in lines if line.changes), "")
    within = common.learns_within or common.plasticity.trace_time is not None
    problems = (
        (not device, "populations are on several devices"),
        (not graphs, f"the device {device} has no graphs, as those of cuda have"),
        (not common.schedule.repeats, f"{common.schedule.kind} wakes other units every time"),
        (common.init == "carry", "with init 'carry' no inference starts as the last did"),
        (within, "weights or traces change within an inference"),
        (common.stop is not None, "stop may end an inference at any tick"),
        (late, f"messages of {late} are each late by their own time"),
        (changed, f"messages of {changed} are changed or lost on their way"),
    )
    for applies, why in problems:
        if applies:
            said = f"compute is 'graph', but {why}; use 'auto', which captures what can be"
            raise ConfigurationError(said, "compute")


def _parts(common: Common) -> list[Any]:
    """Returns what must be the same objects for a tape to hold."""
    weights = [w for link in common.state.links for w in (link.weight, link.feedback, link.bias)]
    parts = common.rule, common.loss, common.schedule, common.plasticity, common.compute
    return [*weights, *parts, common.init, common.nudge_after, common.state]
