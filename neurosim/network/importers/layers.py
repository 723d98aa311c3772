"""Which layer a function of torch is, which activation or pooling a layer, and the other way
round."""

import copy
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from neurosim.base import NetworkError
from neurosim.maths import Activation, Pool
from neurosim.tensors import Shape

# What is the same as it stands.
_PLAIN: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    return nn.Dropout(p, inplace).train(training)


def _viewed(*sizes: Any) -> nn.Module:
    if len(sizes) != 2 or sizes[1] != -1:
        raise NetworkError("a view other than (B, -1) is not possible")
    return nn.Flatten()


def _flattened(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


# Functions and methods of tensors, as the layers that do the same.
FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, "relu", "relu_"), nn.ReLU),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), nn.Tanh),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), nn.Sigmoid),
    **{F.silu: nn.SiLU, F.gelu: nn.GELU, F.elu: nn.ELU, F.leaky_relu: nn.LeakyReLU},
    **{F.softplus: nn.Softplus, F.dropout: _dropout},
    **{F.max_pool2d: nn.MaxPool2d, F.avg_pool2d: nn.AvgPool2d},
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
    **dict.fromkeys(
        (torch.flatten, "flatten"), lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim)
    ),
    **dict.fromkeys(("view", "reshape"), lambda *sizes: _viewed(*sizes)),
}


def activation_of(layer: nn.Module, shape: Shape) -> Activation | None:
    """Returns the activation that a layer is of values (B, *shape), or None where it is none.

    Raises:
        NetworkError: for one that a network does not have with these options.
    """
    kind, options = next(((k, {}) for k, cls in _PLAIN.items() if type(layer) is cls), ("", {}))
    match layer:
        case nn.Sigmoid():
            kind, options = "sigmoid", {"gain": 1.0, "center": 0.0}
        case nn.LeakyReLU():
            kind, options = "leaky_relu", {"slope": layer.negative_slope}
        case nn.ELU():
            kind, options = "elu", {"scale": float(layer.alpha)}
        case nn.Softplus():
            if layer.threshold < 40:
                raise NetworkError(f"is cut off at {layer.threshold}; give it threshold=40")
            kind, options = "softplus", {"sharpness": float(layer.beta)}
        case nn.Hardtanh() if type(layer) is nn.Hardtanh:
            if (layer.min_val, layer.max_val) != (0.0, 1.0):
                raise NetworkError("of a Hardtanh only that from 0 to 1 can be taken over")
            kind = "hard_sigmoid"
        case nn.GELU():
            if layer.approximate != "none":
                raise NetworkError("is approximate; give it approximate='none'")
            kind = "gelu"
        case nn.Softmax():
            if layer.dim not in (1, -1) or prod(shape) != shape[0 if layer.dim == 1 else -1]:
                raise NetworkError("a softmax is over all outputs of a sample: give it dim=1")
            kind = "softmax"
    return Activation.of(kind, **options) if kind else None


def layer_of(activation: Activation) -> nn.Module | None:
    """Returns the layer that an activation is, None for the identity.

    Raises:
        NetworkError: where torch has no such layer.
    """
    if activation.linear:
        return None
    a: Any = activation
    if activation.kind in _PLAIN:
        return _PLAIN[activation.kind]()
    match activation.kind:
        case "sigmoid" if (a.gain, a.center) == (1.0, 0.0):
            return nn.Sigmoid()
        case "leaky_relu":
            return nn.LeakyReLU(a.slope)
        case "elu":
            return nn.ELU(a.scale)
        case "softplus":
            return nn.Softplus(a.sharpness, 40)
        case "hard_sigmoid":
            return nn.Hardtanh(0.0, 1.0)
        case "softmax":
            return nn.Softmax(1)
    raise NetworkError(f"torch has no layer for the activation {str(activation)!r}")


def pool_of(layer: nn.Module, shape: Shape) -> Pool | None:
    """Returns the pooling that a layer is of (C, H, W), or None where it is none.

    Raises:
        NetworkError: for one that a network does not have with these options.
    """
    match layer:
        case nn.AdaptiveAvgPool2d() | nn.AdaptiveMaxPool2d():
            if len(shape) != 3:
                raise NetworkError(f"needs an input of shape [C, H, W], not {list(shape)}")
            size = layer.output_size
            sizes = size if isinstance(size, tuple) else (size, size)
            wanted = [to or there for to, there in zip(sizes, shape[1:], strict=True)]
            if any(there % to for to, there in zip(wanted, shape[1:], strict=True)):
                said = f"makes {wanted} of {list(shape[1:])} by windows of several sizes"
                raise NetworkError(said)
            kernel = shape[1] // wanted[0], shape[2] // wanted[1]
            return Pool("avg" if isinstance(layer, nn.AdaptiveAvgPool2d) else "max", kernel)
        case nn.MaxPool2d() | nn.AvgPool2d():
            pass
        case _:
            return None
    options: Any = {"kernel": layer.kernel_size, "stride": layer.stride, "padding": layer.padding}
    problem = ""
    if isinstance(layer, nn.MaxPool2d):
        if layer.dilation not in (1, (1, 1)):
            problem = "dilation is not supported"
        if layer.return_indices:
            problem = "return_indices is not supported"
    elif layer.divisor_override is not None or (
        layer.padding not in (0, (0, 0)) and not layer.count_include_pad
    ):
        problem = "divisor_override and count_include_pad=False are not supported"
    if problem:
        raise NetworkError(problem)
    pool = Pool("max" if isinstance(layer, nn.MaxPool2d) else "avg", **options)
    if layer.ceil_mode and len(shape) == 3:  # which may make no difference
        made = tuple(layer(torch.zeros(1, *shape)).shape[1:])
        if made != pool.output(shape):
            raise NetworkError(f"ceil_mode is not supported, and makes {list(made[1:])} here")
    return pool


def check_unhooked(layer: nn.Module, shape: Shape) -> None:
    """Raises NetworkError where hooks change what a layer makes of arrays (B, *shape). A copy of it
    is asked, with them and without."""
    dtypes = [p.dtype for p in layer.parameters()]
    x = torch.linspace(-1.0, 1.0, prod(shape), dtype=dtypes[0] if dtypes else None).view(1, *shape)
    same = True
    # What it cannot compute, as it is of another shape, is said elsewhere.
    with torch.no_grad(), suppress(RuntimeError, ValueError, TypeError):
        asked = copy.deepcopy(layer).eval()
        same = torch.equal(asked(x), asked.forward(x))
    if not same:
        raise NetworkError("has a hook that changes its values; remove it, or make it a layer")
