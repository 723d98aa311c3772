"""Networks: both forms of a file, their defaults and names, their graph, and what is refused."""

from __future__ import annotations

import heapq
from dataclasses import FrozenInstanceError, replace
from math import prod
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

import neurosim as ns
from neurosim.maths.operators.dense import Dense, Identity
from neurosim.maths.operators.planes import Conv2d, Pool2d
from neurosim.maths.operators.pooling import Pool

CHAIN: dict[str, Any] = {
    "input": [2, 8, 9],
    "activation": "tanh",
    "initialization": "he_normal",
    "layers": [
        {"name": "c1", "conv": 4, "pool": "max"},
        {"name": "c2", "conv": 3, "kernel": [3, 5], "stride": [1, 2], "activation": "relu"},
        {"name": "c3", "conv": 5, "kernel": 2, "padding": "valid", "bias": False},
        {"name": "p", "pool": {"kind": "avg", "kernel": [2, 1], "stride": 1}},
        {"name": "d", "dense": 7},
        {"name": "out", "dense": 3},
    ],
}
GRAPH: dict[str, Any] = {
    "initialization": "he_normal",
    "populations": {
        "input": {"shape": [2, 8, 9], "role": "input"},
        "c1": {"shape": [4, 4, 4], "activation": "tanh"},
        "c2": {"shape": [3, 4, 2], "activation": "relu"},
        "c3": {"shape": [5, 3, 1], "activation": "tanh", "bias": False},
        "p": {"shape": [5, 2, 1], "activation": "identity"},
        "d": {"shape": 7, "activation": "tanh"},
        "out": {"shape": [3], "role": "output"},
    },
    "projections": [
        {"name": "c1", "from": "input", "to": "c1", "op": "conv", "pool": "max"},
        {"name": "c2", "from": "c1", "to": "c2", "op": "conv", "kernel": [3, 5], "stride": [1, 2]},
        {
            "name": "c3",
            "from": "c2",
            "to": "c3",
            "op": "conv",
            "kernel": 2,
            "padding": "valid",
        },
        {
            "name": "p",
            "from": "c3",
            "to": "p",
            "op": "pool",
            "pool": {"kind": "avg", "kernel": [2, 1], "stride": 1},
        },
        {"name": "d", "from": "p", "to": "d", "op": "dense"},
        {"name": "out", "from": "d", "to": "out"},
    ],
}


def graph(
    populations: dict[str, Any] | None = None, *edges: tuple[str, str] | dict[str, Any]
) -> dict[str, Any]:
    """A graph of small populations; the input and the output need not be named."""
    ends = {"input": {"shape": 2, "role": "input"}, "output": {"shape": 2, "role": "output"}}
    projections = [e if isinstance(e, dict) else {"from": e[0], "to": e[1]} for e in edges]
    return {"populations": ends | (populations or {}), "projections": projections}


# ---- the two forms -----------------------------------------------------------------------------


def test_both_forms_make_the_same_network() -> None:
    chain, other = ns.Network.from_dict(CHAIN), ns.Network.from_dict(GRAPH)
    assert chain == other
    assert chain.parameter_shapes() == other.parameter_shapes()
    weights, same = ns.Model(chain, seed=3).state_dict(), ns.Model(other, seed=3).state_dict()
    assert list(weights) == list(same)
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    x = torch.randn(2, 2, 8, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ns.Model(chain, seed=3)(x), ns.Model(other, seed=3)(x))


@pytest.mark.parametrize("description", [CHAIN, GRAPH], ids=["chain", "graph"])
def test_yaml_and_dict_agree(description: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "network.yaml"
    path.write_text(yaml.safe_dump(description, sort_keys=False))
    assert ns.Network.from_yaml(path) == ns.Network.from_dict(description)
    assert ns.Network.from_yaml(str(path)) == ns.Network.from_dict(description)


def test_a_shipped_network_by_its_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = ns.Network.from_yaml(root / "networks/digits_mlp.yaml")
    assert ns.Network.from_yaml("digits_mlp") == shipped
    (tmp_path / "digits_mlp").write_text("{input: [2], layers: [{dense: 2}]}")  # what is here wins
    assert ns.Network.from_yaml("digits_mlp") != shipped
    with pytest.raises(ns.DataError, match=r"no such file, .*; did you mean 'digits_mlp'\?"):
        ns.Network.from_yaml("digits_mpl")
    with pytest.raises(ns.DocumentError, match="no such file; check the path"):
        ns.Network.from_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["digits_mlp", "digits_conv", "digits_skip", "mnist_mlp"])
