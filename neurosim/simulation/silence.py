"""Warnings of inferences in which something that is asked for never happens."""

import warnings
from collections.abc import Collection, Sequence
from typing import Protocol

import torch

from neurosim.base import NEVER, NeurosimWarning
from neurosim.channels import Channels, MessageKind
from neurosim.dynamics import Outlet, Plasticity, State, current_mean
from neurosim.network import Model, Network
from neurosim.rules import Rule
from neurosim.schedules import Schedule
from neurosim.simulation.compatibility import Init


class Sent(Protocol):
    """What decides on how far messages get in an inference: a `Simulation` has it. ``warned``
    notes what it has warned of."""

    model: Model
    rule: Rule
    schedule: Schedule
    channels: Channels
    init: Init
    plasticity: Plasticity
    state: State
    warned: set[str]


def warn_of_silence(
    sent: Sent, updates: Collection[int], passed: int, learns: bool, nudged: bool
) -> None:
    """Warns of an inference that ends after ``passed`` ticks: no update of the weights was made of
    those due, though it was ``nudged``, or nothing was sent. Each is said once.

    ``updates`` are the ticks of the schedule with an update, ``learns`` says if there is an
    optimizer.
    """
    due = sent.plasticity.every
    if learns and due is None:
        due = min(updates, default=None)
    if nudged and due is not None and not (learns and passed >= due):
        _warn_of_updates(sent.warned, due, passed, learns)
    warn_of_thresholds(sent, passed, nudged)


def _warn_of_updates(warned: set[str], first: int, passed: int, learns: bool) -> None:
    if "updates" in warned:
        return
    if learns:
        said = (
            f"an inference came to rest after {passed} ticks, but the first update of the weights "
            f"is due after {first}: nothing is learned from it; update them earlier, or leave stop "
            "out"
        )
    else:
        said = (
            f"weights are to be updated after every {first} ticks, but the inference was given no "
            "optimizer: they stay as they are; give it one, or leave learn_every out and call "
            "learn(optimizer) after it"
        )
    warnings.warn(said, NeurosimWarning, stacklevel=6)
    warned.add("updates")


def warn_of_thresholds(sent: Sent, passed: int, nudged: bool) -> None:
    """Warns of populations that had something to send, and have sent nothing since they began, as
    none of it exceeded the threshold of its channel: far below it or hardly, which the warning
    says. That is asked until an inference is ``nudged``, or there was reason to."""
    if "thresholds" in sent.warned:
        return
    found = [_silent(outlet, sent) for outlet in sent.state.outlets if outlet.threshold]
    if said := list(filter(None, found)):
        warnings.warn(
            f"in {passed} ticks nothing was sent of {_some(said)}: none of it exceeds its "
            "threshold, so nobody hears of it; lower the threshold, unless that is meant",
            NeurosimWarning,
            stacklevel=6,
        )
    if said or nudged:
        sent.warned.add("thresholds")


def _silent(outlet: Outlet, sent: Sent) -> str:
    """Returns what was not sent of a population that has something to send, and the keys that
    keep it back; nothing where there are none."""
    cell, kind, last = outlet.sender, outlet.kind, outlet.sent.tensor
    value = current_mean(cell, sent.rule) if kind == "mean" else cell.difference.tensor
    if outlet.last_count or (last is not None and last.any()) or value is None:
        return ""
    size, scale = (float(array.abs().max()) for array in (value, cell.plus.value))
    if size <= torch.finfo(value.dtype).eps * scale:  # a difference of last bits
        return ""
    keys = ", ".join({_key(sent, link.name, kind): None for link in outlet.links})
    is_ = "are" if ", " in keys else "is"
    return f"the {kind}s of {cell.name!r} (up to {size:.2g}, and {keys} {is_} {outlet.threshold:g})"


def _key(sent: Sent, projection: str, kind: MessageKind) -> str:
    """Returns the key that says the threshold of a channel."""
    for name, own in sent.channels.overrides.items():
        if own.get(kind) and sent.model.network.projection(name).name == projection:
            return f"channels.overrides.{name}.{kind}.threshold"
    return f"channels.{kind}.threshold"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def warn_of_reach(sent: Sent, run: int, first: int | None) -> None:
    """Warns of populations that an input or a target does not reach in an inference because of
    what channels do.

    ``run`` is the ticks of one run of the schedule, ``first`` the tick at which the target acts,
    None for never. Carried messages go on in the next inference.
    """
    if sent.init == "carry":
        return
    network, tick = sent.model.network, sent.schedule.tick
    channels = sent.channels.resolve(network, tick)
    hops = {key: channel.least_ticks(tick) for key, channel in channels.items()}
    phases = sent.rule.phases
    free, nudged = (
        run * max((p.runs for p in phases if bool(p.strength) == acts), default=1)
        for acts in (False, True)
    )
    up = [
        (q.pre, q.post, 1 if q.pre == network.input.name else hops[q.name, "mean"])
        for q in network.projections
    ]
    down = [
        (q.post, q.pre, hops[q.name, "difference"])
        for q in network.projections
        if q.pre != network.input.name
    ]
    if sent.init == "zero":  # a feed-forward pass shows it to all
        late = _late(network, network.input.name, 0, up, free)
        _warn(late, "the input", free, "their states do not depend on it")
    if first is not None:
        late = _late(network, network.output.name, max(1, first), down, nudged)
        _warn(late, "the target", nudged, "the weights into them never learn")


def _late(
    network: Network, source: str, first: int, ways: Sequence[tuple[str, str, int]], ticks: int
) -> list[str]:
    """Returns the populations that messages from the source, which it sends at tick ``first``,
    would reach along ``ways`` within so many ticks if channels were ideal, and do not."""

    def arrivals(ideal: bool) -> dict[str, int]:
        reached = {source: first}
        for _ in ways:  # as many rounds as the longest of the shortest paths can have steps
            for sender, receiver, hop in ways:
                if sender in reached:
                    arrives = min(NEVER, reached[sender] + (1 if ideal else hop))
                    reached[receiver] = min(reached.get(receiver, NEVER), arrives)
        return reached

    soon, late = arrivals(ideal=True), arrivals(ideal=False)
    return [p.name for p in network.dyadic if soon.get(p.name, NEVER) <= ticks < late[p.name]]


def _warn(late: Sequence[str], what: str, ticks: int, so: str) -> None:
    if late:
        warnings.warn(
            f"{what} never reaches {_some([repr(name) for name in late])} in an inference of "
            f"{ticks} ticks, as messages take too long or are all lost: {so}; shorten the delays, "
            "or let inferences last longer",
            NeurosimWarning,
            stacklevel=5,
        )
