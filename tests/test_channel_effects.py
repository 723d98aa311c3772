"""What channels do to messages: noise, loss, jitter and quantization, each against its law.

The seeds are fixed, so a test passes or fails once and for all; z is the distance of an estimate
from its law in standard errors, and |z| < 4 fails by chance in one of 16,000.
"""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from clockwork import chi_square
from constant_messages import BATCH, TICKS, VALUE, N, constant, seen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import neurosim as ns
from neurosim.channels.effects import Draws, Moment, Parcel


def z_of_mean(sample: Tensor, mean: float, std: float) -> float:
    return (float(sample.double().mean()) - mean) / (std / sqrt(sample.numel()))


def z_of_variance(sample: Tensor, mean: float, std: float) -> float:
    """The variance of a normal sample around a known mean has the standard error σ²√(2/n)."""
    variance = float((sample.double() - mean).square().mean())
    return (variance / std**2 - 1.0) / sqrt(2.0 / sample.numel())


# ---- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("noise", "std"),
    [(0.3, 0.3), (ns.Noise(0.02), 0.02), (ns.Noise(0.1, "relative"), 0.1 * VALUE)],
)
def test_noise(noise: ns.Noise | float, std: float, dtype: torch.dtype) -> None:
    values = seen(constant(ns.Channel(noise=noise, refresh=1), dtype=dtype))
    assert values.dtype == dtype
    assert abs(z_of_mean(values, VALUE, std)) < 4
    assert abs(z_of_variance(values, VALUE, std)) < 4
    # Gaussian: the share within a standard deviation, and the fourth moment.
    units = ((values.double() - VALUE) / std).flatten()
    share, n = 0.6826894921370859, units.numel()
    assert abs(float((units.abs() < 1).double().mean()) - share) < 4 * sqrt(share * (1 - share) / n)
    assert abs(float(units.pow(4).mean()) - 3.0) < 4 * sqrt(96.0 / n)
    # Every dyad, sample and tick has its own: products of neighbours have mean 0 and variance 1.
    cube = units.view(values.shape)
    for dim in range(3):
        ahead, behind = (
            cube.narrow(dim, 1, cube.shape[dim] - 1),
            cube.narrow(dim, 0, cube.shape[dim] - 1),
        )
        assert abs(z_of_mean(ahead * behind, 0.0, 1.0)) < 4, dim


def test_noise_is_drawn_once_for_a_message() -> None:
    """What is not sent anew is seen as it was."""
    values = seen(constant(ns.Channel(noise=0.3)))
    assert (values == values[0]).all()
    assert abs(z_of_mean(values[0], VALUE, 0.3)) < 4
    rare = seen(constant(ns.Channel(noise=0.3, refresh=4)))
    changes = [tick + 1 for tick in range(1, TICKS) if not torch.equal(rare[tick], rare[tick - 1])]
    assert changes == list(range(4, TICKS + 1, 4))


def test_relative_noise_leaves_zero_alone() -> None:
    simulation = constant(ns.Channel(noise=ns.Noise(0.5, "relative"), refresh=1))
    with torch.no_grad():
        simulation.model.state_dict()["h.bias"].zero_()
    assert not seen(simulation).any()


def test_views_of_the_start_have_one_draw() -> None:
    """The zeros of the start, and the input, are seen with noise, neither late nor lost."""
    channel = ns.Channel(noise=0.2, delay=3.0, loss=0.9)
    simulation = constant(channel)
    late = seen(simulation)
    assert abs(z_of_variance(late[:2], 0.0, 0.2)) < 4
    assert torch.equal(late[0], late[1])
    (view,) = simulation.state.links[0].means
    noisy = constant(ns.Channel(), channels=ns.Channels(mean=channel))
    x = torch.full((BATCH, 1), 2.0, dtype=torch.float64)
    noisy.start(x)
    (view,) = noisy.state.links[0].means
    shown = view.value.value.clone()
    assert (shown != x).all()
    noisy.advance()
    assert torch.equal(view.value.value, shown)


# ---- loss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.05, 0.5, 0.9])
def test_loss(loss: float) -> None:
    """With noise, what is seen changes where a message arrives, and nowhere else."""
    values = seen(constant(ns.Channel(noise=1.0, loss=loss, refresh=1)))
    arrived = (values[1:] != values[:-1]).double()
    std = sqrt(loss * (1 - loss))
    assert abs(z_of_mean(arrived, 1 - loss, std)) < 4
    centred = (arrived - (1 - loss)) / std
    for dim in range(3):
        size = centred.shape[dim] - 1
        products = centred.narrow(dim, 1, size) * centred.narrow(dim, 0, size)
        assert abs(z_of_mean(products, 0.0, 1.0)) < 4, dim


@pytest.mark.filterwarnings("ignore::neurosim.NeurosimWarning")
def test_loss_of_all_and_of_none() -> None:
    nothing = constant(ns.Channel(loss=1.0, refresh=1))
    assert not seen(nothing).any()
    # A lost message was sent.
    assert nothing.counts.mean_messages == TICKS * BATCH * N
    everything = constant(ns.Channel(loss=0.0, refresh=1))
    assert (seen(everything) == VALUE).all()
    assert everything.counts.mean_messages == nothing.counts.mean_messages


