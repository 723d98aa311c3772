"""The mathematics of one dyad, against the same formulas on plain Python floats."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim.conformance import attempt, checks_of
from neurosim.maths import dyad
from neurosim.maths.activations import Activation, Linear, Relu, Tanh
from neurosim.tensors.order import by_position


def logistic(a: float) -> float:
    return 1.0 / (1.0 + math.exp(-a))


SCALARS: dict[str, Callable[[float], float]] = {
    "relu": lambda a: a if a > 0.0 else 0.0,
    "identity": lambda a: a,
    "hard_sigmoid": lambda a: min(max(a, 0.0), 1.0),
    "tanh": math.tanh,
    "sigmoid": logistic,
    "holotanh": lambda a: 0.5 * a * logistic(a) + (1.0 - 0.5 * a) * logistic(a - 2.0),
    "silu": lambda a: a * logistic(a),
    "softplus": lambda a: math.log1p(math.exp(a)),
    "leaky_relu": lambda a: a if a > 0.0 else 0.01 * a,
    "elu": lambda a: a if a > 0.0 else math.expm1(a),
    "gelu": lambda a: 0.5 * a * math.erfc(-a / math.sqrt(2.0)),
}
ALONE = [name for name, f in Activation.family.items() if not f.lateral]
VALUES = st.floats(-8.0, 8.0)
WEIGHTS = st.floats(0.0, 1.0)
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=32)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def literal(
    f: Callable[[float], float],
    a: float,
    delta: float,
    weight: float,
    state: float,
    damping: float,
    stiffness: float,
) -> float:
    return f((a + weight * delta + damping * state) / (1.0 + damping + stiffness))


# ---- activations -------------------------------------------------------------------------------


def test_the_activations_are_these() -> None:
    assert set(ALONE) == set(SCALARS)


@pytest.mark.parametrize("name", sorted(SCALARS))
@given(values=st.lists(VALUES, min_size=1, max_size=20))
def test_activation(name: str, values: list[float]) -> None:
    expected = tensor(*[SCALARS[name](a) for a in values])
    found = Activation.of(name)(tensor(*values))
    assert ((found - expected).abs() / expected.abs().clamp(min=1.0)).max() <= 1e-15


@given(x=st.floats(-50, 50), y=st.floats(-1.5, 1.5))
def test_tanh_of_complex_potentials(x: float, y: float) -> None:
    z = torch.tensor([complex(x, y), complex(0.0, y), complex(x, 0.0)], dtype=torch.complex128)
    expected = torch.tanh(z)
    torch.testing.assert_close(Tanh()(z), expected, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(Tanh()(z).real, expected.real, rtol=1e-14, atol=1e-15)
    assert Tanh()(z[2:]).imag == 0


# With options, against torch's own and against the code of the papers.
OPTIONS: list[tuple[str, dict[str, float], Callable[[Tensor], Tensor]]] = [
    ("sigmoid", {"gain": 4.0, "center": 0.5}, lambda a: 1 / (1 + torch.exp(2 - 4 * a))),
    ("sigmoid", {"gain": 0.5}, lambda a: torch.sigmoid(a / 2)),
    ("holotanh", {}, lambda z: 0.5 * F.silu(z) + (1 - 0.5 * z) * torch.sigmoid(z - 2)),
    (
        "holotanh",
        {"gain": 3.0, "width": 1.0},
        lambda a: torch.sigmoid(3 * a) * a - torch.sigmoid(3 * (a - 1)) * (a - 1),
    ),
    ("silu", {}, F.silu),
    ("softplus", {"sharpness": 2.5}, torch.nn.Softplus(beta=2.5, threshold=99)),
    ("leaky_relu", {"slope": 0.2}, torch.nn.LeakyReLU(0.2)),
    ("leaky_relu", {"slope": 0.0}, torch.relu),
    ("leaky_relu", {"slope": 3.0}, torch.nn.LeakyReLU(3.0)),
    ("elu", {"scale": 1.7}, torch.nn.ELU(1.7)),
    ("elu", {"scale": 0.3}, torch.nn.ELU(0.3)),
]


@pytest.mark.parametrize(
    ("name", "options", "known"), OPTIONS, ids=lambda v: "" if callable(v) else str(v)
)
def test_activations_with_options(
    name: str, options: dict[str, float], known: Callable[[Tensor], Tensor]
) -> None:
    """All that they say: values, closed forms, slopes; complex values where they take them."""
    f = Activation.of(name, **options)
    a = torch.linspace(-6.0, 6.0, 301, dtype=torch.float64)
    torch.testing.assert_close(f(a), known(a), rtol=1e-14, atol=1e-15)
    for check in checks_of(type(f), [f]):
        assert attempt(check) is None
    if f.holomorphic:
        z = torch.complex(a, 0.3 * a.cos())
        torch.testing.assert_close(f(z), known(z), rtol=1e-13, atol=1e-14)
        far = torch.tensor([complex(-800.0, 0.1), complex(800.0, 0.1)], dtype=torch.complex128)
        assert bool(f(far).isfinite().all())
    slope = torch.autograd.functional.jvp(f, a, torch.ones_like(a))[1]
    if f.largest_slope is not None:
        assert slope.max().item() == pytest.approx(f.largest_slope, rel=1e-2)
        assert slope.max().item() <= f.largest_slope


INVERTIBLE = ["tanh", "sigmoid", "leaky_relu", "elu"]


@pytest.mark.parametrize(
    ("name", "options"), [(name, {}) for name in INVERTIBLE] + [o[:2] for o in OPTIONS], ids=str
)
def test_the_energy_of_an_activation_inverts_it(name: str, options: dict[str, float]) -> None:
    f = Activation.of(name, **options)
    if name not in INVERTIBLE or options.get("slope") == 0.0:
        return
    a = torch.linspace(-3.0, 3.0, 62, dtype=torch.float64)
    state = f(a).requires_grad_()
    found = torch.autograd.grad(f.inverse_primitive(state).sum(), state)[0]
    torch.testing.assert_close(found, a, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["sigmoid", "leaky_relu", "elu"])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 60.0])
def test_closed_differences_in_single_precision(name: str, scale: float) -> None:
    """No digits are lost that float64 finds by subtraction."""
    draws = torch.Generator().manual_seed(0)
    basal, apical = torch.randn(2, 2000, generator=draws, dtype=torch.float64)
    basal, apical = basal.float().double(), (scale * apical).float().double()
    f = Activation.of(name)
    exact = f(basal + apical) - f(basal)
    plus, minus = f((basal + apical).float()), f(basal.float())
    found = f.difference(plus, minus, apical.float()).double()
    kinked = (basal > 0) != (basal + apical > 0) if name != "sigmoid" else basal > 9
    error = (found - exact).abs() / exact.abs()
    assert error[~kinked & (exact != 0)].max() < (1e-5 if scale < 50 else 1e-3)
    assert (found - exact).abs().max() < 1e-5 * max(1.0, scale)


def test_activations_at_their_corners() -> None:
    corners = tensor(-1.0, 0.0, 0.5, 1.0, 2.0)
    assert Activation.of("relu")(corners).tolist() == [0.0, 0.0, 0.5, 1.0, 2.0]
    assert Activation.of("hard_sigmoid")(corners).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert Activation.of("identity")(corners).tolist() == corners.tolist()


# ---- mean and difference -----------------------------------------------------------------------


@given(plus=VALUES, minus=VALUES, alpha=WEIGHTS)
def test_mean(plus: float, minus: float, alpha: float) -> None:
    mean = dyad.mean(tensor(plus), tensor(minus), alpha)
    assert mean.item() == pytest.approx(alpha * plus + (1.0 - alpha) * minus, rel=0, abs=1e-14)


@given(plus=st.lists(ANY_FLOAT, min_size=5, max_size=5), minus=st.lists(ANY_FLOAT, min_size=5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_does_not_round_at_the_ends(
    dtype: torch.dtype, plus: list[float], minus: list[float]
) -> None:
    """What did not change must not look like news: bit for bit, at every magnitude."""
    above, below = torch.tensor(plus, dtype=dtype), torch.tensor(minus[:5], dtype=dtype)
    difference = above - below
    finite = difference.isfinite()  # s⁺ − s⁻ may overflow where both are near the largest float
    assert torch.equal(dyad.mean(above, below, 0.0)[finite], below[finite])
    assert torch.equal(dyad.mean(above, below, 1.0)[finite], above[finite])


@given(values=st.lists(ANY_FLOAT, min_size=1, max_size=9), alpha=WEIGHTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mean_of_equal_states_is_that_state(
    dtype: torch.dtype, values: list[float], alpha: float
) -> None:
    state = torch.tensor(values, dtype=dtype)
    assert torch.equal(dyad.mean(state, state.clone(), alpha), state)


# ---- relax -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SCALARS))
@given(
    a=VALUES,
    delta=VALUES,
    weight=st.floats(-1.0, 1.0),
    state=VALUES,
    damping=st.just(0.0) | st.floats(0.0, 50.0),
    stiffness=st.just(0.0) | st.floats(-0.9, 4.0),
)
def test_relax(
    name: str,
    a: float,
    delta: float,
    weight: float,
    state: float,
    damping: float,
    stiffness: float,
) -> None:
    found = dyad.relax(
        Activation.of(name),
        tensor(a),
        tensor(delta),
        weight,
        state=tensor(state),
        damping=damping,
        stiffness=stiffness,
    )
    expected = literal(SCALARS[name], a, delta, weight, state, damping, stiffness)
    # 1 + D + c is at least 0.1, so the quotient's round-off is at most some 100 ulp of its value.
    assert found.item() == pytest.approx(expected, rel=1e-13, abs=1e-13)


def test_relax_without_an_apical_potential() -> None:
    a, zeros = tensor(-1.0, 0.3, 2.0), torch.zeros(3, dtype=torch.float64)
    for weight in (-0.5, 0.0, 1.0):
        assert torch.equal(dyad.relax(Tanh(), a, None, weight), torch.tanh(a))
        assert torch.equal(dyad.relax(Tanh(), a, zeros, weight), torch.tanh(a))
    # Of weight 0 the potential is not even looked at: 0 · ∞ must not become NaN.
    assert torch.equal(dyad.relax(Relu(), a, tensor(*[math.inf] * 3), 0.0), torch.relu(a))


def test_the_two_compartments_of_dp23() -> None:
    """Worked by hand: a = 1, Δ = 0.5, α = 1/4; s⁺ = f(a + αΔ), s⁻ = f(a − (1−α)Δ)."""
    a, delta = tensor(1.0), tensor(0.5)
    plus = dyad.relax(Relu(), a, delta, 0.25)
    minus = dyad.relax(Relu(), a, delta, -0.75)
    assert plus.item() == 1.125
    assert minus.item() == 0.625
    assert Relu().difference(plus, minus, delta).item() == 0.5
    assert dyad.mean(plus, minus, 0.25).item() == 0.75


def test_the_proximal_nudge_of_dp23() -> None:
    """β = 1, α = ½: s⁺ = (a + ½y)/(3/2), s⁻ = (a − ½y)/(1/2)."""
    a, y = tensor(0.3, -1.2), tensor(1.0, 0.0)
    plus = dyad.relax(Linear(), a, y, 0.5, stiffness=0.5)
    minus = dyad.relax(Linear(), a, y, -0.5, stiffness=-0.5)
    torch.testing.assert_close(plus, tensor(0.8 / 1.5, -0.8), rtol=1e-15, atol=0)
    torch.testing.assert_close(minus, tensor(-0.4, -2.4), rtol=1e-15, atol=0)


def test_nothing_is_written_in_place() -> None:
    a, delta, state = tensor(1.0, -2.0), tensor(0.5, 0.25), tensor(3.0, 4.0)
    kept = [t.clone() for t in (a, delta, state)]
    for f in map(Activation.of, ALONE):
        dyad.relax(f, a, delta, 0.5, state=state, damping=2.0, stiffness=0.5)
    dyad.mean(a, state, 0.5)
    assert all(torch.equal(x, y) for x, y in zip((a, delta, state), kept, strict=True))


# ---- differences without cancellation ------------------------------------------------------------

potentials = st.floats(-3.0, 3.0, width=32)
pushes = st.floats(-3.0, 3.0, width=32) | st.floats(-(2.0**-17), 2.0**-17, width=32)
KINKS = {"identity": [], "relu": [0.0], "hard_sigmoid": [0.0, 1.0]}
EPSILON = torch.finfo(torch.float32).eps


def single(name: str, a: float, delta: float, alpha: float) -> tuple[float, float, float, float]:
    """The difference that float32 finds, its inputs, and the difference of float64."""
    f = Activation.of(name)
    basal, apical = (torch.tensor([v], dtype=torch.float32) for v in (a, delta))
    plus, minus = dyad.relax(f, basal, apical, alpha), dyad.relax(f, basal, apical, alpha - 1.0)
    found = f.difference(plus, minus, apical)
    assert found.dtype == torch.float32
    a, delta = basal.item(), apical.item()
    f_of = SCALARS[name]
    return found.item(), a, delta, f_of(a + alpha * delta) - f_of(a - (1 - alpha) * delta)


@pytest.mark.parametrize("name", list(KINKS))
@settings(max_examples=300)
@given(a=potentials, delta=pushes, alpha=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@example(a=1.0, delta=1e-9, alpha=0.5)
@example(a=0.0, delta=0.0, alpha=0.5)
@example(a=1.0, delta=1e-30, alpha=0.0)
def test_a_difference_loses_no_digits(name: str, a: float, delta: float, alpha: float) -> None:
    """Between the kinks it is the apical potential itself, or nothing; only at a kink does the
    rounding of the states come in."""
    found, a, delta, exact = single(name, a, delta, alpha)
    ends = sorted([a + alpha * delta, a - (1 - alpha) * delta])
    rounding = EPSILON * (abs(a) + abs(delta))
    if any(ends[0] - rounding <= kink <= ends[1] + rounding for kink in KINKS[name]):
        assert found == pytest.approx(exact, rel=0, abs=2 * rounding)
    else:
        linear = name == "identity" or 0 < a < (math.inf if name == "relu" else 1)
        assert found == (delta if linear else 0.0)


@settings(max_examples=300)
@given(a=st.floats(-1.5, 1.5), delta=pushes, alpha=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@example(a=1.0, delta=1e-30, alpha=0.5)
def test_a_difference_of_tanh_loses_no_digits(a: float, delta: float, alpha: float) -> None:
    """tanh x − tanh y = sinh(x − y) / (cosh x cosh y), in float64."""
    found, a, delta, _ = single("tanh", a, delta, alpha)
    above, below = a + alpha * delta, a - (1 - alpha) * delta
    exact = math.sinh(delta) / (math.cosh(above) * math.cosh(below))
    share = 1 - math.tanh(above) * math.tanh(below)  # what is left of 1 where tanh saturates
    assert found == pytest.approx(exact, rel=6 * EPSILON / share, abs=1e-44)


@pytest.mark.parametrize("name", ALONE)
def test_a_difference_is_that_of_the_states_in_any_shape(name: str) -> None:
    draws = torch.Generator().manual_seed(0)
    a, delta = (torch.randn(50, 3, 4, generator=draws, dtype=torch.float64) for _ in range(2))
    plus = dyad.relax(Activation.of(name), a, delta, 0.3)
    minus = dyad.relax(Activation.of(name), a, delta, -0.7)
    found = Activation.of(name).difference(plus, minus, delta)
    torch.testing.assert_close(found, plus - minus, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", sorted(Activation.family))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (40, 600), (2, 3, 5, 4), (64, 8, 9, 9)])
@pytest.mark.parametrize("stored", [torch.Tensor.contiguous, by_position])
def test_both_states_at_once_are_those_of_each_alone(
    name: str, dtype: torch.dtype, shape: tuple[int, ...], stored: Callable[[Tensor], Tensor]
) -> None:
    """Bit for bit, and in arrays of their own as far as a write goes."""
    draws = torch.Generator().manual_seed(1)
    f = Activation.of(name)
    basal, apical = (stored(torch.randn(shape, generator=draws, dtype=dtype)) for _ in range(2))
    before = basal.clone(), apical.clone()
    for weight in (0.5, -0.25, 2.0):
        plus, minus = dyad.relax_both(f, basal, apical, weight)
        assert torch.equal(plus, dyad.relax(f, basal, apical, weight))
        assert torch.equal(minus, dyad.relax(f, basal, apical, -weight))
        assert plus.stride() == minus.stride() == dyad.relax(f, basal, apical, weight).stride()
        kept = minus.clone()
        plus.zero_()
        assert torch.equal(minus, kept)
    assert torch.equal(basal, before[0])
    assert torch.equal(apical, before[1])
