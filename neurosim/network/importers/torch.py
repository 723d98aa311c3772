"""A `torch.nn.Sequential` as the parts of a network."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from neurosim.base import NetworkError
from neurosim.maths import Conv2d, Dense, Operator, Pool, Pool2d
from neurosim.network.parts import Population, Projection
from neurosim.tensors import Shape

TorchParts = tuple[tuple[Population, ...], tuple[Projection, ...], dict[str, Tensor]]


def parts_of_torch(module: nn.Sequential, input_shape: Shape | None) -> TorchParts:
    """Returns the populations, projections and parameters of a Sequential.

    A ReLU becomes the activation of the population before it. Max-pooling goes into the
    convolution before it, before or after the ReLU (the two commute); average pooling only if no
    ReLU stands between and no padding averages a bias away, else it becomes a population of its
    own.

    Raises:
        NetworkError: for what a network here cannot have.
    """
    if not isinstance(module, nn.Sequential):
        raise NetworkError(f"expected a torch.nn.Sequential, not {type(module).__name__}")
    layers = [layer for layer in module if not isinstance(layer, nn.Flatten)]
    _check_untied(layers)
    populations = [
        Population("input", _input_shape(layers, input_shape), "identity", "input", False)
    ]
    projections: list[Projection] = []
    parameters: dict[str, Tensor] = {}
    for index, layer in enumerate(layers):
        try:
            _add(layer, populations, projections, parameters)
        except NetworkError as error:
            raise NetworkError(f"module {index} ({type(layer).__name__}): {error}") from None
    if not parameters:
        raise NetworkError("the Sequential has no layer with weights")
    last = populations[-1]
    if not last.activation.linear:
        raise NetworkError("the last layer must be linear: leave out the activation after it")
    old, new = last.name, "output"
    populations[-1] = replace(last, name=new, role="output")
    projections[-1] = replace(projections[-1], name=new, post=new)
    renamed = {
        (new + key[len(old) :] if key.split(".")[0] == old else key): value
        for key, value in parameters.items()
    }
    return tuple(populations), tuple(projections), renamed


def _check_untied(layers: list[nn.Module]) -> None:
    """Raises NetworkError for layers that have a parameter, or its memory, in common, or one whose
    shape is not known yet."""
    owners: dict[int, int] = {}
    for index, layer in enumerate(layers):
        for name, parameter in layer.named_parameters(recurse=False):
            if isinstance(parameter, nn.UninitializedParameter):
                raise NetworkError(f"module {index} has no shape yet: show the Sequential a batch")
            where = parameter.data_ptr() or id(parameter)  # without memory on the device "meta"
            other = owners.setdefault(where, index)
            if other != index:
                raise NetworkError(
                    f"modules {other} and {index} share a {name}: projections do not, so that they "
                    "would learn apart from each other; give each a copy of its own to have that"
                )


def _input_shape(layers: list[nn.Module], given: Shape | None) -> Shape:
    if given is not None:
        return tuple(given)
    if layers and isinstance(layers[0], nn.Linear):
        return (layers[0].in_features,)
    raise NetworkError("give input_shape=(C, H, W): the first module does not tell it")


def _add(
    layer: nn.Module,
    populations: list[Population],
    projections: list[Projection],
    parameters: dict[str, Tensor],
) -> None:
    pre = populations[-1]
    match layer:
        case nn.ReLU():
            if pre.role == "input":
                raise NetworkError("an activation of the input is not possible")
            populations[-1] = replace(pre, activation="relu")
            return
        case nn.Linear():
            operator: Operator = Dense(pre.shape, (layer.out_features,))
        case nn.Conv2d():
            operator = _conv(pre.shape, layer)
        case nn.MaxPool2d() | nn.AvgPool2d():
            pool = _pool(layer)
            before = projections[-1].operator if projections else None
            # Averages over padded windows average the bias with zeros; ours is added after.
            unbiased = not pre.bias or pool.padding == (0, 0)
            commutes = pool.kind == "max" or (pre.activation.linear and unbiased)
            if isinstance(before, Conv2d) and before.pool is None and commutes:
                pooled = replace(before, pool=pool)
                pooled = replace(pooled, post=pooled.output_shape)
                populations[-1] = replace(pre, shape=pooled.post)
                projections[-1] = replace(projections[-1], operator=pooled)
                return
            operator = Pool2d(pre.shape, pool.output(pre.shape), pool)
        case _:
            raise NetworkError(
                "only Linear, Conv2d, MaxPool2d, AvgPool2d, ReLU and Flatten can be taken over"
            )
    name = f"layer{len(projections) + 1}"
    own = dict(layer.named_parameters(recurse=False))
    if own and "weight" not in own:
        raise NetworkError(
            "its weight is made of other parameters; torch.nn.utils.parametrize."
            "remove_parametrizations makes it one"
        )
    if own and tuple(own["weight"].shape) != operator.weight_shape:
        raise NetworkError(
            f"its weight {list(own['weight'].shape)} does not fit {pre.name!r} before it, which "
            f"has shape {list(pre.shape)}"
        )
    populations.append(Population(name, operator.post, "identity", "hidden", "bias" in own))
    projections.append(Projection(name, pre.name, name, operator))
    parameters |= {f"{name}.{kind}": value.detach().clone() for kind, value in own.items()}


def _conv(pre: Shape, layer: nn.Conv2d) -> Conv2d:
    if layer.groups != 1 or set(layer.dilation) != {1} or layer.padding_mode != "zeros":
        raise NetworkError("groups, dilation and padding modes other than zeros are not supported")
    options: Any = {"kernel": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    conv = Conv2d(pre, (layer.out_channels, 1, 1), **options)
    return replace(conv, post=conv.output_shape)


def _pool(layer: nn.MaxPool2d | nn.AvgPool2d) -> Pool:
    if layer.ceil_mode:
        raise NetworkError("ceil_mode is not supported")
    options: Any = {"kernel": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    if isinstance(layer, nn.MaxPool2d):
        if layer.dilation not in (1, (1, 1)):
            raise NetworkError("dilation is not supported")
        return Pool("max", **options)
    if layer.divisor_override is not None or (
        layer.padding not in (0, (0, 0)) and not layer.count_include_pad
    ):
        raise NetworkError("divisor_override and count_include_pad=False are not supported")
    return Pool("avg", **options)
