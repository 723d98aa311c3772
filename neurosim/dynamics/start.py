"""How an inference starts: from zero, with one feed-forward pass, or with a new input."""

from torch import Tensor

from neurosim.channels import Moment
from neurosim.dynamics.node import Reached, check_finite
from neurosim.dynamics.state import State
from neurosim.dynamics.tick import Ticker
from neurosim.rules import Wake, Woken
from neurosim.tensors import moved


def reset(state: State, x: Tensor, moment: Moment, *, empty: bool, moderate: bool = False) -> None:
    """Sets all states to zero, but for dyads that never wake. The first layer already sees the
    input x (B, *input), of which ``moderate`` says what `Slot` does. ``empty``: a feed-forward pass
    comes next, which needs none of them."""
    for array in state.passing:
        array.reset()
    state.batch = len(x)
    for cell in state.cells:
        if empty and (cell.held is None or cell.paired):
            continue
        zeros = x.new_zeros(state.batch, *cell.population.shape, device=cell.device)
        zeros = cell.stored(zeros if cell.held is None else cell.held.hold(zeros))
        cell.plus.set(zeros)
        cell.minus.set(zeros)
        for outlet in cell.outlets["mean"]:
            # A mean that is still zero costs nothing, but where its winners are pooled.
            pooled = any(link.operator.has_winners for link in outlet.links)
            outlet.sent.set(zeros if pooled or cell.held is not None else None)
        # A single state of dyads that never wake goes back as it goes forward.
        back = zeros if cell.held is not None and not cell.paired else None
        for outlet in cell.outlets["difference"]:
            outlet.sent.set(back)
    x = _set_input(state, x)
    for outlet in state.input.outlets["mean"]:
        outlet.sent.set(x, moderate=moderate)
    for _, line in state.lines:
        line.show(line.sent.tensor, moment, state.batch)
    state.mark_weights_seen()


def _set_input(state: State, x: Tensor) -> Tensor:
    x = state.input.stored(moved(x, state.input.device))
    state.input.plus.set(x)
    state.input.minus.set(x)
    return x


def feed_forward(ticker: Ticker, moment: Moment) -> None:
    """Makes one pass from the input up, after `reset`: s⁺ = s⁻ = the plain prediction, as far as
    what is seen of the layers below is what they sent."""
    state, rule, flags = ticker.state, ticker.rule, ticker.flags()
    for cell in state.cells:
        for link in cell.incoming:
            ticker.update_basal(link, None)
        strength = ticker.nudge.strength if cell is state.output else None
        basal = cell.basal(None)
        wake = cell.hold(rule.wake(Woken(cell.activation, basal, strength=strength)))
        cell.plus.set(wake.plus)
        cell.minus.set(wake.minus)
        flags.add(wake.is_finite())
        known = wake.known
        cell.stale.clear(None)
        messages = [(outlet, wake.mean) for outlet in cell.outlets["mean"]]
        if wake.difference is not None:
            messages += [(outlet, wake.difference) for outlet in cell.outlets["difference"]]
        for outlet, values in messages:
            outlet.sent.set(values, moderate=known.moderate and known.finite is True)
            for link in outlet.direct:
                link.touch(outlet.kind)
            for line in outlet.lines:
                line.show(values, moment, state.batch)
    for cell, finite in zip(state.cells, flags.read(), strict=True):
        if not finite:
            check_finite(cell, moment._replace(tick=0), rule.remedy)
    for link in state.links:
        link.basal_stale.clear(None)
        link.unread.clear(None)


def new_input(ticker: Ticker, x: Tensor, moment: Moment, *, at_once: bool = True) -> Reached:
    """Hands over a new input x (B, *input) as messages that arrive ``at_once``, or over the
    channels as those that dyads send in that tick; all else is carried. Returns who has heard of
    it."""
    flags, reached, cell = ticker.flags(), Reached(), ticker.state.input
    x = _set_input(ticker.state, x)
    for outlet in () if at_once else cell.refreshing:
        outlet.count_wakes(None)
    offers = cell.offers(None, Wake(x, x, x, None), flags, listens=ticker.listens)
    ticker.send(offers, flags.read(), moment, reached, {}, at_once=at_once)
    if not at_once:
        ticker.deliver(moment.tick + 1, reached, of_input=True)
    return reached
