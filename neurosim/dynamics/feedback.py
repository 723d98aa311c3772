"""Feedback weights that learn what their layer does: local-Jacobian learning (Ernoult et al. 2022).

A population sends what it sends forward once more, with noise; the one above answers with what
has become of it, and with noise of its own. These are exchanges of two neighbours, in their own
order; they take no simulated time, but count.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.base import stream
from neurosim.dynamics.link import Dyads, Link
from neurosim.dynamics.outlet import Counts
from neurosim.dynamics.state import State
from neurosim.network import LocalJacobian
from neurosim.rules import Rule
from neurosim.tensors import moved

Draw = Callable[[tuple[int, ...]], npt.NDArray[np.float64]]


@torch.no_grad()
def learn_feedback(state: State, rule: Rule, counts: Counts, seed: int, *moment: int) -> None:
    """Makes some steps of every feedback weight that learns by noise, with the present states.

    ``moment`` names the noise. ``counts`` takes note of wakes (not by units), messages and
    operations.
    """
    options = rule.exchange
    if options is None:
        return
    for link in state.links:
        if link.projection.feedback.trained == "noise":
            noise = stream(seed, "local jacobian", link.name, *map(str, moment))
            others = [o for o in state.by_name[link.post.name].incoming if o is not link]
            _learn(link, others, options, counts, noise.standard_normal)


def _learn(
    link: Link, others: list[Link], options: LocalJacobian, counts: Counts, draw: Draw
) -> None:
    """Learns the feedback weights of one link from noise ε and η, by the gradient
    ∇ = (2/B) [Σ w (Vᵀw)ᵀ − Σ u εᵀ] with u = f(F(x + ε)) − f(y) and w = f(y + η) − f(y).

    As G is linear in f(t), ⟨ε, G(F(x + ε)) − G(y)⟩ = ⟨u, V ε⟩ and ‖G(y + η) − G(y)‖² = ‖Vᵀw‖², and
    both gradients are local sums. Through a max-pool f(F(x + ε)) goes back to the winners of that
    noisy pass, and f(y) to those of x.
    """
    steps, std, rate = options.of(link.name)
    weight, feedback, products = link.forward_weight, link.feedback, link.products
    assert feedback is not None
    f = link.post.activation
    x = moved(link.pre.plus.value, link.device)
    own, winners = products.basal(x, weight, link.bias, None)
    rest = _from_others(others, own)
    y = f(own + rest)
    known = f(y)
    speed = link.feedback_speed.tensor
    for _ in range(steps):
        epsilon = _noise(link.pre, x, std, draw)
        answer, noisy = products.basal(x + epsilon, weight, link.bias, None)
        answer = f(f(answer + rest))
        # Without winners u is one signal, else the difference of two.
        heard = [(answer - known, None)] if noisy is None else [(answer, noisy), (-known, winners)]
        own_noise = _alive(link.post, f(y + _noise(link.post, y, std, draw)) - known)
        back = products.apical(own_noise, link.feedback_weight, winners, None)
        gradient = products.weight_gradient(own_noise, back, winners)
        for signal, to in heard:
            signal = _alive(link.post, signal)
            gradient = gradient - products.weight_gradient(signal, epsilon, to)
        gradient = gradient * (2.0 / len(x))
        speed = gradient if speed is None else options.momentum * speed + gradient
        feedback.sub_(speed, alpha=rate)
    link.feedback_speed.set(speed)
    counts.forward += 1 + steps
    counts.adjoint += steps
    counts.weight_gradient += (2 if winners is None else 3) * steps
    _count(link, counts, steps * len(x), steps)


def _from_others(others: list[Link], like: Tensor) -> Tensor:
    """Returns what the other projections add to the potential."""
    rest = torch.zeros_like(like)
    for other in others:
        mean = moved(other.pre.plus.value, like.device)
        rest = rest + other.products.basal(mean, other.forward_weight, other.bias, None)[0]
    return rest


def _noise(cell: Dyads, like: Tensor, std: float, draw: Draw) -> Tensor:
    drawn = torch.from_numpy(draw(tuple(like.shape))).to(like.device, like.dtype)
    return _alive(cell, drawn * std)


def _alive(cell: Dyads, values: Tensor) -> Tensor:
    """Returns the values without those of dyads that never wake: they send no change."""
    return values if cell.held is None else cell.held.hold(values, at_zero=True)


def _count(link: Link, counts: Counts, samples: int, steps: int) -> None:
    """Counts one message up from all below, and two down from all above, for each step."""
    below, above = link.pre.population, link.post.population
    counts.wakes += steps * (below.size + 2 * above.size)
    counts.mean_messages += samples * below.size
    counts.difference_messages += 2 * samples * above.size
    up, down = link.operator.forward_fan_out(), link.operator.backward_fan_out()
    for fan_out, population, times in ((up, below, 1), (down, above, 2)):
        of_one = torch.as_tensor(fan_out).expand(population.shape)
        counts.synaptic_operations += times * samples * int(of_one.sum())
