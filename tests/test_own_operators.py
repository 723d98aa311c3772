"""Operators that define no more than they must, against the literal matrix and autograd."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_maths import Depthwise, Local, Slope, Turned, registered
from random_operators import (
    CPU,
    TOLERANCE,
    bias_of,
    channel_selection as channels_of,
    check_selection,
    position_selection as positions_of,
    random,
    some_of,
    weight_of,
)
from torch import Tensor

import neurosim as ns
from neurosim.base.errors import NetworkError, PluginError
from neurosim.maths.operators.base import Operator
from neurosim.maths.operators.dense import Dense
from neurosim.maths.spectrum import spectral_norm
from neurosim.tensors.order import by_position
from neurosim.tensors.selection import Selection

OWN = {
    "depthwise": Depthwise((2, 4, 5), (2, 4, 5)),
    "local": Local((2, 4, 5), (3, 3, 4), 3, 2),
    "slope": Slope((6,), (6,)),
    "turned": Turned((2, 3, 4), (2, 4, 3)),
}


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    with registered(*OWN):
        yield


@pytest.fixture(params=list(OWN))
def operator(request: pytest.FixtureRequest) -> Operator:
    return OWN[request.param]


def entry(operator: Operator, post: tuple[int, ...], pre: tuple[int, ...], weight: Any) -> float:
    """The factor between two dyads, as the definition has it, one by one."""
    match operator:
        case Depthwise():
            high, wide = (
                a - b + operator.size // 2 for a, b in zip(pre[1:], post[1:], strict=True)
            )
            inside = 0 <= high < operator.size and 0 <= wide < operator.size
            return weight[post[0], 0, high, wide] if inside and pre[0] == post[0] else 0.0
        case Local():
            high, wide = (a - b for a, b in zip(pre[1:], post[1:], strict=True))
            if not (0 <= high < operator.size and 0 <= wide < operator.size):
                return 0.0
            tap = (pre[0] * operator.size + high) * operator.size + wide
            return weight[post[0], tap, post[1] * operator.post[2] + post[2]]
        case Slope():
            return float(pre == post) - float(pre[0] == (post[0] + 1) % operator.pre[0])
        case Turned():
            return float(pre == (post[0], post[2], post[1]))
    raise AssertionError


def matrix(operator: Operator, weight: Tensor | None) -> Tensor:
    values = None if weight is None else weight.numpy()
    rows = [
        [entry(operator, post, pre, values) for pre in np.ndindex(*operator.pre)]
        for post in np.ndindex(*operator.post)
    ]
    return torch.tensor(rows, dtype=torch.float64)


# ---- against the definition ----------------------------------------------------------------------


def test_products(operator: Operator) -> None:
    """With a bias, in both orders of memory, and never as a view of what was sent."""
    weight, bias = weight_of(operator, 1), bias_of(operator, 2)
    literal = matrix(operator, weight)
    shaped = bias if len(operator.post) == 1 else bias[:, None, None]
    for order in (torch.clone, by_position):
        mean, difference = order(random(0, 3, *operator.pre)), order(random(3, 3, *operator.post))
        found, winners = operator.basal(mean, weight, None, None)
        back = operator.apical(difference, weight, winners, None)
        assert winners is None
        torch.testing.assert_close(found.flatten(1), mean.flatten(1) @ literal.T, **TOLERANCE)
        torch.testing.assert_close(back.flatten(1), difference.flatten(1) @ literal, **TOLERANCE)
        biased, _ = operator.basal(mean, weight, bias, None)
        torch.testing.assert_close(biased, found + shaped, **TOLERANCE)
        for values, sent in ((found, mean), (back, difference)):
            assert values.is_contiguous()
            assert values.untyped_storage().data_ptr() != sent.untyped_storage().data_ptr()


def test_weight_gradient(operator: Operator) -> None:
    mean, difference = random(0, 3, *operator.pre), random(1, 3, *operator.post)
    weight = weight_of(operator, 2)
    if weight is None:
        with pytest.raises(NetworkError, match=f"{type(operator).__name__} has no weight"):
            operator.weight_gradient(difference, mean)
        return
    with torch.no_grad():
        found = operator.weight_gradient(difference, mean)
    # ⟨δ, W s̄⟩ is linear in W: its derivative by one weight is its value where the others are zero.
    for place in np.ndindex(*weight.shape):
        alone = torch.zeros_like(weight)
        alone[place] = 1.0
        literal = mean.flatten(1) @ matrix(operator, alone).T
        assert found[place].item() == pytest.approx(float((difference.flatten(1) * literal).sum()))


def test_reach_and_fan_out(operator: Operator) -> None:
    shape = operator.weight_shape
    there = matrix(operator, None if shape is None else torch.ones(shape).double()) != 0
    generator = np.random.default_rng(0)
    for _ in range(10):
        sent = torch.from_numpy(generator.random(operator.pre) < 0.15)
        back = torch.from_numpy(generator.random(operator.post) < 0.15)
        reached = (there & sent.flatten()).any(1).view(operator.post)
        assert torch.equal(operator.forward_reach(sent), reached)
        reached = (there & back.flatten()[:, None]).any(0).view(operator.pre)
        assert torch.equal(operator.backward_reach(back), reached)
    assert torch.equal(operator.forward_fan_out(), there.sum(0).view(operator.pre))
    assert torch.equal(operator.backward_fan_out(), there.sum(1).view(operator.post))
    fans = (int(there.sum(1).max()), int(there.sum(0).max()))
    assert operator.fans == ((0, 0) if shape is None else fans)
    assert operator.output_shape == operator.post


def test_all_marks_reach_where_factors_cancel() -> None:
    """x[i] − x[i+1] of equal values is zero, but the synapses are there."""
    assert OWN["slope"].forward_reach(torch.ones(6, dtype=torch.bool)).all()


def test_selections(operator: Operator) -> None:
    for seed in range(4):
        post = Selection(operator.post, some_of(prod(operator.post), seed), CPU)
        pre = Selection(operator.pre, some_of(prod(operator.pre), seed + 1), CPU)
        check_selection(operator, post, pre, 2, seed)
        assert not operator.forward_selects(post, 2)
        if len(operator.pre) == 3:
            for some in (channels_of, positions_of):
                count = operator.pre[0] if some is channels_of else prod(operator.post[1:])
                post, pre = (some(s, some_of(count, seed)) for s in (operator.post, operator.pre))
                check_selection(operator, post, pre, 2, seed)


def test_spectral_norm(operator: Operator) -> None:
    """Of operators without a weight too: nothing says that it is 1."""
    weight = weight_of(operator, 1)
    expected = float(torch.linalg.matrix_norm(matrix(operator, weight), 2))
    assert spectral_norm(operator, weight) == pytest.approx(expected, rel=1e-10)


# ---- in networks ---------------------------------------------------------------------------------

CHAIN: dict[str, Any] = {
    "input": [2, 5, 6],
    "activation": "tanh",
    "layers": [
        {"name": "d", "op": "depthwise"},
        {"name": "l", "op": "local", "channels": 3, "size": 2, "activation": "relu"},
        {"name": "t", "op": "turned"},
        {"name": "f", "op": "dense", "shape": 6},
        {"name": "s", "op": "slope", "bias": True},
        {"name": "out", "dense": 3},
    ],
}
GRAPH: dict[str, Any] = {
    "populations": {
        "input": {"shape": [2, 5, 6], "role": "input"},
        "d": {"shape": [2, 5, 6], "activation": "tanh"},
        "l": {"shape": [3, 4, 5], "activation": "relu"},
        "t": {"shape": [3, 5, 4], "activation": "identity"},
        "f": {"shape": 6, "activation": "tanh"},
        "s": {"shape": 6, "activation": "identity", "bias": True},
        "out": {"shape": 3, "role": "output"},
    },
    "projections": [
        {"name": "d", "from": "input", "to": "d", "op": "depthwise", "size": 3},
        {"name": "l", "from": "d", "to": "l", "op": "local", "channels": 3, "size": 2},
        {"name": "t", "from": "l", "to": "t", "op": "turned"},
        {"name": "f", "from": "t", "to": "f"},
        {"name": "s", "from": "f", "to": "s", "op": "slope"},
        {"name": "out", "from": "s", "to": "out"},
    ],
}


def network() -> ns.Network:
    return ns.Network.from_dict(CHAIN)


def test_both_forms_and_python_make_the_same_network() -> None:
    made = network()
    assert made == ns.Network.from_dict(GRAPH)
    populations = (
        ns.Population("x", (6,), "identity", "input", False),
        ns.Population("s", (6,), "tanh"),
        ns.Population("y", (2,), "identity", "output"),
    )
    projections = (
        ns.Projection("s", "x", "s", Slope((6,), (6,))),
        ns.Projection("y", "s", "y", Dense((6,), (2,))),
    )
    by_hand = ns.Network(populations, projections)
    assert by_hand.projection("s").operator == made.projection("s").operator
    assert made.projection("l").operator == Local((2, 5, 6), (3, 4, 5), 3, 2)
    assert made.parameter_shapes()["d.weight"] == (2, 1, 3, 3)


RUNS: dict[str, Any] = {
    "neuron": {"groups": 12, "passes": 3},
    "channel": {"groups": 4, "passes": 3},
    "population": {"updates": 20},
}


def simulate(unit: Any, compute: Any, **options: Any) -> ns.Simulation:
    return ns.Simulation(
        ns.Model(network(), seed=1, dtype=torch.float64),
        schedule=ns.schedules.RandomOrder(unit, **RUNS[unit]),
        compute=compute,
        **options,
    )


X, Y = random(0, 2, 2, 5, 6), torch.eye(3, dtype=torch.float64)[:2]


@pytest.mark.parametrize("unit", list(RUNS))
def test_partial_wakes_are_the_dense_ones(unit: str) -> None:
    found, dense = (simulate(unit, compute) for compute in ("auto", "dense"))
    for sim in (found, dense):
        sim.infer(X, Y)
    for one, other in zip(found.state.cells, dense.state.cells, strict=True):
        torch.testing.assert_close(one.plus.value, other.plus.value, **TOLERANCE)
        torch.testing.assert_close(one.minus.value, other.minus.value, **TOLERANCE)
    for name, gradient in found.gradients().items():
        torch.testing.assert_close(gradient, dense.gradients()[name], **TOLERANCE)


def test_one_process_per_neuron_is_the_same() -> None:
    one, many = simulate("neuron", "auto"), simulate("neuron", "auto", processes="neuron")
    for sim in (one, many):
        sim.infer(X, Y)
    for ours, theirs in zip(one.state.cells, many.state.cells, strict=True):
        assert torch.equal(ours.plus.value, theirs.plus.value)
    assert one.counts == many.counts


def test_gradients_are_those_of_autograd() -> None:
    """One sweep of back-propagation up and down is `loss.backward()`."""
    sim = ns.Simulation(
        ns.Model(network(), seed=1, dtype=torch.float64),
        rule=ns.BackPropagation(),
        schedule=ns.schedules.Sweep("backward", 1),
    )
    sim.infer(X, Y)
    expected = ns.metrics.back_propagation(sim.model, sim.loss, X, Y)
    for name, gradient in sim.gradients().items():
        torch.testing.assert_close(gradient, expected[name], **TOLERANCE)


def test_saved_and_resumed() -> None:
    one, other = simulate("neuron", "auto"), simulate("neuron", "auto")
    one.start(X, Y)
    one.advance(17)
    other.load_state_dict(one.state_dict())
    ends = [(sim.advance(), sim.finish(), sim)[2] for sim in (one, other)]
    for ours, theirs in zip(*(sim.state.cells for sim in ends), strict=True):
        assert torch.equal(ours.plus.value, theirs.plus.value)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "line", "said"),
    [
        ("{op: local, size: 2}", "3:5", "layers[0]: needs the key 'channels'"),
        ("{op: local, size: two, channels: 1}", "3:23", "layers[0].size: expected a whole number"),
        ("{op: locla, size: 2}", "3:10", "layers[0]: unknown op 'locla'; did you mean 'local'?"),
        ("{op: turned, size: 2}", "3:18", "layers[0]: unknown key 'size'"),
        ("{op: slope, shape: 4}", "3:5", "slope makes [2, 5, 6], which does not fit [4]"),
        ("{op: local, size: 9, channels: 1}", "3:5", "from 'input' [2, 5, 6] to 'layer1': Local"),
    ],
)
def test_what_a_layer_must_not_say(tmp_path: Path, layer: str, line: str, said: str) -> None:
    path = tmp_path / "network.yaml"
    path.write_text(f"input: [2, 5, 6]\nlayers:\n  - {layer}\n  - dense: 3\n")
    with pytest.raises(ns.DocumentError) as caught:
        ns.Network.from_yaml(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert said in str(caught.value)


def test_an_operator_of_another_shape_is_refused() -> None:
    populations = (
        ns.Population("x", (2, 5, 6), "identity", "input", False),
        ns.Population("y", (2, 5, 6), "identity", "output"),
    )
    wrong = Turned((2, 5, 6), (2, 5, 6))
    with pytest.raises(NetworkError, match=r"its Turned makes \[2, 6, 5\] of \[2, 5, 6\]"):
        ns.Network(populations, (ns.Projection("t", "x", "y", wrong),))


def test_a_field_cannot_have_the_name_of_a_key() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Wrong(Slope):
        name: int = 3

    with pytest.raises(PluginError, match="'wrong' has a field name, which means something else"):
        ns.register("wrong")(Wrong)
