"""A literal, slow simulation of a network of dyads: one object per neuron, one call per message.

It shares no code with neurosim and nothing is batched: a sample is simulated at a time, a neuron at
a time, a synapse at a time. A neuron knows its two states, what it last sent, and what it has seen:
the mean of every presynaptic and the difference of every postsynaptic neuron. Where it pools by
softmax its difference goes back by the slopes at the means that it sees at that moment; where by
maximum its difference goes back to the winner among the means that it sees at that moment, or, with
``winners: plus``, among the states s⁺ that presynaptic neurons have at that moment.

In a tick: deliver what arrives, compute all woken neurons from what they see, write them back,
send. Every message to every receiver is an object with its own value and arrival; what these are is
said in `reference_channel.py`. Without channels messages take one tick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from reference_channel import EDGE, IDEAL, Channel
from reference_neurons import ACTIVATIONS, Afferent, Message, Neuron, Wired
from reference_structure import Pathway


class Network(Wired):
    """One sample's network in time."""

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
        """−(1/β) (s⁺ − s⁻) s̄ᵀ of this sample, with s̄ as the postsynaptic neuron sees it, or f(a) of
        the presynaptic one at its last wake in its place."""
        found = {key: np.zeros_like(value) for key, value in self.parameters.items()}
        for pathway in self.pathways:
            for neuron in self.neurons[pathway.post]:
                afferent = neuron.afferents[pathway.name]
                if neuron.difference == 0.0:
                    continue
                slopes = self.slopes(afferent, afferent.sees)
                for slope, branch in zip(slopes, afferent.branches, strict=True):
                    for synapse in branch if slope else ():
                        if synapse.key is not None:
                            seen = self._presynaptic(afferent, synapse.pre) * synapse.factor
                            found[f"{pathway.name}.weight"][synapse.key] -= (
                                neuron.difference * slope * seen / self.rule.beta
                            )
        for neuron in self.dyads:
            if neuron.place.bias:
                bias = found[f"{neuron.place.name}.bias"]
                bias[self._bias_key(neuron)] -= neuron.difference / self.rule.beta
        return found

    def _presynaptic(self, afferent: Afferent, index: int) -> float:
        pre = self.neurons[afferent.pathway.pre][index]
        if self.presynaptic == "mean":
            return afferent.sees[index]
        if pre.place.role == "input":
            return pre.plus
        return ACTIVATIONS[pre.place.activation](pre.potential)

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
