"""A torch module as the parts of a network: what its graph computes, layer by layer."""

import operator
import warnings
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from neurosim.base import NetworkError, NeurosimWarning
from neurosim.maths import (
    Activation,
    Conv2d,
    Dense,
    GroupedConv2d,
    Identity,
    Operator,
    Pool,
    Pool2d,
)
from neurosim.network.importers.agreement import check_agreement, evaluating
from neurosim.network.importers.layers import FUNCTIONS, activation_of, check_unhooked, pool_of
from neurosim.network.parts import Population, Projection, Role
from neurosim.tensors import Shape

TorchParts = tuple[tuple[Population, ...], tuple[Projection, ...], dict[str, Tensor]]

_ADD = (operator.add, operator.iadd, torch.add, "add", "add_")
_TRANSPOSED = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
_DROPOUTS = (
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)
_OTHER_CONVOLUTIONS = nn.Conv1d, nn.Conv3d, *_TRANSPOSED
_SIZES = (operator.getitem, getattr, "size")  # what a view asks for


@dataclass(frozen=True)
class _Value:
    """What a node of the graph is: the states of a population, flat or not, and whether nothing
    else reads its potential, so that what follows may become a part of the population."""

    population: str
    shape: Shape
    open: bool


_UNKNOWN = (
    "cannot be taken over: only Linear, Conv2d, pooling, BatchNorm, Flatten, Dropout, ReLU, Tanh, "
    "Sigmoid, SiLU, GELU, ELU, LeakyReLU, Softplus, Hardtanh from 0 to 1, and at the output Softmax"
)


def parts_of_torch(module: nn.Module, input_shape: Shape | None) -> TorchParts:
    """Returns the populations, projections and parameters of a module, as in evaluation.

    An activation becomes that of the population before it. Max-pooling goes into the convolution
    before it, before or after a ReLU (the two commute); average pooling only if no activation
    stands between and no padding averages a bias away, else it becomes a population of its own. A
    sum is a population with several projections. Batch normalization is folded.

    Raises:
        NetworkError: for what a network here cannot have, by the name of the layer.
    """
    if not isinstance(module, nn.Module):
        raise NetworkError(f"expected a torch.nn.Module, not {type(module).__name__}")
    _check_untied(module)
    if fx.Tracer().is_leaf_module(module, ""):
        module = nn.Sequential(module)
    for name, layer in module.named_modules():  # whose inputs have shapes that no network has
        if isinstance(layer, _OTHER_CONVOLUTIONS):
            raise NetworkError(f"layer {name!r} ({type(layer).__name__}): {_UNKNOWN}")
    try:
        with evaluating(module):
            graph = fx.Tracer().trace(module)
    except Exception as error:  # whatever its forward does
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NetworkError(
            f"{type(module).__name__} cannot be followed through its forward ({said}); use layers "
            "of torch.nn, functions and sums, without branches that depend on values"
        ) from None
    reader = _Reader(module, graph, input_shape)
    parts = reader.read()
    if not reader.draws:
        check_agreement(module, *parts)
    return parts


def _check_untied(module: nn.Module) -> None:
    """Raises NetworkError for layers that have a parameter, or its memory, in common, or one whose
    shape is not known yet."""
    owners: dict[int, str] = {}
    for name, layer in module.named_modules():
        for kind, parameter in layer.named_parameters(recurse=False):
            if isinstance(parameter, nn.UninitializedParameter):
                raise NetworkError(f"layer {name!r} has no shape yet: show the module a batch")
            where = parameter.data_ptr() or id(parameter)  # without memory on the device "meta"
            other = owners.setdefault(where, name)
            if other != name:
                raise NetworkError(
                    f"layers {other!r} and {name!r} share a {kind}: projections do not, so that "
                    "they would learn apart from each other; give each a copy of its own to have "
                    "that"
                )


def _of_sizes(node: fx.Node) -> bool:
    return node.op.startswith("call_") and node.op != "call_module" and node.target in _SIZES


