"""A feed-forward network as a torch module."""

import operator as operators
import re
from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor, fx, nn

from neurosim.base import NetworkError
from neurosim.maths import Conv2d, Dense, GroupedConv2d, Identity, Pool, Pool2d
from neurosim.network.importers.layers import layer_of
from neurosim.network.network import Network
from neurosim.network.parts import Projection

Parameter = Callable[[str, str], Tensor | None]  # of an owner, of a kind
Carrier = Callable[[Any], Projection | None]


def module_of(network: Network, parameter: Parameter, carrier: Carrier) -> nn.Module:
    """Returns a Sequential of a chain of populations, and of any other network without cycles a
    module that computes its graph. ``carrier`` is the projection that adds a population's bias.

    Raises:
        NetworkError: for what torch has no layer for.
    """
    if network.cycle is not None:
        raise NetworkError("a network with a cycle is no module of torch")
    root, graph = nn.Module(), fx.Graph()

    def add(name: str, layer: nn.Module, *inputs: fx.Node) -> fx.Node:
        name = re.sub(r"\W", "_", name)
        while hasattr(root, name):
            name += "_"
        root.add_module(name, layer)
        return graph.call_module(name, inputs)

    nodes = {network.input.name: graph.placeholder("x")}
    for population in network.dyadic:
        total = None
        for projection in network.incoming(population.name):
            node = nodes[projection.pre]
            bias = None
            if population.bias and carrier(population) is projection:
                bias = parameter(population.name, "bias")
            weight = parameter(projection.name, "weight")
            try:
                layers = _layers(projection, weight, bias)
            except NetworkError as error:
                raise NetworkError(f"projection {projection.name!r}: {error}") from None
            for kind, layer in layers:
                node = add(projection.name + kind, layer, node)
            total = node if total is None else graph.call_function(operators.add, (total, node))
        assert total is not None
        if population.activation.lateral and len(population.shape) > 1:
            raise NetworkError(f"torch has no {population.activation} of {list(population.shape)}")
        activation = layer_of(population.activation)
        if activation is not None:
            total = add(f"{population.name}_{population.activation.kind}", activation, total)
        nodes[population.name] = total
    graph.output(nodes[network.output.name])
    chain = all(len(network.incoming(p.name)) == 1 for p in network.dyadic)
    chain &= all(len(network.outgoing(p.name)) <= 1 for p in network.populations)
    if chain and not network.outgoing(network.output.name):
        return nn.Sequential(OrderedDict(root.named_children()))
    return fx.GraphModule(root, graph)


def _layers(
    projection: Projection, weight: Tensor | None, bias: Tensor | None
) -> list[tuple[str, nn.Module]]:
    """Returns the layers of a projection, each with what follows its name."""
    operator = projection.operator
    if weight is None and bias is not None:
        raise NetworkError("torch has no layer that adds a bias alone")
    match operator:
        case Identity():
            return []
        case Pool2d():
            return [("", _pool(operator.pool))]
        case Dense():
            layers: list[tuple[str, nn.Module]] = []
            if len(operator.pre) > 1:
                layers.append(("_flat", nn.Flatten()))
            if bias is not None and len(operator.post) > 1:  # one value per conv channel
                bias = bias.repeat_interleave(prod(operator.post[1:]))
            sizes: Any = (prod(operator.pre), prod(operator.post))
            layers.append(("", _with(nn.Linear, weight, bias, *sizes)))
            if len(operator.post) > 1:
                layers.append(("_plane", nn.Unflatten(1, operator.post)))
            return layers
        case Conv2d() | GroupedConv2d():
            options: dict[str, Any] = {"stride": operator.stride, "padding": operator.padding}
            if isinstance(operator, GroupedConv2d):
                options |= {"dilation": operator.dilation, "groups": operator.groups}
            sizes = operator.pre[0], operator.post[0], operator.kernel
            layers = [("", _with(nn.Conv2d, weight, bias, *sizes, **options))]
            pool = operator.pool if isinstance(operator, Conv2d) else None
            if pool is None:
                return layers
            if pool.kind == "avg" and pool.padding != (0, 0) and bias is not None:
                raise NetworkError("torch would average its bias with the padding of the pooling")
            return [*layers, ("_pool", _pool(pool))]
    raise NetworkError(f"torch has no layer for its operator {operator.kind!r}")


def _with(
    cls: Any, weight: Tensor | None, bias: Tensor | None, *sizes: Any, **options: Any
) -> nn.Module:
    """A layer with copies of these parameters."""
    assert weight is not None
    layer: nn.Module = cls(*sizes, bias=bias is not None, device="meta", **options)
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def _pool(pool: Pool) -> nn.Module:
    if pool.kind == "softmax":
        raise NetworkError("torch has no layer that pools by softmax")
    cls: Any = nn.MaxPool2d if pool.kind == "max" else nn.AvgPool2d
    layer: nn.Module = cls(pool.kernel, pool.stride, pool.padding)
    return layer
