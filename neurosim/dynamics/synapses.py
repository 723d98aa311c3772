"""Synapses: what they remember of what they have seen, and how they are changed."""

from collections.abc import Mapping
from math import exp

import torch
from torch import Tensor
from torch.nn import Parameter

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

    def advance(self, tick: int) -> None:
        """Lets time pass up to a ``tick``, through which what is seen has stayed as it is."""
        constant, passed = self._plasticity.trace_time, tick - self.at
        if constant is None:
            return
        self.at, share = tick, 1.0 - exp(-passed * self._tick / constant)
        for link in self._state.links:
            seen = link.means[0].value.tensor
            if link.weight is None:
                continue
            if passed and (link.name in self.traces or seen is not None):
                like = self.traces[link.name] if seen is None else seen
                before = self.traces.get(link.name, torch.zeros_like(like))
                now = torch.zeros_like(like) if seen is None else seen
                self.traces[link.name] = before.to(now.device).lerp(now, share)
            link.trace = self.traces.get(link.name)

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