# ---- delays and jitter ---------------------------------------------------------------------------


def cdf(distribution: ns.Uniform | ns.Exponential, t: float) -> float:
    """In closed form."""
    if t >= distribution.high:
        return 1.0
    if isinstance(distribution, ns.Uniform):
        low, high = distribution.low, distribution.high
        return max(0.0, (t - low) / (high - low))
    return (1 - exp(-t / distribution.scale)) / (1 - exp(-distribution.high / distribution.scale))


DISTRIBUTIONS = [
    ns.Uniform(0.0, 5.0),
    ns.Uniform(1.2, 3.4),
    ns.Exponential(1.0, 4.0),
    ns.Exponential(20.0, 5.0),  # nearly uniform
    ns.Exponential(0.1, 6.0),  # hardly cut
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_quantiles(distribution: ns.Uniform | ns.Exponential) -> None:
    """F(quantile(u)) = u, within the bounds, and a sample passes Kolmogorov-Smirnov."""
    shares = np.linspace(0.0, 1.0, 1001)[:-1]
    times = distribution.quantile(shares)
    assert (np.diff(times) > 0).all()
    assert np.abs([cdf(distribution, t) for t in times] - shares).max() < 1e-12
    assert times[0] == getattr(distribution, "low", 0.0)
    assert distribution.quantile(np.array([np.nextafter(1.0, 0.0)])) <= distribution.high
    drawn = np.sort(distribution.quantile(np.random.default_rng(0).random(20_000)))
    ranks = np.arange(1, len(drawn) + 1) / len(drawn)
    ks = np.abs(np.array([cdf(distribution, t) for t in drawn]) - ranks).max()
    assert ks * sqrt(len(drawn)) < 1.95  # exceeded once in a thousand


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
@pytest.mark.parametrize("how", ["delay", "jitter", "both"])
@pytest.mark.parametrize("tick", [1.0, 0.5])
def test_arrivals(distribution: ns.Uniform | ns.Exponential, how: str, tick: float) -> None:
    """One message of each dyad: the ticks at which it arrives have the law of ⌈time/tick⌉ ≥ 1."""
    offset = 0.8 if how == "both" else 0.0
    channel = ns.Channel(delay=distribution if how == "delay" else offset)
    if how != "delay":
        channel = ns.Channel(delay=offset, jitter=distribution)
    counts: Any = np.zeros(40)
    drawn = set()
    for seed in range(4):
        values = seen(constant(channel, tick=tick, seed=seed)) == VALUE
        # It is sent at tick 1 and, d ticks late, seen at the end of tick d.
        ticks = TICKS - values.sum(0)
        drawn.add(tuple(ticks.flatten().tolist()))
        assert (values.long().diff(dim=0) >= 0).all()
        if how == "delay":  # shared by the batch
            assert (ticks == ticks[0]).all()
            ticks = ticks[:1]
        counts += np.bincount(ticks.flatten().numpy() + 1, minlength=40)
    edges = [cdf(distribution, d * tick - offset) if d * tick >= offset else 0.0 for d in range(40)]
    edges[0] = 0.0
    share = np.diff(edges)
    assert len(drawn) == 4 or share.max() > 0.99  # another seed, other times
    total = counts.sum()
    assert counts[0] == 0
    assert (counts[1:][share == 0] == 0).all()
    keep = share * total >= 5
    found = np.append(counts[1:][keep], counts[1:][~keep].sum())
    expected = np.append(share[keep] * total, share[~keep].sum() * total)
    found, expected = found[expected > 0], expected[expected > 0]
    freedom = max(len(found) - 1, 1)
    assert chi_square(found, expected) < freedom + 4 * sqrt(2 * freedom) + 4


def test_delays_stay_and_jitter_does_not() -> None:
    """Over inferences, and over ticks."""
    delayed = constant(ns.Channel(delay=ns.Uniform(0.0, 8.0)))
    assert torch.equal(seen(delayed), seen(delayed))
    jittered = constant(ns.Channel(jitter=ns.Uniform(0.0, 8.0)))
    assert not torch.equal(seen(jittered), seen(jittered))


# ---- quantization --------------------------------------------------------------------------------


def quantized(quantize: ns.Quantize, values: Tensor, tick: int = 1) -> Tensor:
    shape = tuple(values.shape)
    parcel = Parcel(Moment(1, tick), shape, None, values, torch.ones(shape, dtype=torch.bool))
    quantize.act(parcel, Draws(0, "test"))
    return parcel.values


def levels(quantize: ns.Quantize) -> list[float]:
    """As the manual says: k·r/(2^(bits−1) − 1), or low + k·(high − low)/(2^bits − 1)."""
    if isinstance(quantize.range, tuple):
        low, high = quantize.range
        count = 2**quantize.bits
        return [low + k * ((high - low) / (count - 1)) for k in range(count)]
    most = 2 ** (quantize.bits - 1) - 1
    return [k * (quantize.range / most) for k in range(-most, most + 1)]


RANGES = st.one_of(
    st.floats(0.1, 10.0),
    st.tuples(st.floats(-5.0, 1.0), st.floats(1.5, 6.0)),
)


@given(
    bits=st.integers(1, 8),
    range_=RANGES,
    rounding=st.sampled_from(["nearest", "stochastic"]),
    values=st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=30),
)
def test_levels_are_exact(bits: int, range_: Any, rounding: Any, values: list[float]) -> None:
    if not isinstance(range_, tuple):
        bits = max(bits, 2)
    quantize = ns.Quantize(bits, range_, rounding)
    known = levels(quantize)
    assert len(known) == (2**bits if isinstance(range_, tuple) else 2**bits - 1)
    step = known[1] - known[0]
    for value, found in zip(
        values,
        quantized(quantize, torch.tensor([values], dtype=torch.float64))[0].tolist(),
        strict=True,
    ):
        assert found in known
        clipped = min(max(value, known[0]), known[-1])
        reach = 0.5 if rounding == "nearest" else 1.0
        assert abs(found - clipped) <= reach * step * (1 + 1e-12)
    whole = torch.tensor([known], dtype=torch.float64)
    if rounding == "nearest":
        assert torch.equal(quantized(quantize, whole), whole)


