"""Networks in NIR: the same numbers there and back, and what it cannot say."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import nir
import numpy as np
import pytest
import torch
import torch.nn.functional as f
from torch import Tensor

import neurosim as ns

CONV = {
    "input": [2, 6, 6],
    "activation": "identity",
    "layers": [
        {"conv": 4, "kernel": [3, 1], "stride": 2, "padding": 1},
        {"pool": {"kind": "avg", "kernel": 2, "stride": 1, "padding": 1}},
        {"conv": 3, "bias": False, "pool": "avg"},
        {"dense": 5},
        {"dense": 2, "bias": False},
    ],
}
BRANCHES = {
    "populations": {
        "x": {"shape": 4, "role": "input"},
        "a": {"shape": 3, "activation": "identity"},
        "b": {"shape": 3, "activation": "identity"},
        "y": {"shape": 2, "role": "output"},
    },
    "projections": [
        {"from": "x", "to": "a"},
        {"from": "x", "to": "b"},
        {"from": "a", "to": "b", "op": "identity"},
        {"from": "b", "to": "y"},
        {"from": "a", "to": "y", "name": "over"},
    ],
}


def evaluated(graph: nir.NIRGraph, x: Tensor) -> Tensor:
    """What the nodes say, by the definitions of NIR; edges that meet are summed."""
    flow, values = nx.DiGraph(graph.edges), dict[str, Any]()
    for name in nx.topological_sort(flow):
        node, total = graph.nodes[name], sum(values[before] for before in flow.predecessors(name))
        match node:
            case nir.Input():
                values[name] = x
            case nir.Output():
                return total
            case nir.Linear() | nir.Affine():
                bias = torch.tensor(getattr(node, "bias", 0.0))
                values[name] = total @ torch.tensor(node.weight).T + bias
            case nir.Conv2d():
                sizes = [tuple(n.tolist()) for n in (node.stride, node.padding, node.dilation)]
                weight, bias = torch.tensor(node.weight), torch.tensor(node.bias)
                values[name] = f.conv2d(total, weight, bias, *sizes, int(node.groups))
            case nir.AvgPool2d():
                sizes = [tuple(n.tolist()) for n in (node.kernel_size, node.stride, node.padding)]
                values[name] = f.avg_pool2d(total, *sizes)
            case nir.Flatten():
                values[name] = total.flatten(1)
    raise AssertionError


@pytest.mark.parametrize("description", [CONV, BRANCHES], ids=["conv", "branches"])
def test_there_and_back(description: dict[str, Any], tmp_path: Path) -> None:
    network = ns.Network.from_dict(description)
    model, file = ns.Model(network, dtype=torch.float64), tmp_path / "network.nir"
    x = torch.randn(7, *network.input.shape, generator=torch.manual_seed(1), dtype=torch.float64)
    model.to_nir(file)
    expected = model(x).detach()
    torch.testing.assert_close(
        evaluated(nir.read(file, type_check=False), x), expected, rtol=0, atol=1e-13
    )
    back = ns.Model(ns.Network.from_nir(file), dtype=torch.float64)
    torch.testing.assert_close(back(x).detach(), expected, rtol=0, atol=1e-13)


def test_names_that_differ_in_other_signs_alone(tmp_path: Path) -> None:
    """Both layers, each with its own weights."""
    one, two = np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    ends = {"x": nir.Input([3]), "y": nir.Output([3])}
    nodes = {**ends, "a.b": nir.Linear(one), "a-b": nir.Linear(two)}
    nir.write(
        str(file := tmp_path / "n.nir"),
        nir.NIRGraph(nodes, list(pairwise(["x", "a.b", "a-b", "y"]))),
    )
    model, x = ns.Model(ns.Network.from_nir(file)), torch.rand(2, 3)
    torch.testing.assert_close(model(x).detach(), x @ torch.tensor(two @ one).T)


def spiking(path: Path) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    one, two = draws.normal(size=(5, 4)), draws.normal(size=(2, 5))
    ones = np.ones(5)
    lif = nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones)
    nir.write(str(path), nir.NIRGraph.from_list(nir.Linear(one), lif, nir.Linear(two)))
    return one, two


def test_an_activation_stands_for_neurons_in_time(tmp_path: Path) -> None:
    one, two = spiking(tmp_path / "lif.nir")
    network = ns.Network.from_nir(tmp_path / "lif.nir", neurons="relu")
    x = torch.randn(3, 4, generator=torch.manual_seed(0), dtype=torch.float64)
    expected = torch.relu(x @ torch.tensor(one).T) @ torch.tensor(two).T
    torch.testing.assert_close(ns.Model(network, dtype=x.dtype)(x).detach(), expected)
    with pytest.raises(ns.NetworkError, match="is a neuron in time, LIF; say which activation"):
        ns.Network.from_nir(tmp_path / "lif.nir")


def test_what_cannot_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "other.nir"
    relu = ns.Model(ns.Network.from_dict({"input": 2, "layers": [{"dense": 3}, {"dense": 1}]}))
    with pytest.raises(ns.NetworkError, match=r"NIR has no node for '.*relu', ReLU"):
        relu.to_nir(file)
    twice = dict(BRANCHES, projections=[*BRANCHES["projections"]])
    twice["projections"].append({"from": "a", "to": "b", "op": "identity", "name": "again"})
    with pytest.raises(ns.NetworkError, match="one edge from 'x__a', which here would count"):
        ns.Model(ns.Network.from_dict(twice)).to_nir(file)
    with pytest.raises(ns.DataError, match=r"none\.nir: no such file; name one of NIR"):
        ns.Network.from_nir(file.with_name("none.nir"))
    file.write_bytes(b"nothing")
    with pytest.raises(ns.DataError, match=r"other.nir: is no graph of NIR"):
        ns.Network.from_nir(file)
    nir.write(str(file), nir.NIRGraph.from_list(nir.Scale(np.ones(3)), nir.Linear(np.ones((2, 3)))))
    with pytest.raises(ns.NetworkError, match="is Scale, which dyads have no operator for"):
        ns.Network.from_nir(file)
    edges = [("x", "a"), ("a", "b"), ("b", "a"), ("b", "y")]
    ends = {"x": nir.Input([2]), "y": nir.Output([2])}
    nodes = {**ends, **{name: nir.Linear(np.ones((2, 2))) for name in "ab"}}
    nir.write(str(file), nir.NIRGraph(nodes, edges))
    with pytest.raises(ns.NetworkError, match="with a cycle cannot be taken over"):
        ns.Network.from_nir(file)
    nodes = {"x": nir.Input([2]), "a": nir.Linear(np.ones((3, 2))), "y": nir.Output([5])}
    graph = nir.NIRGraph(nodes, [("x", "a"), ("a", "y")], type_check=False)
    nir.write(str(file), graph)
    with pytest.raises(
        ns.NetworkError, match=r"its output is \[5\], but what leads to it makes \[3"
    ):
        ns.Network.from_nir(file)
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ns.ConfigurationError, match=r"pip install 'neurosim\[nir\]'"):
        ns.Network.from_nir(file)
