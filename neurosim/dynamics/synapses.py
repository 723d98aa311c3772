"""Synapses: what they remember of what they have seen, and how they are changed."""

from collections.abc import Mapping
from math import exp

import torch
from torch import Tensor
from torch.nn import Parameter

from neurosim.dynamics.link import Link
from neurosim.dynamics.plasticity import Plasticity
from neurosim.dynamics.state import State
from neurosim.tensors import Arrays, Dtypes, check_array


class Synapses(Arrays):
    """Counts the ``updates`` of weights and biases in an inference, and keeps the ``traces`` of
    what projections see, (B, *pre) by name, if the plasticity has any: e' = (s̄ − e) / τ, e(0) = 0.

    ``at`` is the tick up to which they are known. ``tick`` is the simulated time of one.
    """

    plain = ("updates", "at", "traces")
    updates = 0
    at: int
    traces: dict[str, Tensor]

    def __init__(self, state: State, plasticity: Plasticity, tick: float, at: int) -> None:
        self._state, self._plasticity, self._tick, self.at = state, plasticity, tick, at
        self.traces = {}

    def check(self, batch: int, dtypes: Dtypes) -> None:
        shapes = {link.name: (batch, *link.operator.pre) for link in self._state.links}
        for name, trace in self.traces.items():
            check_array(trace, shapes[name], dtypes)

    def advance(self, tick: int, *, woken: bool = True) -> None:
        """Lets time pass up to a ``tick``, through which what is seen has stayed as it is, if it
        may change in it: as somebody has ``woken``, or something arrives."""
        if self._plasticity.trace_time is None or not (woken or self._state.arrives(tick + 1)):
            return
        found = ((link.name, self._trace(link, tick)) for link in self._state.links)
        self.traces |= {name: trace for name, trace in found if trace is not None}
        self.at = tick

    def look(self, tick: int) -> None:
        """Has plasticity see the traces as they are at a ``tick``. They go on from where they were:
        how often somebody looks makes no difference."""
        if self._plasticity.trace_time is not None:
            for link in self._state.links:
                link.trace = self._trace(link, tick)

    def _trace(self, link: Link, tick: int) -> Tensor | None:
        """Returns the trace of what a link sees; None where there is none yet."""
        before, seen = self.traces.get(link.name), link.means[0].value.tensor
        passed, constant = (tick - self.at) * self._tick, self._plasticity.trace_time
        if link.weight is None or not passed or constant is None:
            return before
        if seen is None:
            return None if before is None else before * exp(-passed / constant)
        before = torch.zeros_like(seen) if before is None else before.to(seen.device)
        return before.lerp(seen, 1.0 - exp(-passed / constant))

    def take_step(
        self,
        optimizer: torch.optim.Optimizer,
        moved: Mapping[str, Parameter],
        gradients: Mapping[str, Tensor],
        norm: Tensor | None,
    ) -> None:
        """Hands the ``gradients`` to the optimizer and takes one step, both within the bounds that
        there are. ``norm`` is that of all gradients, where it is bounded."""
        parameters, clip = list(moved.values()), self._plasticity.clip
        optimizer.zero_grad(set_to_none=True)  # what is left there, of frozen ones as well
        for name, parameter in moved.items():
            parameter.grad = gradients[name]
        if clip is not None:
            clip.apply(parameters, norm)
        self.updates += self._plasticity.updates(gradients.values())
        with clip.bounded(parameters) if clip is not None else torch.no_grad():
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
