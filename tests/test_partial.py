"""What is computed for some dyads is what the dense operation computes for all, by every route."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from fewer import randomly
from hypothesis import assume, given
from hypothesis import strategies as st
from random_operators import convolutions, pool_projections, random, weight_of
from torch import Tensor

import neurosim as ns
from neurosim.base.errors import NetworkError
from neurosim.maths.operators import planes, pooling
from neurosim.maths.operators.base import PATCH_GATHER_COST, Operator, gather_pays
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.maths.operators.pooling import Pool
from neurosim.maths.operators.sliding import NOWHERE, Windows, needed, packed
from neurosim.schedules.units import Layout, UnitKind
from neurosim.tensors.order import by_position
from neurosim.tensors.selection import Selection
from tests.conformance.cases import Case

CPU = torch.device("cpu")
ALWAYS, NEVER = -(10**9), 10**9  # costs with which gathering always or never pays
ROUTES = st.sampled_from([(ALWAYS, ALWAYS), (ALWAYS, NEVER), (NEVER, NEVER), None])
UNITS = st.builds(
    ns.Unit, st.sampled_from([kind for kind in get_args(UnitKind) if kind not in ("tile", "block")])
) | st.builds(ns.Unit, st.sampled_from(["tile", "block"]), st.integers(1, 6))
GEOMETRIES = st.one_of(convolutions(pooled=False), convolutions(pooled=True), pool_projections())
SEEDS = st.integers(0, 2**16)
ORDERS = st.sampled_from([torch.clone, by_position])


@contextmanager
def costs(route: tuple[int, int] | None) -> Iterator[None]:
    """With these costs of gathering patches and of gathering for pools, and with products for few
    channels where the latter never pays; None for the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        if route is not None:
            for name in ("PATCH_GATHER_COST", "POSITION_GATHER_COST"):
                patch.setattr(planes, name, route[0])
            patch.setattr(pooling, "POOL_GATHER_COST", route[1])
            few = route[1] == NEVER
            patch.setattr(planes, "few_pay", lambda *_: few)
        yield


def woken(shape: tuple[int, ...], unit: ns.Unit, seed: int) -> Selection:
    """Some units of a population of that shape, but not all."""
    network = ns.Network.from_dict(
        {
            "populations": {
                "input": {"shape": [1], "role": "input"},
                "h": {"shape": list(shape)},
                "output": {"shape": [1], "role": "output"},
            },
            "projections": [{"from": "input", "to": "h"}, {"from": "h", "to": "output"}],
        }
    )
    layout = Layout(network, unit)
    count = int(layout.counts[0])
    assume(count > 1)
    generator = np.random.default_rng(seed)
    units = np.sort(generator.permutation(count)[: generator.integers(1, count)])
    selection = layout.selection(0, units, None, CPU)
    assert selection is not None
    return selection


def close(found: Tensor, dense: Tensor, selection: Selection) -> bool:
    """Within 1e-12 of the largest value of the whole population."""
    expected = selection.take(dense)
    assert found.shape == expected.shape
    return bool((found - expected).abs().max() <= 1e-12 * dense.abs().max())


def check(
    operator: Operator,
    mean: Tensor,
    weight: Tensor | None,
    bias: Tensor,
    difference: Tensor,
    post: Selection,
    pre: Selection,
    route: tuple[int, int] | None,
) -> None:
    dense, winners = operator.basal(mean, weight, bias, None)
    back = operator.apical(difference, weight, winners, None)
    with costs(route):
        found, won = operator.basal(mean, weight, bias, post)
        found_back = operator.apical(difference, weight, winners, pre)
    assert close(found, dense, post)
    assert (won is None) == (winners is None)
    if won is not None and winners is not None:
        assert torch.equal(won, post.take(winners))
    assert close(found_back, back, pre)


# ---- operators -----------------------------------------------------------------------------------


@given(
    operator=GEOMETRIES,
    unit=UNITS,
    route=ROUTES,
    batch=st.integers(1, 3),
    seed=SEEDS,
    order=ORDERS,
)
def test_every_unit_kind_and_geometry(
    operator: Operator, unit: ns.Unit, route: Any, batch: int, seed: int, order: Any
) -> None:
    post, pre = woken(operator.post, unit, seed), woken(operator.pre, unit, seed + 1)
    mean, weight = random(seed, batch, *operator.pre), weight_of(operator, seed + 1)
    bias, difference = random(seed + 2, operator.post[0]), random(seed + 3, batch, *operator.post)
    assert operator.forward_selects(post, batch)
    assert operator.adjoint_selects(pre, batch)
    check(operator, order(mean), weight, bias, order(difference), post, pre, route)


@given(
    operator=convolutions(pooled=True) | pool_projections(),
    unit=UNITS,
    route=ROUTES,
    seed=SEEDS,
    order=ORDERS,
)
def test_ties_are_decided_alike(
    operator: Operator, unit: ns.Unit, route: Any, seed: int, order: Any
) -> None:
    """Small whole numbers are added without round-off, so that equal values are exactly equal."""
    post, pre = woken(operator.post, unit, seed), woken(operator.pre, unit, seed + 1)
    generator = np.random.default_rng(seed)

    def few(*shape: int) -> Tensor:
        return torch.from_numpy(generator.integers(-1, 2, shape).astype(np.float64))

    weight = None if operator.weight_shape is None else few(*operator.weight_shape)
    mean, bias, difference = few(2, *operator.pre), few(operator.post[0]), few(2, *operator.post)
    check(operator, order(mean), weight, bias, order(difference), post, pre, route)


