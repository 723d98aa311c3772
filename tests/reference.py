"""A literal, slow simulation of a network of dyads: one object per neuron, one call per message.

It shares no code with neurosim and nothing is batched: a sample is simulated at a time, a neuron at
a time, a synapse at a time. A neuron knows its two states, what it last sent, and what it has seen:
the mean of every presynaptic and the difference of every postsynaptic neuron. Where it pools by
maximum its difference goes back to the winner among the means that it sees at that moment.

In a tick: deliver what arrives, compute all woken neurons from what they see, write them back,
send. Every message to every receiver is an object with its own value and arrival; what these are is
said in `reference_channel.py`. Without channels messages take one tick.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from reference_channel import EDGE, IDEAL, Channel

Index = tuple[int, ...]


# ---- the structure of a network, from the dict that `Network.from_dict` takes --------------------


@dataclass
class Synapse:
    """From the presynaptic neuron ``pre``, of ``strength`` weight[``key``] · ``factor``.

    Without a ``key`` the weight is 1.
    """

    pre: int
    key: Index | None
    factor: float = 1.0
    strength: float = 0.0


@dataclass
class Pathway:
    """A projection: for each postsynaptic neuron its branches, of which one is summed.

    Without max-pooling a neuron has a single branch; with it, one for each position of its window.
    ``fan_out`` counts the synapses of each presynaptic neuron before pooling.
    """

    name: str
    pre: str
    post: str
    op: str
    competes: bool
    branches: list[list[list[Synapse]]]
    fan_out: Counter[int]


@dataclass
class Place:
    """A population."""

    name: str
    shape: tuple[int, ...]
    activation: str
    role: str
    bias: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def flat(index: Index, shape: tuple[int, ...]) -> int:
    place = 0
    for i, n in zip(index, shape, strict=True):
        place = place * n + i
    return place


def made(shape: tuple[int, ...], channels: int, k: Index, s: Index, p: Index) -> tuple[int, ...]:
    height, width = ((n + 2 * p[d] - k[d]) // s[d] + 1 for d, n in enumerate(shape[1:]))
    return channels, height, width


def window(at: Index, shape: tuple[int, ...], k: Index, s: Index, p: Index) -> list[Any]:
    """The positions ((i, j), (ki, kj)) under a kernel at output position ``at``, row by row."""
    found = []
    for ki, kj in product(range(k[0]), range(k[1])):
        i, j = at[0] * s[0] - p[0] + ki, at[1] * s[1] - p[1] + kj
        if 0 <= i < shape[1] and 0 <= j < shape[2]:
            found.append(((i, j), (ki, kj)))
    return found


def pooling(choice: Any) -> dict[str, Any]:
    choice = {"kind": choice} if isinstance(choice, str) else dict(choice)
    kernel = pair(choice.get("kernel", 2))
    stride = pair(choice["stride"]) if choice.get("stride") is not None else kernel
    return {"kind": choice["kind"], "k": kernel, "s": stride, "p": pair(choice.get("padding", 0))}


def conv_sizes(spec: Mapping[str, Any]) -> tuple[Index, Index, Index]:
    k, s = pair(spec.get("kernel", 3)), pair(spec.get("stride", 1))
    padding = spec.get("padding", "same")
    if padding == "same":
        return k, s, (k[0] // 2, k[1] // 2)
    return k, s, (0, 0) if padding == "valid" else pair(padding)


def result_shape(pre: tuple[int, ...], spec: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape that a 'conv' (with ``channels``) or 'pool' makes of ``pre``."""
    shape = pre
    if spec["op"] == "conv":
        shape = made(shape, spec["channels"], *conv_sizes(spec))
    if spec.get("pool") is not None:
        pool = pooling(spec["pool"])
        shape = made(shape, shape[0], pool["k"], pool["s"], pool["p"])
    return shape


