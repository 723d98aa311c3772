"""Networks in the Neuromorphic Intermediate Representation (Pedersen et al. 2024), an extra."""

import operator as operators
import re
from functools import reduce
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from torch import Tensor, fx, nn

from neurosim.base import ConfigurationError, DataError, NetworkError, write_atomic
from neurosim.maths import Activation
from neurosim.network.importers.layers import layer_of
from neurosim.tensors import Shape


def library() -> Any:
    """Returns the package nir. Raises ConfigurationError where it is not installed."""
    try:
        import nir
    except ImportError:
        raise ConfigurationError("NIR needs a package: pip install 'neurosim[nir]'") from None
    return nir


# ---- export --------------------------------------------------------------------------------------


def write(module: nn.Module, pre: Shape, post: Shape, path: Path) -> None:
    """Writes what a torch module computes of inputs (B, *pre) as a graph of NIR.

    Raises:
        NetworkError: for a layer that NIR has no node for, such as an activation.
    """
    nir, nodes, edges = library(), dict[str, Any](), list[tuple[str, str]]()
    traced = fx.symbolic_trace(module)
    shapes, sums = {"input": (1, *pre)}, dict[fx.Node, list[str]]()
    nodes["input"] = nir.Input(list(pre))
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            sums[node] = ["input"]
            continue
        before = [name for one in node.all_input_nodes for name in sums[one]]
        for name in before:
            if before.count(name) > 1:
                raise NetworkError(f"NIR has one edge from {name!r}, which here would count twice")
        if node.op == "call_function":  # a sum: several edges into one node
            sums[node] = before
            continue
        if node.op == "output":
            nodes["output"] = nir.Output(list(post))
            edges += [(name, "output") for name in before]
            continue
        layer, shape = traced.get_submodule(node.target), shapes[before[0]]
        name = f"{node.name}_" if node.name in ("input", "output") else node.name
        nodes[name] = _node(nir, name, layer, shape)
        with torch.no_grad():
            made = layer(torch.zeros(shape, dtype=_dtype(layer)))
        shapes[name] = tuple(made.shape)
        edges += [(one, name) for one in before]
        sums[node] = [name]
    graph = nir.NIRGraph(nodes, edges, {}, type_check=False)
    write_atomic(path, lambda file: nir.write(str(file), graph))


def _dtype(layer: nn.Module) -> torch.dtype:
    return next((p.dtype for p in layer.parameters()), torch.get_default_dtype())


def _node(nir: Any, name: str, layer: nn.Module, shape: tuple[int, ...]) -> Any:
    """Returns the node for a layer that sees (1, *shape)."""
    match layer:
        case nn.Linear(bias=None):
            return nir.Linear(_numbers(layer.weight))
        case nn.Linear():
            return nir.Affine(_numbers(layer.weight), _numbers(layer.bias))
        case nn.Conv2d():
            bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
            steps = layer.stride, layer.padding, layer.dilation, layer.groups
            return nir.Conv2d(shape[2:], _numbers(layer.weight), *steps, _numbers(bias))
        case nn.AvgPool2d():
            sizes = layer.kernel_size, layer.stride, layer.padding
            return nir.AvgPool2d(*map(_pair, sizes))
        case nn.Flatten():
            return nir.Flatten({"input": list(shape[1:])}, 0)
    raise NetworkError(f"NIR has no node for {name!r}, {type(layer).__name__}")


def _numbers(values: Tensor) -> Any:
    return values.detach().numpy(force=True)


def _pair(value: Any) -> Any:
    return torch.tensor([value, value] if isinstance(value, int) else list(value)).numpy()


# ---- import --------------------------------------------------------------------------------------