@pytest.mark.parametrize("width", [5, 40])
def test_many_positions_at_once(width: int) -> None:
    """Matrix products with few columns are merged over the batch, others are not."""
    conv = Conv2d((3, 9, 9), (4, 9, 9))
    dyads = np.arange(4 * 81).reshape(4, 81)[:, 7 : 7 + width].reshape(-1)
    post = Selection(conv.post, dyads, CPU)
    pre = Selection(conv.pre, dyads[: 3 * width], CPU)
    weight, bias = weight_of(conv), random(3, 4)
    arrays = random(1, 2, 3, 9, 9), weight, bias, random(2, 2, 4, 9, 9)
    check(conv, *arrays, post, pre, (ALWAYS, ALWAYS))


# ---- windows -------------------------------------------------------------------------------------

PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(plane=PAIRS, kernel=PAIRS, stride=PAIRS, padding=PAIRS)
def test_windows(
    plane: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    """Against a walk over all windows and all taps."""
    windows = Windows(plane, kernel, stride, padding)
    height, width = windows.output
    assume(height > 0 and width > 0)
    covered = np.full((height * width, kernel[0] * kernel[1]), NOWHERE)
    covering = np.full((plane[0] * plane[1], kernel[0] * kernel[1]), NOWHERE)
    for window, (row, column) in enumerate(np.ndindex(height, width)):
        for tap, (down, right) in enumerate(np.ndindex(*kernel)):
            y = row * stride[0] + down - padding[0]
            x = column * stride[1] + right - padding[1]
            if 0 <= y < plane[0] and 0 <= x < plane[1]:
                covered[window, tap] = y * plane[1] + x
                covering[y * plane[1] + x, tap] = window
    assert windows.covered(np.arange(height * width)).tolist() == covered.tolist()
    assert windows.covering(np.arange(plane[0] * plane[1])).tolist() == covering.tolist()


def test_indices() -> None:
    index = np.array([[7, NOWHERE, 3], [NOWHERE, 7, NOWHERE]])
    distinct, where = needed(index)
    assert distinct.tolist() == [3, 7]
    assert where.tolist() == [[1, NOWHERE, 0], [NOWHERE, 1, NOWHERE]]
    assert packed(index).tolist() == [[7, 3], [7, NOWHERE]]
    distinct, where = needed(np.full((2, 1), NOWHERE))
    assert (distinct.tolist(), where.tolist()) == ([0], [[NOWHERE], [NOWHERE]])
    assert packed(np.full((2, 3), NOWHERE)).tolist() == [[NOWHERE], [NOWHERE]]


# ---- what is computed ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dyads", "box"),
    [
        ([0, 1, 2, 3, 4, 5], ([0], [0, 1, 2, 3, 4, 5])),
        ([1, 4, 7, 10, 13, 16], ([0, 1, 2], [1, 4])),
        ([2, 9], ([0, 1], [2, 3])),
    ],
)
def test_box(dyads: list[int], box: tuple[list[int], list[int]]) -> None:
    selection = Selection((3, 2, 3), np.array(dyads), CPU)
    assert tuple(found.tolist() for found in selection.box) == box
    array = random(0, 2, 3, 2, 3)
    channels, positions = selection.box
    inside = array[:, channels].flatten(2)[:, :, positions]
    assert torch.equal(selection.cut(inside), selection.take(array))
    assert torch.equal(selection.cut(array[:, channels]), selection.take(array))


@pytest.mark.parametrize(
    ("channels", "share", "pays"), [(256, 0.5, True), (64, 0.1, True), (1, 0.1, False)]
)
def test_patches_pay_where_many_channels_use_them(channels: int, share: float, pays: bool) -> None:
    assert gather_pays(int(1000 * share), 1000, channels, PATCH_GATHER_COST) == pays


# ---- simulations ---------------------------------------------------------------------------------


def layer_of(operator: Conv2d | Pool2d) -> dict[str, Any]:
    """As a network file has it."""
    layer: dict[str, Any] = {}
    if isinstance(operator, Conv2d):
        sizes = {key: list(getattr(operator, key)) for key in ("kernel", "stride", "padding")}
        layer = {"conv": operator.post[0]} | sizes
    pool = operator.pool
    if pool is not None:
        sizes = {key: list(getattr(pool, key)) for key in ("kernel", "stride", "padding")}
        layer["pool"] = {"kind": pool.kind} | sizes
    return layer