def test_the_networks_that_ship(root: Path, name: str) -> None:
    network = ns.Network.from_yaml(root / "networks" / f"{name}.yaml")
    assert network.output.shape == (10,)
    assert network.cycle is None


def test_shapes_and_operators_of_a_chain() -> None:
    network = ns.Network.from_dict(CHAIN)
    assert {p.name: p.shape for p in network.populations} == {
        "input": (2, 8, 9),
        "c1": (4, 4, 4),
        "c2": (3, 4, 2),
        "c3": (5, 3, 1),
        "p": (5, 2, 1),
        "d": (7,),
        "out": (3,),
    }
    operators = [p.operator for p in network.projections]
    assert operators[0] == Conv2d((2, 8, 9), (4, 4, 4), pool=Pool("max"))
    assert operators[1] == Conv2d((4, 4, 4), (3, 4, 2), (3, 5), (1, 2), (1, 2))
    assert operators[2] == Conv2d((3, 4, 2), (5, 3, 1), (2, 2), (1, 1), (0, 0))
    assert operators[3] == Pool2d((5, 3, 1), (5, 2, 1), Pool("avg", (2, 1), (1, 1)))
    assert operators[4:] == [Dense((5, 2, 1), (7,)), Dense((7,), (3,))]


def test_defaults_of_a_chain() -> None:
    network = ns.Network.from_dict(
        {"input": 4, "layers": [{"dense": 5}, {"dense": 6, "bias": False}, {"dense": 2}]}
    )
    assert network.initialization.kind == "glorot_uniform"
    assert [(p.name, p.shape, str(p.activation), p.role, p.bias) for p in network.populations] == [
        ("input", (4,), "identity", "input", False),
        ("layer1", (5,), "relu", "hidden", True),
        ("layer2", (6,), "relu", "hidden", False),
        ("output", (2,), "identity", "output", True),
    ]
    assert [(p.name, p.pre, p.post) for p in network.projections] == [
        ("layer1", "input", "layer1"),
        ("layer2", "layer1", "layer2"),
        ("output", "layer2", "output"),
    ]
    assert list(network.parameter_shapes().items()) == [
        ("layer1.weight", (5, 4)),
        ("layer1.bias", (5,)),
        ("layer2.weight", (6, 5)),
        ("output.weight", (2, 6)),
        ("output.bias", (2,)),
    ]


def test_defaults_of_windows() -> None:
    """Kernel 3, stride 1, same padding; pooling 2x2 with the kernel as its stride."""
    layers = [
        {"conv": 2},
        {"conv": 3, "pool": "avg"},
        {"pool": "max"},
        {"conv": 2, "kernel": 1, "pool": {"kind": "max", "kernel": 3, "padding": 1}},
        {"dense": 1},
    ]
    network = ns.Network.from_dict({"input": [1, 12, 20], "layers": layers})
    assert [p.shape for p in network.populations[1:]] == [
        (2, 12, 20),
        (3, 6, 10),
        (3, 3, 5),
        (2, 1, 2),
        (1,),
    ]
    pool = network.populations[3]
    assert (pool.name, str(pool.activation), pool.bias) == ("layer3", "identity", False)
    last = network.projection("layer4").operator
    assert isinstance(last, Conv2d)
    assert last.padding == (0, 0)
    assert last.pool == Pool("max", (3, 3), (3, 3), (1, 1))


