"""The parameters of a network and its prediction, against plain torch."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import neurosim as ns

TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def double(network: ns.Network, seed: int = 0) -> ns.Model:
    return ns.Model(network, seed=seed, dtype=torch.float64)


# ---- from torch: the same function, the same gradients -----------------------------------------

IMAGE = (2, 9, 8)
SEQUENTIALS: dict[str, tuple[list[nn.Module], tuple[int, ...]]] = {
    "linear": ([nn.Linear(5, 3)], (5,)),
    "mlp": ([nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)], (5,)),
    "mlp without biases": (
        [nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False)],
        (5,),
    ),
    "mlp with a linear hidden layer": ([nn.Linear(5, 7), nn.Linear(7, 3)], (5,)),
    "mlp on flattened images": ([nn.Flatten(), nn.Linear(144, 3)], IMAGE),
    "conv relu maxpool": (
        [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 3)],
        IMAGE,
    ),
    "conv maxpool relu": (
        [nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)],
        IMAGE,
    ),
    "conv relu avgpool": (
        [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, 3)],
        IMAGE,
    ),
    "conv avgpool relu": (
        [nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)],
        IMAGE,
    ),
    "conv relu avgpool relu": (
        [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(), nn.Conv2d(3, 2, 3)],
        IMAGE,
    ),
    "two pools": (
        [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d((1, 3)), nn.Conv2d(3, 1, 1)],
        IMAGE,
    ),
    "a pool first": ([nn.MaxPool2d(2), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1)], IMAGE),
    "a pool last": ([nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d((7, 6))], IMAGE),
    "a pool into the last convolution": ([nn.Conv2d(2, 3, 3), nn.AvgPool2d(2)], IMAGE),
    "strides and paddings": (
        [
            nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2)),
            nn.ReLU(),
            nn.Conv2d(3, 4, 3, padding="same", bias=False),
            nn.ReLU(),
            nn.Conv2d(4, 2, (2, 3), padding="valid"),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(72, 3),
        ],
        IMAGE,
    ),
    "pools that overlap": (
        [
            nn.Conv2d(2, 3, 3),
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.ReLU(),
            nn.Conv2d(3, 3, 3),
            nn.ReLU(),
            nn.AvgPool2d((3, 2), stride=1),
            nn.Flatten(),
            nn.Linear(27, 2),
        ],
        IMAGE,
    ),
    "average over the padding": (
        [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d(3, padding=1), nn.Conv2d(3, 2, 1)],
        IMAGE,
    ),
    "average over the padding, bias and all": (
        [nn.Conv2d(2, 3, 3), nn.AvgPool2d(3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 1)],
        IMAGE,
    ),
}


@pytest.mark.parametrize("name", SEQUENTIALS)
def test_from_torch(name: str) -> None:
    layers, shape = SEQUENTIALS[name]
    sequential = nn.Sequential(*copy.deepcopy(layers)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(sequential.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    network = ns.Network.from_torch(sequential, None if name in ("mlp", "linear") else shape)
    model = double(network)
    assert all(str(p.activation) in ("relu", "identity") for p in network.populations)
    x = random(4, *shape, seed=99)
    expected, found = sequential(x), model(x)
    torch.testing.assert_close(found.flatten(1), expected.flatten(1), **TOLERANCE)
    weights = random(*expected.shape, seed=98)
    ours = torch.autograd.grad((found * weights.view_as(found)).sum(), list(model.parameters()))
    theirs = torch.autograd.grad((expected * weights).sum(), list(sequential.parameters()))
    assert len(ours) == len(theirs)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-11)


def test_from_torch_takes_copies() -> None:
    sequential = nn.Sequential(OrderedDict(a=nn.Linear(2, 3), b=nn.ReLU(), c=nn.Linear(3, 1)))
    network = ns.Network.from_torch(sequential)
    model = ns.Model(network)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        sequential[0].weight.zero_()
        network.parameters["layer1.weight"].zero_()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert list(before) == ["layer1.weight", "layer1.bias", "output.weight", "output.bias"]


# ---- graphs ------------------------------------------------------------------------------------


def edge(pre: str, post: str, op: str = "dense", **more: Any) -> dict[str, Any]:
    return {"from": pre, "to": post, "op": op} | more


def test_a_graph_by_hand() -> None:
    """Skips, sums, parallel projections, an identity, and a bias that no weight comes with."""
    network = ns.Network.from_dict(
        {
            "populations": {
                "input": {"shape": [2, 4, 4], "role": "input"},
                "a": {"shape": [2, 4, 4]},
                "b": {"shape": [2, 4, 4], "activation": "tanh", "bias": True},
                "c": {"shape": [2, 2, 2], "activation": "hard_sigmoid"},
                "output": {"shape": [3], "role": "output"},
            },
            "projections": [
                edge("input", "a", "conv", name="one"),
                edge("input", "a", "conv", name="two", kernel=1),
                edge("a", "b", "identity"),
                edge("input", "b", "identity"),
                edge("b", "c", "pool", pool="max"),
                edge("a", "c", "conv", pool="avg"),
                edge("c", "output"),
                edge("input", "output"),
            ],
        }
    )
    model = double(network)
    with torch.no_grad():
        for seed, parameter in enumerate(model.parameters()):
            parameter.copy_(random(*parameter.shape, seed=seed))
    w = model.state_dict()
    x = random(3, 2, 4, 4, seed=50)
    a = F.conv2d(x, w["one.weight"], padding=1) + F.conv2d(x, w["two.weight"])
    a = torch.relu(a + w["a.bias"][:, None, None])
    b = torch.tanh(a + x + w["b.bias"][:, None, None])
    c = F.max_pool2d(b, 2) + F.avg_pool2d(F.conv2d(a, w["a->c.weight"], w["c.bias"], 1, 1), 2)
    c = c.clamp(0, 1).flatten(1)
    expected = F.linear(c, w["c->output.weight"], w["output.bias"])
    expected = expected + F.linear(x.flatten(1), w["input->output.weight"])
    torch.testing.assert_close(model(x), expected, **TOLERANCE)


def test_a_dense_projection_into_conv_channels() -> None:
    """The bias is one value per conv channel, whatever arrives."""
    populations = {
        "input": {"shape": 5, "role": "input"},
        "h": {"shape": [2, 3, 3]},
        "output": {"shape": [1, 3, 3], "role": "output"},
    }
    edges = [edge("input", "h"), edge("h", "output", "conv")]
    network = ns.Network.from_dict({"populations": populations, "projections": edges})
    model = double(network)
    assert network.parameter_shapes()["h.bias"] == (2,)
    with torch.no_grad():
        model.state_dict()["h.bias"].copy_(torch.tensor([0.5, -0.25]))
    w, x = model.state_dict(), random(2, 5)
    h = (x @ w["input->h.weight"].T).view(2, 2, 3, 3) + w["h.bias"][:, None, None]
    expected = F.conv2d(torch.relu(h), w["h->output.weight"], padding=1)
    torch.testing.assert_close(model(x), expected, **TOLERANCE)


def test_forward_checks_its_input() -> None:
    model = ns.Model(ns.Network.from_dict({"input": [1, 2, 3], "layers": [{"dense": 2}]}))
    assert model(torch.zeros(4, 1, 2, 3)).shape == (4, 2)
    for shape in [(1, 2, 3), (4, 6), (4, 1, 3, 2), (0, 1, 2, 3)]:
        with pytest.raises(ns.InputError, match=r"it must be \[B, 1, 2, 3\]"):
            model(torch.zeros(shape))


def test_forward_refuses_a_cycle() -> None:
    description = {
        "populations": {
            "input": {"shape": 2, "role": "input"},
            "h": {"shape": 2},
            "output": {"shape": 2, "role": "output"},
        },
        "projections": [edge("input", "h"), edge("h", "output"), edge("output", "h")],
    }
    model = ns.Model(ns.Network.from_dict(description))
    with pytest.raises(ns.NetworkError, match=r"h -> output -> h|output -> h -> output"):
        model(torch.zeros(1, 2))


# ---- names -------------------------------------------------------------------------------------


def test_keys_of_chain_and_graph() -> None:
    layers = [{"name": "h1", "dense": 3}, {"name": "out", "dense": 2}]
    chain = ns.Model(ns.Network.from_dict({"input": 4, "layers": layers}))
    keys = ["h1.weight", "h1.bias", "out.weight", "out.bias"]
    assert list(chain.state_dict()) == keys == [name for name, _ in chain.named_parameters()]
    populations = {
        "input": {"shape": 4, "role": "input"},
        "h1": {"shape": 3},
        "out": {"shape": 2, "role": "output"},
    }
    edges = [edge("input", "h1"), edge("h1", "out")]
    graph = ns.Model(ns.Network.from_dict({"populations": populations, "projections": edges}))
    keys = ["input->h1.weight", "h1.bias", "h1->out.weight", "out.bias"]
    assert list(graph.state_dict()) == keys
    values = [torch.full_like(v, i) for i, v in enumerate(graph.state_dict().values())]
    graph.load_state_dict(dict(zip(keys, values, strict=True)))
    assert graph.parameter("input->h1", "weight") is dict(graph.named_parameters())[keys[0]]
    assert graph.parameter("h1", "weight") is None
    assert graph.parameter("nobody", "bias") is None


RESERVED = ["forward", "type", "train", "network", "to", "dtype", "parameter"]
RESERVED += ["_modules", "_parameters", "__class__", "state_dict", "bias_carrier"]
RESERVED += ["_buffers", "_owners", "named_children"]


@pytest.mark.parametrize("name", RESERVED)
def test_names_are_the_users(name: str) -> None:
    """A population may have the name of anything that a torch module has, too."""
    description = {"input": 4, "layers": [{"name": name, "dense": 3}, {"dense": 2}]}
    plain = {"input": 4, "layers": [{"name": "h", "dense": 3}, {"dense": 2}]}
    other = ns.Model(ns.Network.from_dict(plain))
    model = ns.Model(ns.Network.from_dict(description))
    keys = [f"{name}.weight", f"{name}.bias", "output.weight", "output.bias"]
    assert list(model.state_dict()) == keys
    model.load_state_dict(dict(zip(keys, other.state_dict().values(), strict=True)))
    assert model.network.populations[1].name == name
    assert model.training
    model.train().eval().requires_grad_(False).double().float()
    x = torch.ones(1, 4)
    assert torch.equal(model(x), other(x))


def test_a_model_can_be_copied() -> None:
    """As a researcher does it, to keep the best weights or an average of them."""
    model = ns.Model(ns.Network.from_dict({"input": 4, "layers": [{"dense": 3}]}))
    twin = copy.deepcopy(model)
    assert twin.parameter("output", "weight") is twin.state_dict(keep_vars=True)["output.weight"]
    assert torch.equal(twin(torch.ones(1, 4)), model(torch.ones(1, 4)))
    with torch.no_grad():
        model.state_dict()["output.weight"].zero_()
    assert twin.state_dict()["output.weight"].any()