@st.composite
def networks(draw: st.DrawFn) -> ns.Network:
    conv = draw(convolutions())
    try:
        second = replace(draw(convolutions()), pre=conv.post)
        second = replace(second, post=second.output_shape)
        pool = draw(st.none() | st.builds(Pool, st.sampled_from(["max", "avg"])))
        last = None if pool is None else Pool2d(second.post, pool.output(second.post), pool)
    except NetworkError:
        assume(False)
        raise
    chain = [layer_of(operator) for operator in (conv, second, last) if operator is not None]
    layers = [*chain, {"dense": 3}]
    return ns.Network.from_dict({"input": list(conv.pre), "activation": "tanh", "layers": layers})


@randomly(30, 150, networks(), UNITS, ROUTES, SEEDS)
def test_a_whole_simulation(network: ns.Network, unit: ns.Unit, route: Any, seed: int) -> None:
    model = ns.Model(network, seed=seed, dtype=torch.float64)

    def make(compute: Any) -> ns.Simulation:
        schedule = ns.schedules.Poisson(unit=unit, rate=0.5, duration=10.0)
        return ns.Simulation(model, schedule=schedule, init="zero", compute=compute, seed=seed)

    x, target = random(seed, 2, *network.input.shape), torch.eye(3, dtype=torch.float64)[:2]
    dense, partial = make("dense"), make("auto")
    expected = dense.infer(x, target)
    with costs(route):
        found = partial.infer(x, target)
    for name in expected.plus:
        for one, other in ((found.plus, expected.plus), (found.minus, expected.minus)):
            scale = other[name].abs().max().clamp(min=1.0)
            assert (one[name] - other[name]).abs().max() <= 1e-12 * scale
    gradients = partial.gradients()
    for name, value in dense.gradients().items():
        assert (gradients[name] - value).abs().max() <= 1e-12 * value.abs().max().clamp(min=1.0)


# ---- winners where few means have changed --------------------------------------------------------


@pytest.fixture
def small_arrays_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for what has changed in arrays of any size, however much it is."""
    monkeypatch.setattr(planes._Planar, "large", 0)
    monkeypatch.setattr(planes, "PATCH_GATHER_COST", ALWAYS)


@pytest.mark.usefixtures("small_arrays_too")
@given(operator=convolutions(pooled=True), share=st.floats(0, 0.5), seed=SEEDS, order=ORDERS)
def test_winners_of_the_means_that_changed(
    operator: Conv2d, share: float, seed: int, order: Any
) -> None:
    weight, mean = weight_of(operator, seed), random(seed, 3, *operator.pre)
    bias = random(seed + 1, operator.post[0])
    before = operator.basal(mean, weight, bias, None)[1]
    changed = torch.from_numpy(np.random.default_rng(seed).random(mean.shape) < share)
    after = torch.where(changed, random(seed + 2, *mean.shape), mean)
    expected = operator.basal(after, weight, bias, None)[1]
    if before is None or expected is None or operator.is_soft:
        assert operator.winners_after(mean, after, weight, bias, changed) is None
        return
    kept = before.clone()
    found = operator.winners_after(before, order(after), weight, bias, changed)
    assert found is not None
    assert torch.equal(found, expected)
    assert torch.equal(before, kept)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["backward", "parallel", "random_order", "poisson"])
@pytest.mark.parametrize("init", ["feedforward", "carry"])
def test_gradients_through_winners_of_the_means_that_changed(
    schedule: str, init: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case("conv", schedule, "population", init, "prediction" if init != "carry" else None)
    used = []
    found = planes._Planar.winners_after

    def noted(*arguments: Any) -> Tensor | None:
        used.append(winners := found(*arguments))
        return winners

    gradients: list[list[Tensor]] = [[], []]
    for few, kept in zip((True, False), gradients, strict=True):
        with monkeypatch.context() as patch:
            if few:
                patch.setattr(planes._Planar, "large", 0)
                patch.setattr(planes, "PATCH_GATHER_COST", ALWAYS)
                patch.setattr(planes._Planar, "winners_after", noted)
            setup = case.build()
            for number in range(4):
                setup.start(number % 2)
                setup.simulation.advance()
                setup.simulation.finish()
                kept += setup.simulation.gradients().values()
                for parameter in setup.simulation.model.parameters():  # as a step does
                    parameter.detach().mul_(1.01)
    # By a clock there is always somebody who has yet to look.
    assert schedule == "poisson" or any(winners is not None for winners in used)
    assert all(map(torch.equal, *gradients))


@pytest.mark.usefixtures("small_arrays_too")
@pytest.mark.usefixtures("small_arrays_too")
def test_a_weight_that_is_written_after_an_inference_counts() -> None:
    """Also where no mean at all has changed since the last winners were found."""
    setup = Case("conv", "backward", "population", "feedforward", "prediction").build()
    setup.infer(0)
    link = next(one for one in setup.simulation.state.links if one.operator.has_winners)
    link.winners.set(link.forward(None)[1])
    link.basal_stale.clear(None)
    link.touch("mean", torch.zeros_like(link.pre.plus.value, dtype=torch.bool))
    before = link.present_winners()
    assert before is link.winners.tensor
    assert link.weight is not None
    link.weight.detach().neg_()
    after, expected = link.present_winners(), link.forward(None)[1]
    assert after is not None
    assert expected is not None
    assert torch.equal(after, expected)
    assert not torch.equal(after, before)
