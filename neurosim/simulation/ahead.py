"""Inferences that run ahead of what a device says.

In each tick the host asks if anything has been sent, and a device that is asked has to be waited
for. As a rule the answer is yes, as populations are large and batches too, or it is the same in
every inference. So an inference goes on as if it were, and all answers are read at its end, in one
wait. Where one was another after all, the inference runs again from its start, with the answers
that are known by then: results are the same bits, counts included. (Time Warp does so with
messages: D. R. Jefferson, ACM TOPLAS 7, 1985.)
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from neurosim.schedules import Clock
from neurosim.simulation.common import Common
from neurosim.simulation.inference import Inference
from neurosim.simulation.left import Left
from neurosim.tensors import Guesses, Told, read, resolved

_TICKS = 1000  # after which each asks: to run more of them again would take too long
_AGAIN = 2  # times that an inference runs again before each tick asks
_BEFORE = 2  # inferences by which is guessed
_KINDS = 4  # that are kept: of whole batches and of what remains, with and without a target
_PAUSE = 63  # inferences, at most, in which nothing is guessed as that was wrong before


def is_foreseen(common: Common, inference: Inference) -> bool:
    """Says if all of an inference but values follows from its start, and nobody looks at states
    before its end."""
    state, clock = common.state, inference.clock
    looks = common.stop is not None or common.sink is not None
    looks = looks or (inference.recording and bool(common.probes))
    waits = state.crosses or not all(line.repeats for _, line in state.lines)
    waits = waits or clock.listens or bool(clock.wants)
    # Traces go by every tick.
    learns = inference.optimizer is not None or common.plasticity.trace_time is not None
    return common.init != "carry" and not (looks or waits or learns)


@dataclass
class _Kind:
    """Inferences of one kind: the answers in the last of them, and in how many nothing is guessed,
    as that was wrong before."""

    before: deque[Told] = field(default_factory=lambda: deque(maxlen=_BEFORE))
    pause: int = 0
    paused: int = 0

    def note(self, guesses: Guesses) -> None:
        """Takes note of what was guessed, and leaves it alone for longer if that was wrong."""
        self.before.append(guesses.told)
        if guesses.told_before:
            self.pause = min(2 * self.pause + 1, _PAUSE)
            self.paused = self.pause
        elif guesses.chances:
            self.pause = 0


class Ahead:
    """Runs the inferences of a simulation on a device."""

    def __init__(self, common: Common) -> None:
        self._common = common
        self._kinds: dict[Any, _Kind] = {}

    def run(self, inference: Inference, x: Tensor) -> bool:
        """Runs an inference of input x from its start to its end. Returns False where that is not
        possible, and nothing has happened."""
        common, device = self._common, self._common.state.device
        if device is None or device.type == "cpu" or not is_foreseen(common, inference):
            return False
        kind = self._kind(x.shape, inference.nudge.target is None)
        paused = kind.paused > 0
        kind.paused -= paused
        clock, drawn = inference.clock.again(), common.random.bit_generator.state
        guesses = Guesses([], 0 if paused else _AGAIN, kind.before)
        inference = self._begun(inference, x, guesses)
        while not guesses.right():
            guesses = Guesses(guesses.told, guesses.chances - 1, kind.before)
            common.random.bit_generator.state = drawn
            inference = self._begun(self._anew(inference, clock.again()), x, guesses)
        kind.note(guesses)
        left = Left(common.state.passing, inference)
        left.write(inference, resolved(left.saved(inference), guesses.answer))
        inference.ask(read)
        inference.advance(None, lambda: False)
        return True

    def _kind(self, *alike: object) -> _Kind:
        """Returns what is known of inferences of this kind, of which few are kept."""
        if alike not in self._kinds and len(self._kinds) == _KINDS:
            self._kinds.clear()
        return self._kinds.setdefault(alike, _Kind())

    @staticmethod
    def _begun(inference: Inference, x: Tensor, guesses: Guesses) -> Inference:
        inference.ask(guesses)
        inference.begin(x, carried=False)
        inference.advance(_TICKS, lambda: False)
        return inference

    def _anew(self, inference: Inference, clock: Clock) -> Inference:
        """Returns the same inference before its start, in the place of that one."""
        common, target = self._common, inference.nudge.target
        how: Any = {"number": inference.number, "tick": inference.began}
        how |= {"record": inference.recording, "moderate": inference.moderate}
        made = Inference(common, clock, target, **how)
        common.take_up(made)
        return made