def test_defaults_of_a_graph() -> None:
    """A bias where a weight arrives; hidden dyads are ReLU, the others linear."""
    network = ns.Network.from_dict(
        graph(
            {"a": {"shape": 2}, "b": {"shape": 2}, "c": {"shape": 2, "bias": True}},
            ("input", "a"),
            {"from": "a", "to": "b", "op": "identity"},
            {"from": "b", "to": "c", "op": "identity"},
            ("c", "output"),
        )
    )
    assert {p.name: (str(p.activation), p.bias) for p in network.populations} == {
        "input": ("identity", False),
        "output": ("identity", True),
        "a": ("relu", True),
        "b": ("relu", False),
        "c": ("relu", True),
    }
    assert network.projection("input->a").operator == Dense((2,), (2,))
    assert network.projection("a->b").operator == Identity((2,), (2,))


def test_a_network_is_frozen() -> None:
    network = ns.Network.from_dict(CHAIN)
    with pytest.raises(FrozenInstanceError):
        network.initialization = "he_normal"  # type: ignore[misc]
    with pytest.raises(nx.NetworkXError):
        network.graph.add_node("h9")


# ---- the graph ---------------------------------------------------------------------------------


def test_names_and_aliases_of_parallel_projections() -> None:
    one = {"from": "input", "to": "output", "name": "one"}
    two = {"from": "input", "to": "output", "name": "two"}
    network = ns.Network.from_dict(graph(None, one, two))
    assert [p.name for p in network.projections] == ["one", "two"]
    assert list(network.parameter_shapes()) == ["one.weight", "two.weight", "output.bias"]
    assert network.projection("two") is network.projections[1]
    assert sorted(network.graph["input"]["output"]) == ["one", "two"]
    with pytest.raises(ns.NetworkError, match=r"'input->output' is ambiguous.*'one', 'two'"):
        network.projection("input->output")
    single = ns.Network.from_dict(graph(None, one))
    assert single.projection("input->output") is single.projection("one")
    chain = ns.Network.from_dict(CHAIN)
    assert chain.projection("c1->c2") is chain.projection("c2")


@pytest.mark.parametrize(
    "back", [("h2", "h1"), ("output", "h1"), ("h1", "h1"), ("output", "output")]
)
def test_cycles_are_accepted(back: tuple[str, str]) -> None:
    hidden = {"h2": {"shape": 3}, "h1": {"shape": 3}}
    edges = [("input", "h1"), ("h1", "h2"), ("h2", "output")]
    network = ns.Network.from_dict(graph(hidden, *edges, back))
    assert network.cycle is not None
    pairs = {(p.pre, p.post) for p in network.projections}
    assert set(zip(network.cycle, [*network.cycle[1:], network.cycle[0]], strict=True)) <= pairs
    assert network.depth is None
    assert [p.name for p in network.dyadic] == ["output", "h2", "h1"]  # as declared
    assert network.levels == {"input": 0, "output": 1, "h2": 2, "h1": 3}


@st.composite
def acyclic(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(0, 6))
    order = ["input", *[f"h{i}" for i in range(count)], "output"]
    edges: list[tuple[str, str]] = []
    for place in range(1, len(order)):
        pres = draw(st.lists(st.integers(0, place - 1), min_size=1, max_size=3, unique=True))
        edges += [(order[pre], order[place]) for pre in pres]
    declared = draw(st.permutations(order))
    roles = {"input": "input", "output": "output"}
    return {
        "populations": {
            name: {"shape": 2} | ({"role": roles[name]} if name in roles else {})
            for name in declared
        },
        "projections": [{"from": a, "to": b} for a, b in draw(st.permutations(edges))],
    }


@given(description=acyclic())
def test_order_levels_and_depth(description: dict[str, Any]) -> None:
    network = ns.Network.from_dict(description)
    plain = nx.DiGraph([(p["from"], p["to"]) for p in description["projections"]])
    declared = list(description["populations"])
    assert sorted(network.graph.edges()) == sorted(plain.edges)
    # Kahn's algorithm, that takes the first declared of what is ready.
    waiting = {name: plain.in_degree(name) for name in declared}
    ready = [declared.index(name) for name in declared if not waiting[name]]
    order = []
    while ready:
        name = declared[heapq.heappop(ready)]
        order.append(name)
        for follower in plain.successors(name):
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, declared.index(follower))
    assert [p.name for p in network.dyadic] == [name for name in order if name != "input"]
    longest = {
        name: max((len(path) - 1 for path in nx.all_simple_paths(plain, "input", name)), default=0)
        for name in declared
        if name != "input"
    }
    assert network.levels == {"input": 0} | longest
    assert network.depth == longest["output"]
    assert network.cycle is None
    for name in declared:
        assert {p.post for p in network.outgoing(name)} == set(plain.successors(name))
        assert {p.pre for p in network.incoming(name)} == set(plain.predecessors(name))
    assert network.dyads == 2 * (len(declared) - 1)