class _Reader:
    """Goes through a graph and collects the parts of the network."""

    def __init__(self, module: nn.Module, graph: fx.Graph, input_shape: Shape | None) -> None:
        self.module, self.graph, self.input_shape = module, graph, input_shape
        self.values: dict[fx.Node, _Value] = {}
        self.populations: dict[str, Population] = {}
        self.projections: dict[str, Projection] = {}
        self.parameters: dict[str, Tensor] = {}
        self.used: set[str] = set()
        self.users: dict[fx.Node, int] = {}
        self.draws = False  # in evaluation as well

    def read(self) -> TorchParts:
        for node in self.graph.nodes:
            self.users[node] = sum(not _of_sizes(user) for user in node.users)
            if node.op == "placeholder":
                if self.populations:
                    raise NetworkError("a network has one input, and the module takes several")
                shape = self._input_shape()
                self.populations["input"] = Population("input", shape, "identity", "input", False)
                self.values[node] = _Value("input", shape, False)
            elif node.op == "output":
                return self._ended(node.args[0])
            elif not _of_sizes(node):
                self._take(node)
        raise NetworkError("the module returns nothing")

    def _input_shape(self) -> Shape:
        if self.input_shape is not None:
            shape = self.input_shape
            try:
                return tuple(
                    map(operator.index, (shape,) if hasattr(shape, "__index__") else shape)
                )
            except TypeError:
                said = f"input_shape is (N,) or (C, H, W), whole numbers, not {shape!r}"
                raise NetworkError(said) from None
        for layer in self.module.modules():
            if isinstance(layer, nn.Linear):
                return (layer.in_features,)
            if not isinstance(layer, nn.Sequential | nn.Identity | nn.Dropout | nn.Flatten):
                break
        raise NetworkError("give input_shape=(C, H, W): the first module does not tell it")

    def _take(self, node: fx.Node) -> None:
        """Reads one node; its name is said where it cannot be had."""
        layer: nn.Module | None = None
        what = str(getattr(node.target, "__name__", node.target))
        where = f"{what!r} ({node.name})"
        try:
            if node.op == "call_module":
                layer = self.module.get_submodule(str(node.target))
                where = f"layer {node.target!r} ({type(layer).__name__})"
                if str(node.target) in self.used and list(layer.parameters()):
                    raise NetworkError("is used twice, but the weights of a network are used once")
                self.used.add(str(node.target))
            elif node.op != "get_attr" and node.target in FUNCTIONS:
                layer = FUNCTIONS[node.target](*node.args[1:], **node.kwargs)
                self.draws |= isinstance(layer, nn.Dropout) and layer.training and layer.p > 0
            inputs = [arg for arg in node.args if isinstance(arg, fx.Node)]
            known = [self.values[arg] for arg in inputs if arg in self.values]
            alone = self.users[node] == 1
            if layer is not None and known:
                self.values[node] = self._layer(layer, known[0], alone, where)
                check_unhooked(layer, known[0].shape)
            elif node.target in _ADD and not node.kwargs and len(node.args) == 2 == len(known):
                self.values[node] = self._sum(known[0], known[1], alone)
            else:
                raise NetworkError("is not possible; a network adds, and does nothing else")
        except (NetworkError, TypeError) as error:
            raise NetworkError(f"{where}: {error}") from None

    def _ended(self, result: Any) -> TorchParts:
        if result not in self.values:
            raise NetworkError("the module must return one tensor")
        old = self.values[result].population
        if not self.parameters:
            raise NetworkError("the module has no layer with weights")
        if any(p.role == "output" for name, p in self.populations.items() if name != old):
            raise NetworkError("a softmax is possible at the output alone")
        if old == "input" or any(p.pre == old for p in self.projections.values()):
            shape = self.populations[old].shape
            old = self._add(old, shape, Identity(shape, shape))
        names = {old: "output"}
        populations = {
            names.get(name, name): replace(p, name=names.get(name, name))
            for name, p in self.populations.items()
        }
        populations["output"] = replace(populations["output"], role="output")
        projections = tuple(
            replace(
                p,
                name=names.get(p.name, p.name),
                pre=names.get(p.pre, p.pre),
                post=names.get(p.post, p.post),
            )
            for p in self.projections.values()
        )
        owned = ((key.rsplit(".", 1), value) for key, value in self.parameters.items())
        parameters = {f"{names.get(o, o)}.{kind}": value for (o, kind), value in owned}
        return tuple(populations.values()), projections, parameters

    # ---- one layer -------------------------------------------------------------------------------

    def _layer(self, layer: nn.Module, before: _Value, alone: bool, where: str) -> _Value:
        match layer:
            case nn.Identity():
                return replace(before, open=before.open and alone)
            case _ if isinstance(layer, _DROPOUTS):
                if layer.training and layer.p:
                    said = f"{where} is left out: a network here has no dropout"
                    warnings.warn(said, NeurosimWarning, stacklevel=6)
                return replace(before, open=before.open and alone)
            case nn.Flatten():
                if layer.start_dim != 1 or layer.end_dim not in (-1, len(before.shape)):
                    raise NetworkError("flattens something else than each sample as a whole")
                shape = (prod(before.shape),)
                return replace(before, shape=shape, open=before.open and alone)
            case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d() | nn.SyncBatchNorm():
                return self._fold(layer, before, alone, where)
            case nn.Linear() | nn.Conv2d():
                return self._weighted(layer, before, alone)
        if (activation := activation_of(layer, before.shape)) is not None:
            return self._activate(activation, before, alone)
        if (pool := pool_of(layer, before.shape)) is not None:
            return self._pooled(pool, before, alone)
        raise NetworkError(_UNKNOWN)

    def _add(self, pre: str, shape: Shape, op: Operator, bias: bool = False) -> str:
        name = f"layer{len(self.projections) + 1}"
        self.populations[name] = Population(name, shape, "identity", "hidden", bias)
        self.projections[name] = Projection(name, pre, name, op)
        return name

    def _weighted(self, layer: nn.Linear | nn.Conv2d, before: _Value, alone: bool) -> _Value:
        pre, own = self.populations[before.population], dict(layer.named_parameters(recurse=False))
        for kind in ("weight", "bias"):
            if kind not in own and getattr(layer, kind) is not None:
                raise NetworkError(
                    f"its {kind} is made of other parameters; torch.nn.utils.parametrize."
                    "remove_parametrizations, or prune.remove, makes it a parameter"
                )
        if own["weight"].is_complex():
            raise NetworkError("its weights are complex, and those of a network are real")
        if isinstance(layer, nn.Linear):
            op: Operator = Dense(pre.shape, (layer.out_features,))
        elif before.shape != pre.shape:
            raise NetworkError("is a convolution of what was flattened")
        else:
            op = _conv(pre.shape, layer)
        if tuple(own["weight"].shape) != op.weight_shape:
            raise NetworkError(
                f"its weight {list(own['weight'].shape)} does not fit {pre.name!r} before it, "
                f"which has shape {list(pre.shape)}"
            )
        if isinstance(layer, nn.Linear) and prod(before.shape[:-1]) != 1:
            raise NetworkError("acts on the last axis alone: flatten before it")
        name = self._add(pre.name, op.post, op, "bias" in own)
        self.parameters |= {f"{name}.{kind}": v.detach().clone() for kind, v in own.items()}
        return _Value(name, op.post, alone)

    def _activate(self, activation: Activation, before: _Value, alone: bool) -> _Value:
        name, population = before.population, self.populations[before.population]
        if not (before.open and population.activation.linear):
            name = self._add(name, population.shape, Identity(population.shape, population.shape))
        role: Role = "output" if activation.lateral else "hidden"
        self.populations[name] = replace(self.populations[name], activation=activation, role=role)
        return _Value(name, before.shape, alone)

    def _pooled(self, pool: Pool, before: _Value, alone: bool) -> _Value:
        pre = self.populations[before.population]
        if before.shape != pre.shape:
            raise NetworkError("pools what was flattened")
        incoming = [p for p in self.projections.values() if p.post == pre.name]
        op = incoming[0].operator if len(incoming) == 1 else None
        # Averages over padded windows average the bias with zeros; ours is added after.
        unbiased = not pre.bias or pool.padding == (0, 0)
        kind = pre.activation.kind
        commutes = kind in ("identity", "relu") if pool.kind == "max" else kind == "identity"
        commutes &= pool.kind == "max" or unbiased
        if before.open and isinstance(op, Conv2d) and op.pool is None and commutes:
            op = replace(op, pool=pool)
            op = replace(op, post=op.output_shape)
            self.populations[pre.name] = replace(pre, shape=op.post)
            self.projections[incoming[0].name] = replace(incoming[0], operator=op)
            return _Value(pre.name, op.post, alone)
        shape = pool.output(pre.shape)
        return _Value(self._add(pre.name, shape, Pool2d(pre.shape, shape, pool)), shape, alone)

    def _fold(self, layer: Any, before: _Value, alone: bool, where: str) -> _Value:
        """W ← γ/√(σ² + ε) W and b ← γ/√(σ² + ε) (b − μ) + β, of the running μ and σ²."""
        pre = self.populations[before.population]
        incoming = [p for p in self.projections.values() if p.post == pre.name]
        weight = self.parameters.get(f"{incoming[0].name}.weight") if incoming else None
        pool = getattr(incoming[0].operator, "pool", None) if incoming else None
        lone = before.open and len(incoming) == 1 and pre.activation.linear
        if weight is None or not lone or (pool and pool.kind == "max"):
            said = "is folded into the Linear or Conv2d right before it, and there is none"
            raise NetworkError(said)
        if before.shape != pre.shape or layer.num_features != pre.shape[0]:
            raise NetworkError(f"does not fit {pre.name!r} before it, of {list(pre.shape)}")
        if layer.running_mean is None or layer.running_var is None:
            raise NetworkError("has no running statistics, which are what is folded")
        if layer.training:
            said = f"{where} is folded with its running statistics, as in evaluation"
            warnings.warn(said, NeurosimWarning, stacklevel=7)
        kept, wide = weight.dtype, torch.promote_types(weight.dtype, torch.float32)
        weight = weight.to(wide)  # in half precision, a small variance would be none
        mean, var = layer.running_mean.detach().to(wide), layer.running_var.detach().to(wide)
        scale = (var + layer.eps).rsqrt()
        scale = scale if layer.weight is None else scale * layer.weight.detach()
        shift = 0.0 if layer.bias is None else layer.bias.detach()
        bias = self.parameters.get(f"{pre.name}.bias", torch.zeros_like(mean))
        folded = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        self.parameters[f"{incoming[0].name}.weight"] = folded.to(kept)
        self.parameters[f"{pre.name}.bias"] = (scale * (bias - mean) + shift).to(kept)
        self.populations[pre.name] = replace(pre, bias=True)
        return replace(before, open=alone)

    def _sum(self, one: _Value, other: _Value, alone: bool) -> _Value:
        """A population that one of both already is, if it is linear and nobody else's, or both."""
        if one.shape != other.shape:
            raise NetworkError(f"adds {list(one.shape)} and {list(other.shape)}")
        populations = self.populations
        if populations[one.population].shape != populations[other.population].shape:
            raise NetworkError("adds what was flattened to what was not")
        free = [v for v in (one, other) if v.open and populations[v.population].activation.linear]
        if one.population == other.population:
            free = []
        first = free[0] if free else one
        second = other if first is one else one
        shape = populations[first.population].shape
        if not free:
            made = self._add(first.population, shape, Identity(shape, shape))
            first = _Value(made, first.shape, True)
        if len(free) == 2:
            self._merge(first.population, second.population)
        else:
            name = f"layer{len(self.projections) + 1}"
            skip = Projection(name, second.population, first.population, Identity(shape, shape))
            self.projections[name] = skip
        return replace(first, open=alone)

    def _merge(self, kept: str, gone: str) -> None:
        """Lets what a population receives arrive at another one instead."""
        for name, projection in self.projections.items():
            if projection.post == gone:
                self.projections[name] = replace(projection, post=kept)
        old, population = self.populations.pop(gone), self.populations[kept]
        if old.bias:
            bias = self.parameters.pop(f"{gone}.bias")
            own = self.parameters.get(f"{kept}.bias")
            self.parameters[f"{kept}.bias"] = bias if own is None else own + bias
            self.populations[kept] = replace(population, bias=True)


def _conv(pre: Shape, layer: nn.Conv2d) -> Operator:
    if layer.padding_mode != "zeros":
        raise NetworkError("padding modes other than zeros are not supported")
    options: Any = {"kernel": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    post = (layer.out_channels, 1, 1)
    if layer.groups != 1 or set(layer.dilation) != {1}:
        if isinstance(layer.padding, str):
            raise NetworkError("give its padding in numbers")
        options |= {"dilation": layer.dilation, "groups": layer.groups}
        grouped = GroupedConv2d(pre, post, **options)
        return replace(grouped, post=grouped.output_shape)
    conv = Conv2d(pre, post, **options)
    return replace(conv, post=conv.output_shape)
