"""The phases of a rule: where an inference stands in them, and what they have left behind.

A phase is one or more runs of the schedule under one strength of the nudge. It ends, at a tick
boundary, when its last run is over, or before that when the stopping condition holds or an
event-driven network is at rest. What the weights learn is gathered there: each phase adds its share
of the product of post- and presynaptic values. A phase that is `restored` begins as an inference
does: the states, and what was last sent, are those at the end of the first phase, and are seen at
once; nothing is in flight.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from neurosim.base import StateError
from neurosim.channels import Moment
from neurosim.dynamics.plasticity import Gradient, Gradients, Plasticity
from neurosim.dynamics.state import State
from neurosim.rules import Phase, Rule
from neurosim.tensors import Arrays, Dtypes, check_arrays, load_arrays, same, save_arrays

Tree = dict[str, Any]


class Phases(Arrays):
    """Where one inference stands in the phases of its rule, if that has any. Without a target (not
    ``nudged``) there is the first phase only. ``drawn``: see `Rule.phases_of`.

    ``index`` is that of the present phase, ``run`` counts the runs of the schedule within it,
    ``began`` is the tick before the first of this run, ``begins`` that of each phase so far.
    ``settled`` is the state of the output at the end of the first phase.
    """

    plain = ("index", "run", "began", "begins", "settled", "_kept", "_gradients")
    index = run = began = 0
    begins: list[int]
    settled: Tensor | None = None
    _kept: Tree | None = None
    _gradients: dict[str, Tensor]

    def __init__(
        self,
        rule: Rule,
        state: State,
        plasticity: Plasticity,
        nudged: bool,
        tick: int,
        drawn: tuple[int, int],
    ) -> None:
        self._rule, self._state, self._plasticity, self._nudged = rule, state, plasticity, nudged
        self.all = rule.phases_of(*drawn)
        self.began = tick
        self.begins = [tick] if self.all else []
        self._gradients = {}

    @property
    def present(self) -> Phase | None:
        """The present phase, in a rule that has any."""
        return self.all[self.index] if self.all else None

    def repeats(self, early: bool) -> bool:
        """Says if the present phase runs the schedule again after the present run, which ended
        ``early`` (as nothing was left to be done) or not."""
        return bool(self.all) and not early and self.run + 1 < self.all[self.index].runs

    def follows(self, early: bool) -> bool:
        """Says if another run of the schedule follows the present one, in this phase or another."""
        if not self.all:
            return False
        return self.repeats(early) or (self._nudged and self.index + 1 < len(self.all))

    def runs_ahead(self) -> int:
        """Returns how many runs of the schedule are still to come, at most."""
        if not self.all:
            return 0
        last = len(self.all) if self._nudged else self.index + 1
        return sum(p.runs for p in self.all[self.index : last]) - self.run - 1

    def advance(self, tick: int, early: bool, moment: Moment) -> tuple[Phase | None, int]:
        """Goes on to the next run. Returns the phase that begins with it, if any, and the
        weight-gradient operations that the end of the one before took."""
        self.began = tick
        if self.repeats(early):
            self.run += 1
            return None, 0
        ended, operations = self.all[self.index], 0
        if ended.share:
            found, operations, _ = self._learned(ended.share)
            self._gradients = self._added(found)
        restored = [phase.restored for phase in self.all[self.index + 1 :]]
        if self.index == 0:
            self.settled = self._state.output.plus.some(None)
            # Not copied: whoever writes into an array makes a copy of its own first.
            kept = save_arrays(self._state, same, ("phase",)) if any(restored) else None
            self._kept = kept
        self.index, self.run = self.index + 1, 0
        self.begins.append(tick)
        begun = self.all[self.index]
        if begun.restored:
            self._restore(moment)
        if not any(restored[1:]):
            self._kept = None
        self._state.output.stale.touch()
        return begun, operations

    def _restore(self, moment: Moment) -> None:
        """Puts back what was kept, as the start of an inference would show it."""
        state = self._state
        load_arrays(state, self._kept, same, ("phase",))
        for link, line in state.lines:
            # What a line shows is noisy: the potentials of then are not those of now.
            line.show(line.sent.tensor, moment, state.batch)
            link.touch(line.kind)
        state.forget_target()

    def check(self, batch: int, dtypes: Dtypes) -> None:
        state, own = self._state, dict(self._state.model.named_parameters())
        if not 0 <= self.index < max(1, len(self.all)):
            raise StateError(
                f"the saved state is in phase {self.index + 1}, which the rule has not"
            )
        state.check_outputs(dtypes, self.settled)
        if any(gradient.shape != own[name].shape for name, gradient in self._gradients.items()):
            raise ValueError("gradients have to be of the shape of their weights")
        if self._kept is not None:  # it is what the state can be
            present = save_arrays(state, same, ("phase",))
            load_arrays(state, self._kept, same, ("phase",))
            check_arrays(state, batch, dtypes)
            load_arrays(state, present, same, ("phase",))

    # ---- what the weights learn ----------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether the gradient is known, which it is in the last phase."""
        return not self.all or self.index + 1 == len(self.all)

    def gradients(self) -> Gradients:
        """Returns the local gradients as if the last phase ended now, the operations that this
        took, and if all are known to be finite. Raises StateError before the last phase."""
        if not self.all:
            return self._learned()
        if not self.complete:
            names = ", ".join(phase.name for phase in self.all)
            raise StateError(
                f"the weights learn from the phases {names} together, and the inference is still "
                f"in {self.all[self.index].name!r}: give a target, and advance to the last one"
            )
        found, operations, _ = self._learned(self.all[self.index].share)
        return self._added(found), operations, False

    def each_gradient(self, known: Gradients | None = None) -> Iterator[Gradient]:
        """Yields the same, or what is ``known`` of them, those of the output first: as they are
        made, where one phase does so and the plasticity has no `gradients` of its own."""
        if known is None and not self.all and self._plain:
            yield from self._plasticity.each_gradient(self._state, self._rule)
            return
        found, operations, _ = known or self.gradients()
        for name, gradient in reversed(found.items()):
            yield Gradient(name, gradient, operations)
            operations = 0

    @property
    def _plain(self) -> bool:
        return type(self._plasticity).gradients is Plasticity.gradients

    def _learned(self, share: complex = 1.0) -> Gradients:
        given = self._state, self._rule, share
        if self._plain:
            return self._plasticity.learned(*given)
        return *self._plasticity.gradients(*given), False

    def _added(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        known = self._gradients
        return (
            {name: known[name].to(value.device) + value for name, value in found.items()}
            if known
            else found
        )