@pytest.mark.parametrize(
    ("quantize", "value", "level"),
    [
        (ns.Quantize(2, 1.0), 0.49, 0.0),  # three levels: −1, 0, 1
        (ns.Quantize(2, 1.0), 0.51, 1.0),
        (ns.Quantize(2, 1.0), -7.0, -1.0),
        (ns.Quantize(2, 1.0), 0.5, 0.0),  # a tie goes to the even level
        (ns.Quantize(3, 3.0), 1.5, 2.0),
        (ns.Quantize(3, 3.0), 2.5, 2.0),
        (ns.Quantize(1, (0.0, 1.0)), 0.6, 1.0),  # a spike, or none
        (ns.Quantize(1, (0.0, 1.0)), -3.0, 0.0),
        (ns.Quantize(2, (-1.0, 2.0)), 0.4, 0.0),
        (ns.Quantize(2, (-1.0, 2.0)), 9.0, 2.0),
        (ns.Quantize(16, 32767.0), 32766.6, 32767.0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_levels_by_hand(
    quantize: ns.Quantize, value: float, level: float, dtype: torch.dtype
) -> None:
    assert quantized(quantize, torch.tensor([[value]], dtype=dtype)).item() == level


@pytest.mark.parametrize("value", [-1.0, -0.9, -0.15, 0.0, 0.4, 0.75, 1.0])
@pytest.mark.parametrize(
    "quantize", [ns.Quantize(2, 1.0, "stochastic"), ns.Quantize(4, (-1.5, 1.0), "stochastic")]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_stochastic_rounding_is_unbiased(
    quantize: ns.Quantize, value: float, dtype: torch.dtype
) -> None:
    values = torch.full((100, N), value, dtype=dtype)
    found = torch.stack([quantized(quantize, values, tick) for tick in range(5)]).double()
    origin, step, _, _ = quantize.grid
    share = (value - origin) / step % 1.0
    std = step * sqrt(share * (1 - share))
    if min(share, 1 - share) < 1e-6:  # a level, but for its last bit
        assert (found - value).abs().max() < 1e-6
    else:
        assert len(found.unique()) == 2
        assert abs(z_of_mean(found, value, std)) < 4


def test_stochastic_rounding_beyond_the_range_is_clipped() -> None:
    quantize = ns.Quantize(3, 1.0, "stochastic")
    found = quantized(quantize, torch.tensor([[1.01, 50.0, -1.01, -50.0]] * 500))
    assert (found == torch.tensor([1.0, 1.0, -1.0, -1.0])).all()


def test_quantization_comes_before_noise_and_after_the_threshold() -> None:
    """Values are compared with the threshold, not levels; noise is on top of the level.

    1.5 on the levels −2, 0, 2 is 2.
    """
    clean = seen(constant(ns.Channel(quantize=ns.Quantize(2, 2.0), refresh=1)))
    assert (clean == 2.0).all()
    noisy = seen(constant(ns.Channel(quantize=ns.Quantize(2, 2.0), noise=0.1, refresh=1)))
    assert abs(z_of_mean(noisy, 2.0, 0.1)) < 4
    assert len(noisy.unique()) == noisy.numel()
    silent = constant(ns.Channel(quantize=ns.Quantize(2, 2.0), threshold=1.6))
    assert not seen(silent).any()
    assert silent.counts.mean_messages == 0


def test_the_mean_of_an_exponential() -> None:
    """λ cut at h: scale − h/(e^(h/scale) − 1)."""
    found = ns.Exponential(1.3, 4.0).quantile((np.arange(100_000) + 0.5) / 100_000)
    assert found.mean() == pytest.approx(1.3 - 4.0 / (exp(4.0 / 1.3) - 1), rel=1e-6)
    assert np.median(found) == pytest.approx(-1.3 * log(1 - 0.5 * (1 - exp(-4.0 / 1.3))), rel=1e-4)
