"""Devices: their names, and what passes between them and the host.

Whoever reads a number off a device waits for all that the device has still to do. What a tick has
to know is therefore collected in `Flags` and read at once; what goes to the device is not waited
for.
"""

import re
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.base import ConfigurationError

PATTERN = r"^(auto|cpu|cuda(:[0-9]{1,2})?)$"
_MEANT = {"gpu", "nvidia", "rocm", "hip"}


def check_device(name: str) -> str:
    """The name itself. Raises ConfigurationError unless it is auto, cpu, cuda or cuda:N."""
    if not re.fullmatch(PATTERN, name):
        meant = name.lower().rstrip("0123456789:") in _MEANT | {"cuda"}
        hint = "; did you mean 'cuda', or 'auto', which is cuda where there is one?"
        raise ConfigurationError(
            f"device is {name!r}; it must be 'auto', 'cpu', 'cuda' or, for the N-th of several, "
            f"'cuda:N'{hint if meant else ''}",
            "device",
        )
    return name


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; ``auto`` is cuda where there is one.

    On "meta" a simulation can be built and checked, but has no values. Raises ConfigurationError
    for another name, and for a device that is not here.
    """
    name = str(device)
    if name == "meta":
        return torch.device(name)
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    resolved = torch.device(name)
    if resolved.type == "cuda":
        _check_cuda(name, resolved.index or 0)
    return resolved


def _check_cuda(name: str, index: int) -> None:
    problem = ""
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        problem = f"torch {torch.__version__} is built without CUDA; install a build that has it"
    elif not torch.cuda.is_available():
        problem = "torch finds no CUDA device here"
    elif index >= (count := torch.cuda.device_count()):
        problem = f"there are only {count} CUDA devices here, numbered from 0"
    if problem:
        raise ConfigurationError(
            f"device is {name!r}, but {problem}; 'auto' takes cuda where there is one and cpu "
            "elsewhere",
            "device",
        )


def repeatable() -> None:
    """From now on convolutions on cuda are computed in float32 in full and the same every time: by
    themselves they round to TF32, and may add in any order. Settings of torch, for the process."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def upload(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array of the host on a device, which is not waited for. On the CPU it is not copied."""
    tensor = torch.from_numpy(array)
    # CUDA copies what is not pinned before it returns, so the array may change afterwards.
    return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)


class Flags:
    """Numbers that are needed on the host: those on a device are collected, and read at once."""

    def __init__(self) -> None:
        self._values: list[Tensor | int] = []

    def add(self, value: Tensor | int) -> int:
        """Registers a number, a truth or a scalar tensor; the index at which `read` returns it."""
        self._values.append(int(value) if isinstance(value, int) or value.is_cpu else value)
        return len(self._values) - 1

    def read(self) -> list[int]:
        away = [value.long() for value in self._values if isinstance(value, Tensor)]
        there = iter(torch.stack(away).tolist() if away else ())
        return [next(there) if isinstance(v, Tensor) else v for v in self._values]