def read(path: Path, neurons: str | None) -> tuple[nn.Module, Shape, Shape]:
    """Reads a graph of NIR as a torch module, and the shapes that it says of its input and output.

    ``neurons`` is the activation that stands for a spiking neuron.

    Raises:
        DataError: for a file that is no graph of NIR.
        NetworkError: for what cannot be taken over exactly, by the name of the node.
    """
    nir = library()
    if not path.is_file():
        raise DataError(f"{path}: no such file; name one of NIR")
    try:
        # Its own check of shapes takes every kernel to be square; `Network` checks them.
        graph = nir.read(str(path), type_check=False)
    except Exception as error:  # h5py and nir raise whatever their parsers trip over
        raise DataError(f"{path}: is no graph of NIR: {error}") from error
    flow = nx.DiGraph(graph.edges)
    if not nx.is_directed_acyclic_graph(flow):
        raise NetworkError(f"{path}: a graph of NIR with a cycle cannot be taken over")
    for kind in (nir.Input, nir.Output):
        found = [name for name, node in graph.nodes.items() if isinstance(node, kind)]
        if len(found) != 1 or found[0] not in flow:
            said = f"has {len(found)} nodes of the kind {kind.__name__}, and a network one"
            raise NetworkError(f"{path}: {said}, on the way from input to output")
    root, steps = nn.Module(), fx.Graph()
    values: dict[str, fx.Node] = {}
    for name in nx.lexicographical_topological_sort(flow):
        node, parts = graph.nodes[name], [values[before] for before in flow.predecessors(name)]
        if isinstance(node, nir.Input):
            values[name] = steps.placeholder("x")
            shape = tuple(int(n) for n in node.input_type["input"])
            continue
        if not parts:
            raise NetworkError(f"{path}: nothing leads to the node {name!r}")
        total = reduce(lambda one, other: steps.call_function(operators.add, (one, other)), parts)
        if isinstance(node, nir.Output):
            steps.output(total)
            output = tuple(int(n) for n in node.output_type["output"])
            continue
        layer = _layer(nir, path, name, node, neurons)
        own = "n_" + re.sub(r"\W", "_", name)
        while hasattr(root, own):  # names may differ in other signs alone
            own += "_"
        root.add_module(own, layer)
        values[name] = steps.call_module(own, (total,))
    return fx.GraphModule(root, steps), shape, output


def _layer(nir: Any, path: Path, name: str, node: Any, neurons: str | None) -> nn.Module:
    match node:
        case nir.Affine() | nir.Linear():
            return _filled(nn.Linear, node, node.weight.shape[1], node.weight.shape[0])
        case nir.Conv2d():
            names = ("stride", "padding", "dilation")
            options = {key: _sizes(getattr(node, key)) for key in names}
            groups = int(node.groups)
            channels = node.weight.shape[1] * groups, node.weight.shape[0]
            return _filled(
                nn.Conv2d, node, *channels, tuple(node.weight.shape[2:]), groups=groups, **options
            )
        case nir.AvgPool2d():
            return nn.AvgPool2d(*map(_sizes, (node.kernel_size, node.stride, node.padding)))
        case nir.Flatten():
            return nn.Flatten()
        case nir.IF() | nir.LIF() | nir.CubaLIF() | nir.LI() | nir.CubaLI() | nir.I():
            if neurons is None:
                how = "say which activation stands for neurons: from_nir(path, neurons='relu')"
                said = f"the node {name!r} is a neuron in time, {type(node).__name__}; {how}"
                raise NetworkError(f"{path}: {said}")
            return layer_of(Activation.of(neurons)) or nn.Identity()
    said = f"the node {name!r} is {type(node).__name__}, which dyads have no operator for"
    raise NetworkError(f"{path}: {said}")


def _sizes(value: Any) -> Any:
    return value if isinstance(value, str) else tuple(map(int, value))


def _filled(cls: Any, node: Any, *sizes: Any, **options: Any) -> nn.Module:
    bias = getattr(node, "bias", None)
    layer: nn.Module = cls(*sizes, bias=bias is not None, device="meta", **options)
    layer.weight = _parameter(node.weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    return layer


def _parameter(values: Any) -> nn.Parameter:
    """Returns a parameter of these values; whole numbers become those of torch's own dtype."""
    found = torch.tensor(values)
    whole = not found.is_floating_point()
    return nn.Parameter(found.to(torch.get_default_dtype()) if whole else found)
