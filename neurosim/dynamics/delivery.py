"""The way of a message from a wake to those who see it.

An outlet makes an `Offer` of what has changed, and everything that is asked of the values is read
at once. Over an ideal channel the ends of a link see the outlet's slot itself, from the next tick
on. Other channels have a `DelayLine`, which makes a message of it that can be late, changed or
lost.
"""

from collections.abc import Sequence

from neurosim.channels import NOTHING, DelayLine, Delivery, Moment
from neurosim.dynamics.counts import Counts
from neurosim.dynamics.link import Link
from neurosim.dynamics.outlet import Offer
from neurosim.dynamics.reached import Reached
from neurosim.tensors import Flags


def send(
    offers: Sequence[Offer],
    answers: Sequence[int],
    moment: Moment,
    counts: Counts,
    reached: Reached,
    *,
    at_once: bool = False,
) -> None:
    """Takes note of what is sent, shows it where channels are ideal, and hands it to lines. All of
    it is seen ``at_once``, whatever the channels, if it is a new input."""
    for offer in offers:
        if not offer.take(answers, moment.tick, counts):
            continue
        outlet = offer.outlet
        offer.announce(outlet.links if at_once else outlet.direct, reached)
        outlet.touch(everything=at_once)
        if outlet.kind == "difference" and outlet.sender.reached_at is not None:
            for link in outlet.direct:
                link.heard = True
        for line in outlet.lines:
            if at_once:
                line.show(offer.values, moment, len(offer.values), offer.changed)
            else:
                line.send(moment, offer.selection, offer.values, offer.changed)


def deliver(lines: Sequence[tuple[Link, DelayLine]], tick: int, reached: Reached) -> None:
    """Shows what arrives at ``tick`` over lines: it is seen from now on."""
    if not lines:
        return
    flags = Flags()
    arrived: list[tuple[Link, bool, Delivery]] = []
    for link, line in lines:
        mean = line.kind == "mean"
        asked = not mean and not link.heard and link.post.reached_at is not None
        arrived += [(link, mean, found) for found in line.deliver(tick, flags, asked)]
    answers = flags.read()
    for link, mean, found in arrived:
        latest = None if found.latest is None else answers[found.latest]
        if found.show is not None:
            if latest == NOTHING:
                continue
            found.show()
        (link.basal_stale if mean else link.apical_stale).touch()
        since = None if mean or link.heard else link.post.reached_at
        if since is not None and latest is not None:
            link.heard = latest >= since
        if reached.wanted:
            marks = link.reach(found.view, found.senders())
            reached.add(link.post if mean else link.pre, marks)
