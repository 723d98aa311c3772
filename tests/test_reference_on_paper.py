"""The literal simulation itself: against torch, and pencil and paper; and what it has found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from literal import Example, check, error, model_of, simulate
from literal_examples import POOL, RANDOM, windows
from reference import Network
from reference_neurons import Rule
from reference_structure import structure

import neurosim as ns
from neurosim.maths.spectrum import spectral_norm


def test_the_reference_is_torch_when_fed_forward() -> None:
    description = POOL | {"layers": [dict(layer) for layer in POOL["layers"]]}
    description["layers"].insert(3, {"name": "p", "pool": {"kind": "avg", "kernel": [2, 1]}})
    description["layers"][0] |= {"stride": [1, 2], "kernel": [3, 2], "padding": 1}
    description["layers"][2]["pool"] = {"kind": "max", "kernel": 2, "stride": 1, "padding": 1}
    example = Example(
        description, Rule("aro", 0.5, 1.0, "potential"), "squared_error", "zero", 1, []
    )
    values = model_of(example).state_dict()
    f = torch.nn.functional
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 2, 6, 6)))
    h = f.conv2d(x, values["c1.weight"], values["c1.bias"], stride=(1, 2), padding=1)
    h = torch.relu(f.max_pool2d(h, 2))
    h = f.conv2d(h, values["c2.weight"], values["c2.bias"], padding=1)
    h = torch.relu(f.max_pool2d(h, 2, 1))
    h = f.conv2d(h, values["c3.weight"], values["c3.bias"], padding=1)
    h = torch.relu(f.max_pool2d(h, 2, 1, 1))
    h = f.avg_pool2d(h, (2, 1))
    h = f.linear(h.flatten(1), values["out.weight"], values["out.bias"])
    literal = Network(description, values, example.rule, "squared_error")
    literal.start(x, None, init="feedforward")
    assert error(h, literal.states("out")[0][None]) < 1e-14


@pytest.mark.parametrize("loss", ["squared_error", "cross_entropy"])
def test_the_reference_back_propagates(loss: str) -> None:
    """With DP⊤ and a small linearized nudge one downward sweep is back-propagation (DP24)."""
    x = torch.from_numpy(np.random.default_rng(5).standard_normal((1, 2, 6, 6)))
    y = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    rule = Rule("lagrangian", 0.25, 1e-3, "prediction")
    model = model_of(Example(POOL, rule, loss, "feedforward", 1, []))
    literal = Network(
        POOL, {k: v.detach().numpy() for k, v in model.state_dict().items()}, rule, loss
    )
    literal.start(x, y, init="feedforward")
    literal.replay([(float(t), p, None) for t, p in enumerate(("out", "c3", "c2", "c1"), 1)])
    prediction = model(x)
    value = 0.5 * (prediction - y).square().sum()
    if loss == "cross_entropy":
        value = -(y * torch.log_softmax(prediction, 1)).sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(value, parameters), strict=True):
        assert error(gradient, literal.gradients()[name]) < 1e-11


def test_the_reference_on_paper() -> None:
    """One linear neuron per layer: x = 2, W = 3 and 5, b = 1 and y = 27, α = ¼, β = ½."""
    description = {
        "input": 1,
        "activation": "identity",
        "layers": [{"name": "h", "dense": 1}, {"name": "o", "dense": 1}],
    }
    weights = {"h.weight": [[3.0]], "h.bias": [0.0], "o.weight": [[5.0]], "o.bias": [1.0]}
    literal = Network(description, weights, Rule("aro", 0.25, 0.5, "potential"), "squared_error")
    (h,), (o,) = literal.neurons["h"], literal.neurons["o"]
    literal.start([2.0], [27.0])
    literal.step([("h", None), ("o", None)])  # o sees nothing yet: a = 1, g = −26
    assert (h.plus, h.minus) == (6.0, 6.0)
    assert (o.plus, o.minus) == (1.0 + 0.25 * 13.0, 1.0 - 0.75 * 13.0)
    literal.step([("h", None), ("o", None)])  # h sees δ = 13, Δ = 65; o sees 6: a = 31, g = 4
    assert (h.plus, h.minus) == (6.0 + 0.25 * 65.0, 6.0 - 0.75 * 65.0)
    assert (o.plus, o.minus) == (31.0 - 0.25 * 2.0, 31.0 + 0.75 * 2.0)
    literal.deliver()  # the mean of h is 6 − ½·65 = −26.5
    gradients = literal.gradients()
    assert gradients["o.weight"] == 2.0 / 0.5 * -26.5
    assert gradients["o.bias"] == 2.0 / 0.5
    assert gradients["h.weight"] == -65.0 / 0.5 * 2.0
    assert literal.counts == {"wakes": 4, "mean": 2, "difference": 2, "synaptic": 4}


# ---- what this found -----------------------------------------------------------------------------


def test_dense_onto_a_plane_with_a_bias() -> None:
    description = {
        "populations": {
            "input": {"shape": [3], "role": "input"},
            "h": {"shape": [2, 2, 3]},
            "output": {"shape": [2], "role": "output"},
        },
        "projections": [{"from": "input", "to": "h"}, {"from": "h", "to": "output"}],
    }
    wakes = [(1.0, "h", None), (2.0, "output", None), (3.0, "h", [0, 5, 7]), (4.0, "output", [1])]
    rule = Rule("aro", 0.5, 1.0, "potential")
    for compute in ("auto", "dense"):
        for init in ("zero", "feedforward"):
            example = Example(description, rule, "squared_error", init, 2, [wakes])
            example.compute = compute
            check(simulate(example))


def test_average_pooling_with_padding_from_torch() -> None:
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.AvgPool2d(2, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(18, 3),
    ).double()
    model = ns.Model(ns.Network.from_torch(module, (1, 4, 4)), dtype=torch.float64)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 1, 4, 4)))
    assert torch.allclose(model(x), module(x), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("op", ["identity", "dense"])
def test_outputs_that_never_woke_have_no_potential(op: str) -> None:
    """Cross-entropy at an output whose neighbours have not woken yet, with and without weights."""
    description = {
        "populations": {
            "input": {"shape": [3], "role": "input"},
            "h": {"shape": [3]},
            "output": {"shape": [3], "role": "output", "bias": True},
        },
        "projections": [{"from": "input", "to": "h"}, {"from": "h", "to": "output", "op": op}],
    }
    wakes = [(1.0, "h", None), (2.0, "output", [1]), (3.0, "h", None), (4.0, "output", [2])]
    rule = Rule("aro", 0.5, 1.0, "potential")
    check(simulate(Example(description, rule, "cross_entropy", "zero", 2, [wakes])))


# ---- the spectral norm, which the reference takes from neurosim ----------------------------------


@settings(RANDOM, max_examples=100)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**20))
def test_spectral_norm_of_dense(height: int, width: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).standard_normal((height, width))
    network = ns.Network.from_dict({"input": width, "layers": [{"name": "o", "dense": height}]})
    value = spectral_norm(network.projections[0].operator, torch.from_numpy(matrix))
    assert value == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-12)


@settings(RANDOM, max_examples=25)
@given(windows([2, 5, 4], pools="maybe"), st.integers(0, 2**20))
def test_spectral_norm_of_conv(spec: dict[str, Any], seed: int) -> None:
    """σ of the convolution without its pooling, against the matrix of all its synapses."""
    layer = {k: v for k, v in spec.items() if k not in ("op", "channels")}
    layer |= {"name": "c", "conv": spec["channels"]}
    shape = (spec["channels"], 2, *np.broadcast_to(spec["kernel"], 2))
    weight = np.random.default_rng(seed).standard_normal(shape)
    network = ns.Network.from_dict({"input": [2, 5, 4], "layers": [layer]})
    value = spectral_norm(network.projections[0].operator, torch.from_numpy(weight))
    layer.pop("pool", None)
    _, (pathway,) = structure({"input": [2, 5, 4], "layers": [layer]})
    matrix = np.zeros((len(pathway.branches), 40))
    for post, (branch,) in enumerate(pathway.branches):
        for synapse in branch:
            matrix[post, synapse.pre] += weight[synapse.key]
    assert value == pytest.approx(np.linalg.svd(matrix, compute_uv=False)[0], rel=1e-12)