# ---- VGG16 -------------------------------------------------------------------------------------


def test_the_size_of_vgg16() -> None:
    """13 convolutions 3x3 and three dense layers on 3x32x32: the numbers of the design."""
    layers: list[dict[str, Any]] = []
    for width, count in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]:
        layers += [{"conv": width} for _ in range(count)]
        layers[-1]["pool"] = "max"
    layers += [{"dense": 4096}, {"dense": 4096}, {"dense": 10}]
    network = ns.Network.from_dict({"input": [3, 32, 32], "layers": layers})
    assert network.dyads == 190_986
    shapes = network.parameter_shapes()
    weights = [prod(shape) for key, shape in shapes.items() if key.endswith(".weight")]
    assert len(weights) == 16
    assert sum(weights) == 33_625_792
    assert network.depth == 16
    model = ns.Model(network, device="meta")
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == shapes
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


# ---- networks made by hand ---------------------------------------------------------------------


IN = ns.Population("input", (2,), "identity", "input", False)
OUT = ns.Population("output", (3,), "identity", "output")
EDGE = ns.Projection("w", "input", "output", Dense((2,), (3,)))


def test_given_parameters_are_checked() -> None:
    weight = torch.arange(6.0).view(3, 2)
    network = ns.Network((IN, OUT), (EDGE,), parameters={"w.weight": weight})
    assert torch.equal(ns.Model(network).state_dict()["w.weight"], weight)
    with pytest.raises(ns.NetworkError, match=r"'w.weight' has shape \[2, 3\]; it needs \[3, 2\]"):
        replace(network, parameters={"w.weight": weight.T})
    with pytest.raises(
        ns.NetworkError, match=r"unknown parameter 'w.bias'; it is one of w.weight, output.bias"
    ):
        replace(network, parameters={"w.bias": torch.zeros(3)})


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (Dense((2,), (4,)), r"'w' from 'input' \[2\] to 'output' \[3\].*maps \[2\] to \[4\]"),
        (Identity((2,), (3,)), r"'w' from 'input' \[2\] to 'output' \[3\].*Identity makes \[2\]"),
        (Conv2d((2,), (3,)), r"'w' from 'input' \[2\] to 'output' \[3\].*conv needs an input"),
    ],
)
def test_operators_that_do_not_fit(operator: Any, message: str) -> None:
    with pytest.raises(ns.NetworkError, match=message):
        ns.Network((IN, OUT), (ns.Projection("w", "input", "output", operator),))


def test_populations_and_projections_are_checked() -> None:
    with pytest.raises(ns.NetworkError, match=r"'h' has shape \[2, 3\]; it must be \[N\] or"):
        ns.Population("h", (2, 3))
    with pytest.raises(ns.NetworkError, match=r"'h' has shape \[0\]"):
        ns.Population("h", (0,))
    with pytest.raises(ns.NetworkError, match="population name '2h' must start with a letter"):
        ns.Population("2h", (2,))
    with pytest.raises(ns.NetworkError, match=r"projection name 'a\.b' must start with a letter"):
        replace(EDGE, name="a.b")
    with pytest.raises(ns.NetworkError, match="unknown activation 'rely'; did you mean 'relu'"):
        ns.Population("h", (2,), "rely")  # type: ignore[arg-type]
    with pytest.raises(ns.NetworkError, match="two populations are named 'input'"):
        ns.Network((IN, IN, OUT), (EDGE,))
    with pytest.raises(ns.NetworkError, match="input population 'input' cannot have a bias"):
        replace(IN, bias=True)