def connect(name: str, pre: Place, post: Place, spec: Mapping[str, Any]) -> Pathway:
    """All synapses of a projection, one by one."""
    op, branches, fan_out = spec["op"], [], None
    pool = pooling(spec["pool"]) if spec.get("pool") is not None else None
    if op == "dense":
        for j in range(post.size):
            branches.append([[Synapse(i, (j, i)) for i in range(pre.size)]])
    elif op == "identity":
        branches = [[[Synapse(i, None)]] for i in range(post.size)]
    else:
        # What there is before pooling, as lists of synapses by position.
        if op == "conv":
            k, s, p = conv_sizes(spec)
            channels = post.shape[0]
            middle = made(pre.shape, channels, k, s, p)
        else:
            middle = pre.shape
        sums: dict[Index, list[Synapse]] = {}
        for c, i, j in product(*map(range, middle)):
            if op == "pool":
                sums[c, i, j] = [Synapse(flat((c, i, j), pre.shape), None)]
                continue
            sums[c, i, j] = [
                Synapse(flat((ic, *at), pre.shape), (c, ic, *kernel))
                for ic in range(pre.shape[0])
                for at, kernel in window((i, j), pre.shape, k, s, p)
            ]
        if op == "conv":
            fan_out = Counter(synapse.pre for synapses in sums.values() for synapse in synapses)
        for c, i, j in product(*map(range, post.shape)):
            if pool is None:
                branches.append([sums[c, i, j]])
                continue
            under = window((i, j), middle, pool["k"], pool["s"], pool["p"])
            if pool["kind"] == "max":
                branches.append([sums[(c, *at)] for at, _ in under])
                continue
            share = 1.0 / math.prod(pool["k"])
            together = [
                Synapse(synapse.pre, synapse.key, share)
                for at, _ in under
                for synapse in sums[(c, *at)]
            ]
            branches.append([together])
    competes = pool is not None and pool["kind"] == "max"
    if fan_out is None:
        fan_out = Counter(s.pre for neuron in branches for branch in neuron for s in branch)
    return Pathway(name, pre.name, post.name, op, competes, branches, fan_out)


def structure(description: Mapping[str, Any]) -> tuple[dict[str, Place], list[Pathway]]:
    if "layers" in description:
        return chain_structure(description)
    specs = description["projections"]
    weighted = {s["to"] for s in specs if s.get("op", "dense") in ("dense", "conv")}
    places = {}
    for name, spec in description["populations"].items():
        role = spec.get("role", "hidden")
        shape = spec["shape"]
        activation = spec.get("activation") or ("relu" if role == "hidden" else "identity")
        bias = spec.get("bias")
        bias = (name in weighted and role != "input") if bias is None else bias
        places[name] = Place(
            name, (shape,) if isinstance(shape, int) else tuple(shape), activation, role, bias
        )
    pathways = []
    for spec in specs:
        pre, post = places[spec["from"]], places[spec["to"]]
        name = spec.get("name") or f"{pre.name}->{post.name}"
        pathways.append(connect(name, pre, post, {"op": "dense", **spec}))
    return places, pathways


def chain_structure(description: Mapping[str, Any]) -> tuple[dict[str, Place], list[Pathway]]:
    shape = description["input"]
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    pre = Place("input", shape, "identity", "input", False)
    places, pathways = {"input": pre}, []
    for number, layer in enumerate(description["layers"]):
        last = number == len(description["layers"]) - 1
        spec = dict(layer)
        activation = description.get("activation", "relu")
        if "dense" in layer:
            spec["op"], shape = "dense", (layer["dense"],)
        elif "conv" in layer:
            spec |= {"op": "conv", "channels": layer["conv"]}
            shape = result_shape(pre.shape, spec)
        else:
            spec["op"], activation = "pool", "identity"
            shape = result_shape(pre.shape, spec)
        activation = layer.get("activation") or ("identity" if last else activation)
        bias = layer.get("bias")
        post = Place(
            layer["name"],
            shape,
            activation,
            "output" if last else "hidden",
            spec["op"] != "pool" if bias is None else bias,
        )
        places[post.name] = post
        pathways.append(connect(post.name, pre, post, spec))
        pre = post
    return places, pathways


# ---- neurons -------------------------------------------------------------------------------------


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


