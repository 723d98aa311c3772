"""The neurons of the literal simulation, and what each computes when it wakes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from reference_channel import Channel
from reference_structure import Pathway, Place, Synapse, structure

ACTIVATIONS = {
    "relu": lambda a: a if a > 0.0 else 0.0,
    "identity": lambda a: a,
    "hard_sigmoid": lambda a: 0.0 if a < 0.0 else 1.0 if a > 1.0 else a,
    "tanh": math.tanh,
}


@dataclass
class Afferent:
    """One incoming projection of a neuron: its branches, and what it sees.

    ``since`` says at which tick what is seen was sent.
    """

    pathway: Pathway
    branches: list[list[Synapse]]
    sees: dict[int, float]
    since: dict[int, int]


@dataclass
class Efferent:
    """One target of a neuron in an outgoing projection, and the difference seen from there.

    ``synapses`` are (branch of the target, synapse).
    """

    pathway: Pathway
    target: Neuron
    synapses: list[tuple[int, Synapse]]
    sees: float = 0.0
    since: int = 0


@dataclass(eq=False)
class Neuron:
    place: Place
    index: int
    plus: float = 0.0
    minus: float = 0.0
    bias: float = 0.0
    potential: float = 0.0  # the basal potential at its last wake
    afferents: dict[str, Afferent] = field(default_factory=dict)
    efferents: dict[tuple[str, int], Efferent] = field(default_factory=dict)
    sent: dict[tuple[str, str], float] = field(default_factory=dict)  # (kind, projection)
    sent_at: dict[tuple[str, str], int] = field(default_factory=dict)
    arrives: dict[tuple[str, str, int], int] = field(default_factory=dict)  # fifo: the last one
    wakes: int = 0
    basis: tuple[float, ...] = ()  # what the states were last computed from
    settled: bool = False  # whether that was the same as at the wake before

    @property
    def difference(self) -> float:
        return self.plus - self.minus

    def targets(self, name: str) -> list[Efferent]:
        return [e for (projection, _), e in self.efferents.items() if projection == name]


@dataclass(eq=False)
class Message:
    """To one receiver; to none from a neuron that a convolution leaves out."""

    kind: str
    pathway: Pathway
    sender: Neuron
    receiver: Neuron | None
    value: float
    sent: int
    arrival: int


@dataclass
class Rule:
    variant: str
    alpha: float
    beta: float
    nudge: str

    @property
    def weights(self) -> tuple[float, float]:
        if self.variant == "lagrangian":
            return 1.0 - self.alpha, self.alpha
        return self.alpha, 1.0 - self.alpha

    def mean(self, neuron: Neuron) -> float:
        return self.alpha * neuron.plus + (1.0 - self.alpha) * neuron.minus


def shares(sums: Sequence[float], gain: float) -> list[float]:
    """exp(gain x_i) / Σ exp(gain x)."""
    powers = [math.exp(gain * (x - max(sums))) for x in sums]
    return [power / sum(powers) for power in powers]


class Wired:
    """The neurons of one sample's network, and what each computes. ``sigma`` holds the spectral
    norm of every projection, for `damped`."""

    def __init__(
        self,
        description: Mapping[str, Any],
        parameters: Mapping[str, Any],
        rule: Rule,
        loss: str,
        *,
        sigma: Mapping[str, float] | None = None,
        channels: Mapping[tuple[str, str], Channel] | None = None,
    ) -> None:
        self.rule, self.loss = rule, loss
        self.channels = dict(channels or {})  # by (kind, projection)
        self.places, self.pathways = structure(description)
        self.parameters = {k: np.asarray(v, dtype=np.float64) for k, v in parameters.items()}
        self.neurons = {
            place.name: [Neuron(place, i) for i in range(place.size)]
            for place in self.places.values()
        }
        for pathway in self.pathways:
            self._wire(pathway)
        for neuron in self.dyads:
            if neuron.place.bias:
                values = self.parameters[f"{neuron.place.name}.bias"]
                neuron.bias = float(values[self._bias_key(neuron)])
        self.damping = dict.fromkeys(self.places, 0.0)
        if rule.variant == "damped":
            for pathway in self.pathways:
                assert sigma is not None
                self.damping[pathway.pre] += sigma[pathway.name] ** 2 * abs(1 - 2 * rule.alpha)
        self.in_flight: list[Message] = []
        self.presynaptic = "mean"
        self.target: list[float] | None = None
        self.frozen: list[float] | None = None
        self.tick = self.began = self.nudge_after = self.inference = 0
        # Something hung on round-off: a maximum, or what is sent. What follows depends on the
        # arithmetic.
        self.tie = self.edge = False
        # Of this inference.
        self.counts = {"wakes": 0, "mean": 0, "difference": 0, "synaptic": 0}

    def _wire(self, pathway: Pathway) -> None:
        for post, branches in zip(self.neurons[pathway.post], pathway.branches, strict=True):
            afferent = Afferent(pathway, branches, {}, {})
            post.afferents[pathway.name] = afferent
            for number, branch in enumerate(branches):
                for synapse in branch:
                    weight = 1.0
                    if synapse.key is not None:
                        weight = float(self.parameters[f"{pathway.name}.weight"][synapse.key])
                    synapse.strength = weight * synapse.factor
                    afferent.sees[synapse.pre], afferent.since[synapse.pre] = 0.0, 0
                    pre = self.neurons[pathway.pre][synapse.pre]
                    key = (pathway.name, post.index)
                    if key not in pre.efferents:
                        pre.efferents[key] = Efferent(pathway, post, [])
                    pre.efferents[key].synapses.append((number, synapse))

    def _bias_key(self, neuron: Neuron) -> int:
        shape = neuron.place.shape
        return neuron.index // (shape[1] * shape[2]) if len(shape) == 3 else neuron.index

    # ---- what a neuron computes ----------------------------------------------------------------

    def basal(self, neuron: Neuron) -> float:
        """The basal potential from what the neuron sees."""
        total = neuron.bias
        for afferent in neuron.afferents.values():
            sums = self.sums(afferent, afferent.sees)
            if afferent.pathway.gain is not None:
                parts = zip(shares(sums, afferent.pathway.gain), sums, strict=True)
                total += sum(share * part for share, part in parts)
            else:
                total += sums[self.largest(afferent, sums, afferent.sees)]
        return total

    def sums(self, afferent: Afferent, sees: Mapping[int, float]) -> list[float]:
        """What each branch makes of what is seen."""
        return [sum(s.strength * sees[s.pre] for s in b) for b in afferent.branches]

    def slopes(self, afferent: Afferent, sees: Mapping[int, float]) -> list[float]:
        """By how much the potential grows with the sum of each branch: by all of it for the
        winner, or for ∂/∂x_i of Σ p x / Σ p with p_i = exp(gain x_i)."""
        sums, gain = self.sums(afferent, sees), afferent.pathway.gain
        if gain is None:
            best = self.largest(afferent, sums, sees)
            return [float(number == best) for number in range(len(sums))]
        own = shares(sums, gain)
        pooled = sum(share * x for share, x in zip(own, sums, strict=True))
        return [share * (1.0 + gain * (x - pooled)) for share, x in zip(own, sums, strict=True)]

    def route(self, afferent: Afferent) -> list[float]:
        """How much of a difference goes back to each branch."""
        if not afferent.pathway.by_plus:
            return self.slopes(afferent, afferent.sees)
        sees = {neuron.index: neuron.plus for neuron in self.neurons[afferent.pathway.pre]}
        return self.slopes(afferent, sees)

    def largest(self, afferent: Afferent, sums: Sequence[float], sees: Mapping[int, float]) -> int:
        """The branch with the first of the largest sums."""
        best = 0
        for number, value in enumerate(sums):
            if value > sums[best]:
                best = number
        for number, value in enumerate(sums):
            if number != best and abs(value - sums[best]) <= 1e-9 * max(1.0, abs(value)):
                self._note_tie(afferent, sees, number, best)
        return best

    def routes(self) -> dict[tuple[Neuron, str], list[float]]:
        """Who gets differences now, by neuron and projection that pools by maximum or softmax."""
        return {
            (neuron, name): self.route(afferent)
            for neuron in self.dyads
            for name, afferent in neuron.afferents.items()
            if afferent.pathway.competes
        }

    def rewired(self, before: Mapping[tuple[Neuron, str], list[float]]) -> list[Neuron]:
        """Who sees a difference that goes back another way than before."""
        found = []
        now = self.routes()
        for (neuron, name), earlier in before.items():
            pathway = neuron.afferents[name].pathway
            if pathway.pre != "input" and now[neuron, name] != earlier:
                receivers = self._receivers(neuron, "difference", pathway)
                found += [r for r in receivers if r.efferents[name, neuron.index].sees]
        return found

    def _note_tie(self, afferent: Afferent, sees: Mapping[int, float], *branches: int) -> None:
        """Two branches of zeros tie exactly in any arithmetic, and the first wins."""
        seen = [sees[s.pre] for b in branches for s in afferent.branches[b]]
        self.tie = self.tie or any(value != 0.0 for value in seen)

    def apical(self, neuron: Neuron) -> float:
        total = 0.0
        for (name, _), efferent in neuron.efferents.items():
            if not efferent.sees:
                continue
            slopes = self.route(efferent.target.afferents[name])
            for branch, synapse in efferent.synapses:
                total += slopes[branch] * synapse.strength * efferent.sees
        return total

    def loss_gradient(self, values: Sequence[float]) -> list[float]:
        assert self.target is not None
        if self.loss == "squared_error":
            return [v - y for v, y in zip(values, self.target, strict=True)]
        top = max(values)
        powers = [math.exp(v - top) for v in values]
        scale = sum(self.target) / sum(powers)
        return [p * scale - y for p, y in zip(powers, self.target, strict=True)]

    @property
    def dyads(self) -> list[Neuron]:
        return [n for neurons in self.neurons.values() for n in neurons]

    @property
    def output(self) -> list[Neuron]:
        name = next(place.name for place in self.places.values() if place.role == "output")
        return self.neurons[name]

    @property
    def nudged(self) -> bool:
        return self.target is not None and self.tick - self.began >= self.nudge_after

    def relaxed(self, neuron: Neuron) -> tuple[float, float]:
        """The two states that a neuron takes if it wakes now, at its new ``potential``."""
        a, delta = neuron.potential, self.apical(neuron)
        up, down = self.rule.weights
        beta, D = self.rule.beta, self.damping[neuron.place.name]
        above, below = a + up * delta + D * neuron.plus, a - down * delta + D * neuron.minus
        scale_above = scale_below = 1.0 + D
        if neuron.place.role == "output" and self.nudged:
            if self.rule.nudge == "proximal":
                assert self.target is not None
                y = self.target[neuron.index]
                above, below = above + up * beta * y, below - down * beta * y
                scale_above, scale_below = scale_above + up * beta, scale_below - down * beta
            else:
                gradient = self.frozen
                if self.rule.nudge == "potential":
                    # A softmax needs all outputs: of those that sleep, what they last computed.
                    gradient = self.loss_gradient([n.potential for n in self.output])
                assert gradient is not None
                above -= up * beta * gradient[neuron.index]
                below += down * beta * gradient[neuron.index]
        f = ACTIVATIONS[neuron.place.activation]
        return f(above / scale_above), f(below / scale_below)
