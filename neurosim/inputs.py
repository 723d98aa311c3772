"""What comes from outside into a simulation: tensors and the name of a device, checked."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from neurosim.errors import ConfigurationError, InputError
from neurosim.model import Model, check_shape
from neurosim.operators import Shape

Device = Literal["auto", "cpu", "cuda"]


def accept(what: str, array: Tensor, shape: Shape, model: Model) -> Tensor:
    """A copy of ``array`` (B, *shape) with the model's device and dtype.

    A copy, because what the caller does to the tensor later must not reach into the simulation.
    Raises InputError for a wrong shape or values that are not finite.
    """
    if not isinstance(array, Tensor):
        raise InputError(f"the {what} must be a torch tensor, not {type(array).__name__}")
    check_shape(what, array, shape)
    if array.is_complex():
        raise InputError(f"the {what} must be real, not {array.dtype}")
    array = array.detach().to(model.device, model.dtype, copy=True)
    finite = array.isfinite()
    if not finite.all():
        sample, *index = (~finite).nonzero()[0].tolist()
        raise InputError(f"the {what} is not finite: first at sample {sample}, index {index}")
    return array


def resolve_device(device: str) -> torch.device:
    """The torch device of a name; ``auto`` is cuda where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ConfigurationError(f"device is {device!r}; it must be auto, cpu or cuda") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device is 'cuda', but torch finds no CUDA device here")
    return resolved