class Network:
    """One sample's network. ``sigma`` holds the spectral norm of every projection, for `damped`."""

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
            sums = self.sums(afferent)
            total += sums[self.winner(afferent, sums)]
        return total

    def sums(self, afferent: Afferent) -> list[float]:
        """What each branch makes of what is seen."""
        return [sum(s.strength * afferent.sees[s.pre] for s in b) for b in afferent.branches]

    def winner(self, afferent: Afferent, sums: Sequence[float] | None = None) -> int:
        """The branch that wins: the first of the largest."""
        sums = self.sums(afferent) if sums is None else sums
        best = 0
        for number, value in enumerate(sums):
            if value > sums[best]:
                best = number
        for number, value in enumerate(sums):
            if number != best and abs(value - sums[best]) <= 1e-9 * max(1.0, abs(value)):
                self._note_tie(afferent, number, best)
        return best

    def routes(self) -> dict[tuple[Neuron, str], int]:
        """Who wins now, by neuron and projection that pools by maximum."""
        return {
            (neuron, name): self.winner(afferent)
            for neuron in self.dyads
            for name, afferent in neuron.afferents.items()
            if afferent.pathway.competes
        }

    def rewired(self, before: Mapping[tuple[Neuron, str], int]) -> list[Neuron]:
        """Who sees a difference that goes back to another winner than before."""
        found = []
        now = self.routes()
        for (neuron, name), winner in before.items():
            pathway = neuron.afferents[name].pathway
            if pathway.pre != "input" and now[neuron, name] != winner:
                receivers = self._receivers(neuron, "difference", pathway)
                found += [r for r in receivers if r.efferents[name, neuron.index].sees]
        return found

    def _note_tie(self, afferent: Afferent, *branches: int) -> None:
        """Two branches of zeros tie exactly in any arithmetic, and the first wins."""
        seen = [afferent.sees[s.pre] for b in branches for s in afferent.branches[b]]
        self.tie = self.tie or any(value != 0.0 for value in seen)

    def apical(self, neuron: Neuron) -> float:
        total = 0.0
        for (name, _), efferent in neuron.efferents.items():
            if not efferent.sees:
                continue
            winner = self.winner(efferent.target.afferents[name])
            for branch, synapse in efferent.synapses:
                if branch == winner:
                    total += synapse.strength * efferent.sees
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

    # ---- time ----------------------------------------------------------------------------------

    def start(
        self, x: Any, target: Any | None, *, init: str = "zero", nudge_after: int = 0
    ) -> None:
        """Shows an input of any shape. ``carry`` keeps all but the input and the target."""
        values = [float(v) for v in np.asarray(x).reshape(-1)]
        carried = init == "carry" and self.inference > 0
        self.inference += 1
        if not carried:
            self._clear()
        self.target = None if target is None else [float(v) for v in np.asarray(target).reshape(-1)]
        self.began, self.nudge_after, self.frozen = self.tick, nudge_after, None
        self.counts = dict.fromkeys(self.counts, 0)
        for neuron, value in zip(self.neurons["input"], values, strict=True):
            neuron.plus = neuron.minus = value
            for pathway in self._above(neuron):
                # A carried network is told of a new input; only that it is told at once.
                if not carried or self._is_news(neuron, "mean", pathway, value):
                    self._show(neuron, "mean", pathway, self.rule.mean(neuron))
        if carried:
            return
        for neuron in self.dyads:
            if neuron.place.role != "input":
                self._show_all(neuron)
        if init == "feedforward":
            for name in self._order():
                for neuron in self.neurons[name]:
                    neuron.potential = self.basal(neuron)
                    f = ACTIVATIONS[neuron.place.activation]
                    neuron.plus = neuron.minus = f(neuron.potential)
                    neuron.basis = (neuron.potential, 0.0)
                    self._show_all(neuron)
            if self.target is not None:
                self.frozen = self.loss_gradient([n.plus for n in self.output])

    def _clear(self) -> None:
        self.tick, self.in_flight = 0, []
        for neuron in self.dyads:
            neuron.plus = neuron.minus = neuron.potential = 0.0
            neuron.sent, neuron.sent_at, neuron.arrives = {}, {}, {}
            neuron.wakes, neuron.basis = 0, ()
            for afferent in neuron.afferents.values():
                afferent.since = dict.fromkeys(afferent.since, 0)
            for efferent in neuron.efferents.values():
                efferent.since = 0

    def _order(self) -> list[str]:
        done, order = {"input"}, []
        while len(done) < len(self.places):
            for name in self.places:
                before = {p.pre for p in self.pathways if p.post == name}
                if name not in done and before <= done:
                    done.add(name)
                    order.append(name)
        return order

    def _above(self, neuron: Neuron) -> list[Pathway]:
        return [p for p in self.pathways if p.pre == neuron.place.name]

    def _below(self, neuron: Neuron) -> list[Pathway]:
        """Of those over which it sends its difference: the input is sent nothing."""
        return [a.pathway for a in neuron.afferents.values() if a.pathway.pre != "input"]

    def _show_all(self, neuron: Neuron) -> None:
        for pathway in self._above(neuron):
            self._show(neuron, "mean", pathway, self.rule.mean(neuron))
        for pathway in self._below(neuron):
            self._show(neuron, "difference", pathway, 0.0)

    def _show(self, neuron: Neuron, kind: str, pathway: Pathway, value: float) -> None:
        """An initial view, which is no message: neither late nor lost."""
        name, moment = pathway.name, (self.inference, self.began)
        neuron.sent[kind, name], neuron.sent_at[kind, name] = value, self.began
        value, edge = self.channel(kind, name).changed(value, moment, neuron.index)
        self.edge |= edge
        for receiver in self._receivers(neuron, kind, pathway):
            self._see(Message(kind, pathway, neuron, receiver, value, self.began, self.began))

    def channel(self, kind: str, name: str) -> Channel:
        return self.channels.get((kind, name), IDEAL)

    def _receivers(self, neuron: Neuron, kind: str, pathway: Pathway) -> list[Neuron]:
        if kind == "mean":
            return [efferent.target for efferent in neuron.targets(pathway.name)]
        return [self.neurons[pathway.pre][i] for i in neuron.afferents[pathway.name].sees]

    def _see(self, message: Message) -> bool:
        """Whether it was worth a look."""
        name, sender = message.pathway.name, message.sender.index
        newest = self.channel(message.kind, name).ordering == "newest"
        if message.receiver is None:
            return False
        if message.kind == "mean":
            afferent = message.receiver.afferents[name]
            if newest and message.sent < afferent.since[sender]:
                return False
            afferent.sees[sender], afferent.since[sender] = message.value, message.sent
        else:
            efferent = message.receiver.efferents[name, sender]
            if newest and message.sent < efferent.since:
                return False
            efferent.sees, efferent.since = message.value, message.sent
        return True

    def deliver(self) -> list[Message]:
        """What arrives at the tick to come is seen; of what arrives together, the latest sent."""
        arrived = [m for m in self.in_flight if m.arrival <= self.tick + 1]
        self.in_flight = [m for m in self.in_flight if m.arrival > self.tick + 1]
        return [m for m in sorted(arrived, key=lambda m: m.sent) if self._see(m)]

    def step(self, wakes: Sequence[tuple[str, Sequence[int] | None]]) -> None:
        """One tick in which these neurons wake."""
        self.deliver()
        self.tick += 1
        woken: dict[str, set[int]] = {}
        for name, indices in wakes:
            everyone = range(self.places[name].size)
            woken.setdefault(name, set()).update(everyone if indices is None else indices)
        awake = [self.neurons[name][i] for name, some in woken.items() for i in sorted(some)]
        for neuron in awake:
            neuron.potential = self.basal(neuron)
        new = [self.relaxed(neuron) for neuron in awake]
        for neuron in awake:
            basis = self._basis(neuron)
            neuron.settled, neuron.basis = basis == neuron.basis, basis
            neuron.wakes += 1
        for neuron, (plus, minus) in zip(awake, new, strict=True):
            neuron.plus, neuron.minus = plus, minus
            self.counts["wakes"] += 1
        for neuron in awake:
            self._send(neuron)

    def _basis(self, neuron: Neuron) -> tuple[float, ...]:
        """All that says what a neuron does when it wakes."""
        basis = [neuron.potential, self.apical(neuron)]
        if self.damping[neuron.place.name]:
            basis += [neuron.plus, neuron.minus]
        if neuron.place.role == "output" and self.nudged:
            basis += [self.inference, *(n.potential for n in self.output)]
        return tuple(basis)

    def _send(self, neuron: Neuron) -> None:
        for pathway in self._above(neuron):
            if self._is_news(neuron, "mean", pathway, self.rule.mean(neuron)):
                self._post(neuron, "mean", pathway, self.rule.mean(neuron))
        for pathway in self._below(neuron):
            if self._is_news(neuron, "difference", pathway, neuron.difference):
                self._post(neuron, "difference", pathway, neuron.difference)

    def _is_news(self, neuron: Neuron, kind: str, pathway: Pathway, value: float) -> bool:
        channel, name = self.channel(kind, pathway.name), pathway.name
        change = abs(value - neuron.sent.get((kind, name), 0.0))
        refreshed = neuron.place.role != "input" and channel.refresh is not None
        if not (refreshed and neuron.wakes % channel.refresh == 0):
            if abs(change - channel.threshold) <= EDGE:
                # Without a change nothing hangs on round-off where the value is the same in any
                # arithmetic: nothing new was computed, or the activation function clips.
                same = neuron.settled or neuron.place.role == "input" or value in (0.0, 1.0)
                self.edge |= change > 0.0 or not same
            if change <= channel.threshold:
                return False
        neuron.sent[kind, name], neuron.sent_at[kind, name] = value, self.tick
        self.counts[kind] += 1
        if kind == "mean":
            self.counts["synaptic"] += pathway.fan_out[neuron.index]
        else:
            self.counts["synaptic"] += sum(len(b) for b in neuron.afferents[name].branches)
        return True

    def _post(self, neuron: Neuron, kind: str, pathway: Pathway, value: float) -> None:
        """A message to each receiver, on its way from now on unless it is lost."""
        channel, moment = self.channel(kind, pathway.name), (self.inference, self.tick)
        value, edge = channel.changed(value, moment, neuron.index)
        self.edge |= edge
        if channel.loses(moment, neuron.index):
            return
        for receiver in self._receivers(neuron, kind, pathway) or [None]:
            other = -1 if receiver is None else receiver.index
            pre, post = (neuron.index, other) if kind == "mean" else (other, neuron.index)
            arrival = self.tick + channel.ticks(moment, neuron.index, pre, post)
            if channel.ordering == "fifo":
                key = (kind, pathway.name, other)
                arrival = neuron.arrives[key] = max(arrival, neuron.arrives.get(key, 0))
            message = Message(kind, pathway, neuron, receiver, value, self.tick, arrival)
            self.in_flight.append(message)

    def replay(
        self,
        wakes: Sequence[tuple[float, str, Sequence[int] | None]],
        tick: float = 1.0,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        """Wakes in ((n−1)·tick, n·tick] happen at tick n; ends with a closing delivery.

        ``watch`` is called after every tick.
        """
        ticks = [math.ceil(time / tick - EDGE) for time, _, _ in wakes]
        for number in range(1, max(ticks) + 1):
            now = [(p, i) for at, (_, p, i) in zip(ticks, wakes, strict=True) if at == number]
            self.step(now)
            watch()
        self.deliver()

    # ---- what comes of it ----------------------------------------------------------------------

    def afferents(self, name: str) -> list[Afferent]:
        """Of all neurons of the population at the end of the projection of that name."""
        pathway = next(p for p in self.pathways if p.name == name)
        return [neuron.afferents[name] for neuron in self.neurons[pathway.post]]

    def states(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        place, neurons = self.places[name], self.neurons[name]
        plus = np.array([n.plus for n in neurons]).reshape(place.shape)
        return plus, np.array([n.minus for n in neurons]).reshape(place.shape)

    def gradients(self) -> dict[str, np.ndarray]:
        """−(1/β) (s⁺ − s⁻) s̄ᵀ of this sample, with s̄ as the postsynaptic neuron sees it."""
        found = {key: np.zeros_like(value) for key, value in self.parameters.items()}
        for pathway in self.pathways:
            for neuron in self.neurons[pathway.post]:
                afferent = neuron.afferents[pathway.name]
                if neuron.difference == 0.0:
                    continue
                for synapse in afferent.branches[self.winner(afferent)]:
                    if synapse.key is not None:
                        seen = afferent.sees[synapse.pre] * synapse.factor
                        found[f"{pathway.name}.weight"][synapse.key] -= (
                            neuron.difference * seen / self.rule.beta
                        )
        for neuron in self.dyads:
            if neuron.place.bias:
                bias = found[f"{neuron.place.name}.bias"]
                bias[self._bias_key(neuron)] -= neuron.difference / self.rule.beta
        return found

    def waiting(self) -> dict[tuple[str, str], int]:
        """Messages by kind and projection that have not reached the last of their receivers."""
        found: dict[tuple[str, str], set[tuple[int, int]]] = {}
        for message in self.in_flight:
            if message.arrival > self.tick:
                letters = found.setdefault((message.kind, message.pathway.name), set())
                letters.add((message.sender.index, message.sent))
        return {key: len(letters) for key, letters in found.items()}

    def behind(self, name: str, kind: str) -> list[tuple[float, float, float]]:
        """How far what this population sees of each of its senders is behind it.

        (Ticks, squared deviation, square of what it should see), each a mean over those that see
        the sender, and nan where nobody does; to be called after `deliver`, as it is of what the
        next tick will read.
        """
        found = []
        for pathway in self.pathways:
            if name != (pathway.post if kind == "mean" else pathway.pre):
                continue
            for sender in self.neurons[pathway.pre if kind == "mean" else pathway.post]:
                last = sender.sent_at[kind, pathway.name]
                if kind == "mean":
                    true = self.rule.mean(sender)
                    ends = [e.target.afferents[pathway.name] for e in sender.targets(pathway.name)]
                    seen = [(end.since[sender.index], end.sees[sender.index]) for end in ends]
                else:
                    true = sender.difference
                    receivers = self._receivers(sender, kind, pathway)
                    back = [r.efferents[pathway.name, sender.index] for r in receivers]
                    seen = [(end.since, end.sees) for end in back]
                if not seen:
                    found.append((math.nan, math.nan, math.nan))
                    continue
                late = sum(last - since for since, _ in seen) / len(seen)
                wrong = sum((value - true) ** 2 for _, value in seen) / len(seen)
                found.append((late, wrong, true**2))
        return found
