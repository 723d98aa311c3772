"""A linear chain with delays against its closed-form solution, at every tick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings, strategies as st

import neurosim as ns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BATCH, TICKS = 2, 40


def make_model(sizes: Sequence[int], seed: int, gain: float) -> ns.Model:
    """A linear chain; ‖W‖ is about ``gain``, so that 40 ticks neither blow up nor vanish."""
    layers = [{"name": f"p{k}", "dense": n, "activation": "identity"} for k, n in enumerate(sizes)]
    network = ns.Network.from_dict({"input": 3, "layers": layers})
    model = ns.Model(network, seed=0, dtype=torch.float64)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            values = generator.standard_normal(tuple(parameter.shape))
            if values.ndim == 2:
                values *= gain / np.linalg.norm(values, 2)
            parameter.copy_(torch.from_numpy(values))
    return model


def make_data(outputs: int, seed: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng([seed, 1])
    return generator.standard_normal((BATCH, 3)), generator.standard_normal((BATCH, outputs))


def parameters_of(model: ns.Model) -> tuple[list[Floats], list[Floats]]:
    """Weights and biases, layer by layer."""
    values = {name: p.detach().numpy() for name, p in model.named_parameters()}
    depth = len(model.network.dyadic)
    return [values[f"p{k}.weight"] for k in range(depth)], [
        values[f"p{k}.bias"] for k in range(depth)
    ]


def simulate(
    model: ns.Model,
    rule: ns.DualPropagation,
    channels: dict[str, dict[str, ns.Channel]],
    x: Floats,
    y: Floats,
    unit: str = "population",
) -> tuple[list[list[tuple[Floats, Floats]]], dict[str, Floats]]:
    """(mean, difference) of every population after every tick of a parallel schedule, and the
    gradients at the end."""
    simulation = ns.Simulation(
        model,
        rule=rule,
        schedule=ns.schedules.Parallel(TICKS, unit=unit),  # type: ignore[arg-type]
        channels=ns.Channels(overrides=channels),  # type: ignore[arg-type]
        init="zero",
        nudge_after=0,
    )
    simulation.start(torch.from_numpy(x), torch.from_numpy(y))
    found = []
    for _ in range(TICKS):
        simulation.advance(1)
        states = [
            (cell.plus.value.numpy(), cell.minus.value.numpy()) for cell in simulation.state.cells
        ]
        alpha = rule.alpha
        found.append([(alpha * p + (1 - alpha) * m, p - m) for p, m in states])
    return found, {name: g.numpy() for name, g in simulation.gradients().items()}


def assert_close(found: list[list[tuple[Floats, Floats]]], expected: list[Any]) -> None:
    """To 1e-13 of the largest number."""
    assert len(found) == len(expected)
    scale = max(float(np.abs(a).max()) for tick in expected for pair in tick for a in pair)
    for tick, (one, other) in enumerate(zip(found, expected, strict=True), 1):
        for k, (pair, wanted) in enumerate(zip(one, other, strict=True)):
            for kind, a, b in zip(("mean", "difference"), pair, wanted, strict=True):
                assert np.abs(a - b).max() <= 1e-13 * max(scale, 1.0), (tick, k, kind)


# ---- without loops: sums over paths --------------------------------------------------------------


@given(
    depth=st.integers(1, 4),
    forward=st.lists(st.integers(1, 7), min_size=4, max_size=4),
    back=st.lists(st.integers(1, 7), min_size=4, max_size=4),
    rule=st.sampled_from(
        [
            ns.DualPropagation(0.5, 0.7, "aro", "potential"),
            ns.DualPropagation(0.2, 0.7, "lagrangian", "potential"),
        ]
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40)
def test_steps_at_the_sums_of_delays(
    depth: int, forward: list[int], back: list[int], rule: ns.DualPropagation, seed: int
) -> None:
    """At α = ½, and under DP⊤, no difference reaches a mean: influences have no loops.

    A bias (in the first layer, the input too) acts from tick 1 on in its own layer, and then
    further up by every weight, each dₖ ticks later, as nothing else ever changes:

        s̄ₖ(n) = Σ_{j≤k} [n > d_{j+1} + … + dₖ] Wₖ ⋯ W_{j+1} cⱼ,   c₁ = b₁ + W₁x, cⱼ = bⱼ,

    with dₖ the delay of the means into layer k (not of the input's, which is there at the start).
    The output's difference is −β(s̄ − y) of its own potential, also with nothing heard yet:

        δ_L(n) = −β (a_L(n) − y),   δₖ(n) = [n > e] W_{k+1}ᵀ ⋯ W_Lᵀ δ_L(n − e),

    with e = e_{k+1} + … + e_L, eₖ being the delay of the differences out of layer k. Under DP⊤ the
    mean at the output is its potential too.
    """
    sizes = [4, 3, 5, 2][:depth]
    model = make_model(sizes, seed, 1.0)
    x, y = make_data(sizes[-1], seed)
    weights, biases = parameters_of(model)
    sources = [biases[0] + x @ weights[0].T, *biases[1:]]

    def mean(k: int, n: int) -> Floats:
        total: Any = np.zeros((BATCH, sizes[k]))
        for j in range(k + 1):
            if n > sum(forward[j + 1 : k + 1]):
                part = sources[j]
                for i in range(j + 1, k + 1):
                    part = part @ weights[i].T
                total = total + part
        return total

    def difference(k: int, n: int) -> Floats:
        late = sum(back[k + 1 : depth])
        if n <= late:
            return np.zeros((BATCH, sizes[k]))
        value = -rule.beta * (mean(depth - 1, n - late) - y)
        for i in range(depth - 1, k, -1):
            value = value @ weights[i]
        return value

    expected = [[(mean(k, n), difference(k, n)) for k in range(depth)] for n in range(1, TICKS + 1)]
    channels = {
        f"p{k}": {
            "mean": ns.Channel(delay=float(forward[k])),
            "difference": ns.Channel(delay=float(back[k])),
        }
        for k in range(1, depth)
    }
    found, _ = simulate(model, rule, channels, x, y)
    assert_close(found, expected)


# ---- with loops: the power of a matrix -----------------------------------------------------------


def closed_form(
    model: ns.Model,
    rule: ns.DualPropagation,
    delays: dict[tuple[int, str], Ints],
    x: Floats,
    y: Floats,
) -> list[list[tuple[Floats, Floats]]]:
    """The states after every tick, from powers of one matrix.

    With z(n) the means and differences of all dyads, one tick of a linear chain is

        z(n) = Σ_d A_d z(n − d) + c,   z(n) = 0 for n ≤ 0,

    A_d holding those entries of A whose synapse is late by d ticks (``delays``, of the weight's
    shape, by layer and kind). A hidden dyad's mean is a + tΔ with t = αw⁺ − (1−α)w⁻, and its
    difference is Δ; s⁺ = u⁺(a + w⁺βF), s⁻ = u⁻(a − w⁻βF) at the output, with u± = 1 and F = y − a
    (potential) or u⁺ = 1/(1 + w⁺β), u⁻ = 1/(1 − w⁻β) and F = y (proximal). So for
    Z(n) = (z(n), z(n−1), …, z(n−D+1), 1) there is one matrix M with Z(n) = Mⁿ Z(0).
    """
    weights, biases = parameters_of(model)
    sizes = [len(b) for b in biases]
    depth, total = len(sizes), 2 * sum(sizes)
    edges = np.cumsum([0, *sizes])
    means = [slice(edges[k], edges[k + 1]) for k in range(depth)]
    differences = [slice(edges[-1] + s.start, edges[-1] + s.stop) for s in means]
    longest = max((int(d.max()) for d in delays.values()), default=1)
    alpha, beta, (w_plus, w_minus) = rule.alpha, rule.beta, rule.weights
    tilt = alpha * w_plus - (1 - alpha) * w_minus

    # What a potential adds to mean and difference, and the output's own share.
    gains = [(1.0, 0.0)] * (depth - 1)
    if rule.nudge == "potential":
        plus, minus = (1 - w_plus * beta, w_plus * beta), (1 + w_minus * beta, -w_minus * beta)
    else:
        u_plus, u_minus = 1 / (1 + w_plus * beta), 1 / (1 - w_minus * beta)
        plus, minus = (u_plus, u_plus * w_plus * beta), (u_minus, -u_minus * w_minus * beta)
    gains.append((alpha * plus[0] + (1 - alpha) * minus[0], plus[0] - minus[0]))
    share = alpha * plus[1] + (1 - alpha) * minus[1], plus[1] - minus[1]

    found = []
    late = np.zeros((longest, total, total))
    for k in range(1, depth):
        for d in range(1, longest + 1):
            up = weights[k] * (delays[k, "mean"] == d)
            late[d - 1][means[k], means[k - 1]] += gains[k][0] * up
            late[d - 1][differences[k], means[k - 1]] += gains[k][1] * up
            down = (weights[k] * (delays[k, "difference"] == d)).T
            late[d - 1][means[k - 1], differences[k]] += tilt * down
            late[d - 1][differences[k - 1], differences[k]] += down
    for sample in range(BATCH):
        constant = np.zeros(total)
        for k in range(depth):
            basal = biases[k] + (weights[0] @ x[sample] if k == 0 else 0.0)
            constant[means[k]] += gains[k][0] * basal
            constant[differences[k]] += gains[k][1] * basal
        constant[means[-1]] += share[0] * y[sample]
        constant[differences[-1]] += share[1] * y[sample]
        matrix = np.zeros((longest * total + 1,) * 2)
        matrix[:total, :-1] = np.concatenate(late, axis=1)
        matrix[:total, -1] = constant
        matrix[total:-1, : (longest - 1) * total] = np.eye((longest - 1) * total)
        matrix[-1, -1] = 1.0
        powers = [np.linalg.matrix_power(matrix, n)[:total, -1] for n in range(1, TICKS + 1)]
        found.append([[(z[means[k]], z[differences[k]]) for k in range(depth)] for z in powers])
    return [
        [
            tuple(np.stack([found[b][n][k][i] for b in range(BATCH)]) for i in (0, 1))
            for k in range(depth)
        ]
        for n in range(TICKS)
    ]  # type: ignore[return-value]


RULES = [
    ns.DualPropagation(0.5, 0.6, "aro", "potential"),
    ns.DualPropagation(0.2, 0.6, "aro", "proximal"),
    ns.DualPropagation(0.8, 0.6, "aro", "potential"),
    ns.DualPropagation(1.0, 0.6, "aro", "proximal"),
    ns.DualPropagation(0.3, 0.6, "lagrangian", "proximal"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: f"{r.variant}-{r.alpha}-{r.nudge}")
@pytest.mark.parametrize("per", ["projection", "dyad", "synapse"])
@given(data=st.data())
@settings(max_examples=4)
def test_the_power_of_a_matrix(rule: ns.DualPropagation, per: str, data: st.DataObject) -> None:
    """Every kind of message on every projection has delays of its own.

    A synapse learns from its own dyad's difference and the mean as it sees it, d ticks late: with
    the closing delivery, −1/(βB) Σ δᵢ(N) s̄ⱼ(N + 1 − dᵢⱼ).
    """
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    seed = data.draw(st.integers(0, 1000))
    model = make_model(sizes, seed, 0.6)
    x, y = make_data(sizes[-1], seed)
    generator = np.random.default_rng([seed, 2])
    delays: dict[tuple[int, str], Ints] = {}
    channels: dict[str, dict[str, ns.Channel]] = {}
    for k in range(1, len(sizes)):
        post, pre = sizes[k], sizes[k - 1]
        channels[f"p{k}"] = {}
        for kind, sender in (("mean", (1, pre)), ("difference", (post, 1))):
            shape = {"projection": (1, 1), "dyad": sender, "synapse": (post, pre)}[per]
            drawn = generator.integers(1, 6, shape)
            delays[k, kind] = np.broadcast_to(drawn, (post, pre))
            given_: Any = torch.from_numpy(drawn.astype(float))
            if per == "projection":
                given_ = float(drawn.item())
            elif per == "dyad":
                given_ = given_.flatten()
            channels[f"p{k}"][kind] = ns.Channel(delay=given_)
    expected = closed_form(model, rule, delays, x, y)
    found, gradients = simulate(model, rule, channels, x, y)
    assert_close(found, expected)
    for k in range(1, len(sizes)):
        seen = np.stack([expected[TICKS - d][k - 1][0] for d in range(1, 6)])
        late = delays[k, "mean"] - 1
        error = expected[-1][k][1]
        gradient = sum(
            error[b][:, None] * seen[late, b, np.arange(sizes[k - 1])] for b in range(BATCH)
        )
        gradient = gradient / (-rule.beta * BATCH)
        scale = max(1.0, float(np.abs(gradient).max()))
        assert np.abs(gradients[f"p{k}.weight"] - gradient).max() <= 1e-12 * scale


def test_whatever_the_unit() -> None:
    """A parallel schedule of single neurons, each a simulated process, is no other system."""
    sizes, rule = [3, 4, 2], RULES[1]
    model = make_model(sizes, 3, 0.6)
    x, y = make_data(2, 3)
    delays = {
        (k, kind): np.full((sizes[k], sizes[k - 1]), d)
        for k, kind, d in [
            (1, "mean", 3),
            (1, "difference", 5),
            (2, "mean", 4),
            (2, "difference", 2),
        ]
    }
    channels: dict[str, dict[str, ns.Channel]] = {"p1": {}, "p2": {}}
    for (k, kind), late in delays.items():
        channels[f"p{k}"][kind] = ns.Channel(delay=float(late[0, 0]))
    expected = closed_form(model, rule, delays, x, y)
    assert_close(simulate(model, rule, channels, x, y, "neuron")[0], expected)
