"""Devices: their names, and what passes between them and the host.

Whoever reads a number off a device waits for all that the device has still to do. What a tick has
to know is therefore collected in `Flags` and read at once; what goes to the device is not waited
for.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from neurosim.base import ConfigurationError, Launch
from neurosim.tensors.host import read

PATTERN = r"^(auto|cpu|cuda(:[0-9]{1,2})?)$"


def autocasts() -> bool:
    """Says if there is a `torch.autocast` around."""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


@contextmanager
def full_precision() -> Iterator[None]:
    """Lets operations have the dtypes of their tensors, whatever `torch.autocast` is around."""
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def check_device(name: str) -> str:
    """Returns the name. Raises ConfigurationError unless it is auto, cpu, cuda or cuda:N."""
    if re.fullmatch(PATTERN, name):
        return name
    meant = name.lower().rstrip("0123456789:") in {"cuda", "gpu", "nvidia", "rocm", "hip"}
    hint = "; did you mean 'cuda', or 'auto', which is cuda where there is one?"
    raise ConfigurationError(
        f"device is {name!r}; it must be 'auto', 'cpu', 'cuda' or, for the N-th of several, "
        f"'cuda:N'{hint if meant else ''}",
        "device",
    )


def resolve_device(device: str | torch.device) -> torch.device:
    """Returns the torch device of a name; ``auto`` is cuda where there is one.

    On "meta" a simulation can be built and checked, but has no values. Raises ConfigurationError
    for another name, for a device that is not here, and where torch makes tensors elsewhere than on
    the CPU by default.
    """
    _check_default()
    name = str(device)
    if name.partition(":")[0] == "meta":
        return torch.device(name)
    if check_device(name) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and (launch := Launch.read()).size > 1:  # each process has one of its own
        name = f"cuda:{launch.local % max(1, torch.cuda.device_count())}"
    resolved = torch.device(name)
    if resolved.type != "cuda":
        return resolved
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        problem = f"torch {torch.__version__} is built without CUDA; install a build that has it"
    elif not torch.cuda.is_available():
        problem = "torch finds no CUDA device here"
    elif (resolved.index or 0) >= (count := torch.cuda.device_count()):
        problem = f"there are only {count} CUDA devices here, numbered from 0"
    else:
        return resolved
    raise ConfigurationError(
        f"device is {name!r}, but {problem}; 'auto' takes cuda where there is one and cpu "
        "elsewhere",
        "device",
    )


def _check_default() -> None:
    """Raises ConfigurationError where torch has been told to make tensors elsewhere than on the
    CPU."""
    device = torch.get_default_device()
    if device.type != "cpu":
        raise ConfigurationError(
            f"torch makes its tensors on {str(device)!r} by default (torch.set_default_device, or "
            "with torch.device(…)); what is simulated says its device itself: let "
            "torch.set_default_device('cpu') come before, and give device='cuda'",
            "device",
        )


@contextmanager
def unchanged() -> Iterator[None]:
    """Leaves filters of warnings and the environment as they were, which libraries change that
    torch loads when it needs them."""
    variables = set(os.environ)
    with warnings.catch_warnings():
        try:
            yield
        finally:
            for name in set(os.environ) - variables:
                del os.environ[name]


@contextmanager
def repeatable(threads: int | None = None) -> Iterator[None]:
    """Has convolutions on cuda computed in float32 in full, and the same every time, for as long as
    the block runs: by themselves they round to TF32, may add in any order, and where the process
    has asked for ``benchmark`` are those that were fastest just now.

    With ``threads`` torch uses so many. Afterwards all of this is as it was, and what `unchanged`
    says.
    """
    cudnn, before = torch.backends.cudnn, torch.get_num_threads()
    flags = cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    with unchanged():
        try:
            cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = False, True, False
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = flags
            torch.set_num_threads(before)


def upload(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Returns an array of the host on a device, not waited for; on the CPU the array itself."""
    tensor = torch.from_numpy(array)
    # CUDA copies what is not pinned before it returns, so the array may change afterwards.
    return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor on a device, which the host waits for only where it is the host's own."""
    if tensor.device == device:
        return tensor
    return tensor.to(device, non_blocking=device.type != "cpu")


def gathered(parts: Sequence[Tensor]) -> Tensor:
    """Returns these arrays (n,) as one, on one of their devices: not the CPU, if there is another,
    so that whoever reads it waits once."""
    there = next((part.device for part in parts if not part.is_cpu), parts[0].device)
    return torch.cat([moved(part, there) for part in parts])


class Flags:
    """Numbers and marks that are needed on the host: those on a device are collected, and read at
    once, by a function that says what numbers (n,) are."""

    def __init__(self, read: Callable[[Tensor], list[int]] = read) -> None:
        self._told = read
        self._values: list[Any] = []  # numbers, and in their place those that are still away
        self._away: list[int] = []
        self._marks: list[Tensor] = []
        self._read: list[npt.NDArray[np.bool_]] = []

    def add(self, value: Tensor | int) -> int:
        """Registers a number, a truth or a scalar tensor. Returns where `read` returns it."""
        place = len(self._values)
        if not isinstance(value, int) and not value.is_cpu:
            self._away.append(place)
            value = value.long().view(1)
        self._values.append(value)
        return place

    def is_none(self, place: int) -> bool:
        """Says if a number is known to be zero before it is read."""
        return isinstance(known := self._values[place], int) and known == 0

    def add_marks(self, marks: Tensor) -> int:
        """Registers truths on a device. Returns for what `marks` returns them, after `read`."""
        self._marks.append(marks)
        return len(self._marks) - 1

    def read(self) -> list[int]:
        """Returns the numbers, in the order in which they were added."""
        if self._away or self._marks:
            self._fetch()
        return [v if isinstance(v, int) else int(v) for v in self._values]

    def _fetch(self) -> None:
        """Reads what is still away."""
        away = [self._values[place] for place in self._away]
        if not self._marks:
            for place, answer in zip(self._away, self._told(gathered(away)), strict=True):
                self._values[place] = answer
            return
        away += [marks.reshape(-1).long() for marks in self._marks]
        ends = np.cumsum([part.numel() for part in away])
        found = np.split(gathered(away).cpu().numpy(), ends[:-1])
        for place, number in zip(self._away, found, strict=False):
            self._values[place] = number[0]
        self._read = [marks.astype(bool) for marks in found[len(self._away) :]]

    def marks(self, place: int) -> npt.NDArray[np.bool_]:
        """Returns marks that have been read, flat."""
        return self._read[place]
