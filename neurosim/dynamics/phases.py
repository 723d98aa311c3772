"""The phases of a rule: where an inference stands in them, and what they have left behind.

A phase is one or more runs of the schedule under one strength of the nudge. It ends, at a tick
boundary, when its last run is over, or before that when the stopping condition holds or an
event-driven network is at rest. What the weights learn is gathered there: each phase adds its share
of the product of post- and presynaptic values. A phase that is `restored` begins as an inference
does: the states, and what was last sent, are those at the end of the first phase, and are seen at
once; nothing is in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neurosim.base import StateError
from neurosim.channels import Moment
from neurosim.dynamics.cells import output_potential
from neurosim.dynamics.plasticity import contrastive_hebbian
from neurosim.dynamics.state import State
from neurosim.rules import Nudge, Phase, Rule

Tree = dict[str, Any]


class Phases:
    """One object per simulation. A rule without phases has none here either: its one is never
    switched."""

    def __init__(self, rule: Rule, state: State, nudge: Nudge) -> None:
        self._rule, self._state, self._nudge = rule, state, nudge
        self.all = rule.phases
        self.index = self.run = 0  # of the present phase, and of the schedule within it
        self.began = 0  # the tick before the first of this run
        self.begins: list[int] = []  # the same of each phase so far
        self.free_prediction: Tensor | None = None  # the output at the end of the first phase
        self._kept: Tree | None = None
        self._gradients: dict[str, Tensor] = {}

    def begin(self, tick: int) -> None:
        """An inference begins, in the first phase."""
        self.index = self.run = 0
        self.began, self.begins = tick, []
        self.free_prediction = self._kept = None
        self._gradients = {}
        if self.all:
            self._enter()

    def _enter(self) -> Phase:
        phase, nudge = self.all[self.index], self._nudge
        self.begins.append(self.began)
        nudge.strength = phase.strength
        nudge.active = nudge.target is not None and phase.strength != 0
        return phase

    @property
    def name(self) -> str | None:
        """The name of the present phase."""
        return self.all[self.index].name if self.all else None

    def follows(self, early: bool) -> bool:
        """Whether another run of the schedule follows the present one, which ended ``early`` (as
        nothing was left to be done) or not. Without a target there is the first phase only."""
        if not self.all:
            return False
        again = not early and self.run + 1 < self.all[self.index].runs
        return again or (self._nudge.target is not None and self.index + 1 < len(self.all))

    def runs_ahead(self) -> int:
        """How many runs of the schedule are still to come, at most."""
        if not self.all:
            return 0
        last = len(self.all) if self._nudge.target is not None else self.index + 1
        return sum(p.runs for p in self.all[self.index : last]) - self.run - 1

    def advance(self, tick: int, early: bool, moment: Moment) -> tuple[Phase | None, int]:
        """Goes on to the next run. The phase that begins with it, if any, and the weight-gradient
        operations that the end of the one before took."""
        self.began = tick
        if not early and self.run + 1 < self.all[self.index].runs:
            self.run += 1
            return None, 0
        ended, operations = self.all[self.index], 0
        if ended.share:
            found, operations = contrastive_hebbian(self._state, self._rule, ended.share)
            self._gradients = self._added(found)
        restored = [phase.restored for phase in self.all[self.index + 1 :]]
        if self.index == 0:
            self.free_prediction = output_potential(self._state.output)
            self._kept = keep(self._state) if any(restored) else None
        self.index, self.run = self.index + 1, 0
        begun = self._enter()
        if begun.restored:
            assert self._kept is not None
            restore(self._state, self._kept, moment)
            self._state.forget_target()
        if not any(restored[1:]):
            self._kept = None
        self._state.output.stale.touch()
        return begun, operations

    # ---- what the weights learn ----------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether the gradient is known: in the last phase."""
        return not self.all or self.index + 1 == len(self.all)

    def gradients(self) -> tuple[dict[str, Tensor], int]:
        """The local gradients as if the last phase ended now, and the operations this takes."""
        if not self.all:
            return contrastive_hebbian(self._state, self._rule)
        if not self.complete:
            names = ", ".join(phase.name for phase in self.all)
            raise StateError(
                f"the weights learn from the phases {names} together, and the inference is still "
                f"in {self.name!r}: give a target, and advance to the last one"
            )
        found, operations = contrastive_hebbian(self._state, self._rule, self.all[self.index].share)
        return self._added(found), operations

    def _added(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        known = self._gradients
        return {name: known[name] + value for name, value in found.items()} if known else found

    # ---- as data -------------------------------------------------------------------------------

    def state_dict(self) -> Tree:
        """Everything, in copies."""
        return {
            "index": self.index,
            "run": self.run,
            "began": self.began,
            "begins": list(self.begins),
            "free_prediction": _mapped(self.free_prediction, torch.clone),
            "kept": _mapped(self._kept, torch.clone),
            "gradients": _mapped(self._gradients, torch.clone),
        }

    def load_state_dict(self, state: Tree) -> None:
        """Restores what `state_dict` returned. Raises StateError where it is of other phases."""
        self.index, self.run = int(state["index"]), int(state["run"])
        if self.index >= max(1, len(self.all)):
            raise StateError(
                f"the saved state is in phase {self.index + 1}, which the rule has not"
            )
        self.began, self.begins = int(state["began"]), [int(tick) for tick in state["begins"]]
        self._nudge.strength = self.all[self.index].strength if self.all else 0.0

        def there(tensor: Tensor) -> Tensor:
            return tensor.clone().to(self._state.device)

        self.free_prediction = _mapped(state["free_prediction"], there)
        self._kept = _mapped(state["kept"], there)
        self._gradients = _mapped(state["gradients"], there)


def keep(state: State) -> Tree:
    """What a restored phase begins with. The arrays are not copied: whoever writes into one makes
    a copy of its own first."""
    cells = {
        cell.name: {
            "plus": cell.plus.take(None),
            "minus": cell.minus.take(None),
            "sent": [o.sent.take(None) for o in (*cell.mean_outlets, *cell.difference_outlets)],
            "stale": cell.stale.state(),
        }
        for cell in state.cells
    }
    links = {
        link.name: {
            "basal": link.basal.take(None),
            "apical": link.apical.take(None),
            "winners": link.winners.take(None),
            "unwired": link.unwired.state(),
            "basal_stale": link.basal_stale.state(),
            "apical_stale": link.apical_stale.state(),
        }
        for link in state.links
    }
    return {"cells": cells, "links": links}


def restore(state: State, kept: Tree, moment: Moment) -> None:
    """Puts back what `keep` took, as the start of an inference would show it."""
    for cell in state.cells:
        known = kept["cells"][cell.name]
        cell.plus.set(known["plus"])
        cell.minus.set(known["minus"])
        cell.stale.load(known["stale"])
        outlets = (*cell.mean_outlets, *cell.difference_outlets)
        for outlet, sent in zip(outlets, known["sent"], strict=True):
            outlet.sent.set(sent)
            outlet.last_tick = outlet.last_count = 0
    for link in state.links:
        known = kept["links"][link.name]
        for name in ("basal", "apical", "winners"):
            getattr(link, name).set(known[name])
        for name in ("unwired", "basal_stale", "apical_stale"):
            getattr(link, name).load(known[name])
    for link, line in state.lines:
        # What a line shows is noisy: the potentials of then are not those of now.
        sender = link.pre if line.kind == "mean" else link.post
        line.show(line.sent.tensor, moment, (state.batch, *sender.population.shape))
        (link.basal_stale if line.kind == "mean" else link.apical_stale).touch()


def _mapped(node: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A tree of dicts and lists with every tensor in it changed."""
    if isinstance(node, Tensor):
        return change(node)
    if isinstance(node, dict):
        return {key: _mapped(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_mapped(value, change) for value in node]
    return node
