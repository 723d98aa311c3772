"""What a tape computes, captured as a graph of its device: launched at once in every replay.

A graph computes with what lies at fixed places in memory. What is given is copied there, and what
is left is copied from there, as the next replay writes it anew; weights have to lie where they did.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Values = list[Any]
Compute = Callable[[Values], Tensor | None]  # fills in the values; returns what is to be read


class Graph(Protocol):
    """A graph of a device."""

    def capture(self, work: Callable[[], Tensor | None]) -> Tensor | None:
        """Captures what is launched. What it makes has no values before a replay."""

    def replay(self) -> None:
        """Launches that again, and does not wait for it."""


class CudaGraph:
    """One of CUDA."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], Tensor | None]) -> Tensor | None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            work()  # libraries make their handles and workspaces, which no capture allows
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        self._graph.replay()


GRAPHS: dict[str, Callable[[], Graph]] = {"cuda": CudaGraph}


class Captured:
    """The work of a tape as a graph. ``sources`` must stay where they are, or it is captured anew;
    ``kept`` are the places of what is left of it."""

    def __init__(self, sources: Sequence[Tensor], kept: set[int]) -> None:
        self._sources, self._kept = sources, sorted(kept)
        self._graph: Graph | None = None
        self._where: list[int] = []

    def run(self, compute: Compute, values: Values, inputs: int) -> Tensor | None:
        """Does what ``compute`` does with the values, of which the first are the inputs."""
        given, where = values[:inputs], [tensor.data_ptr() for tensor in self._sources]
        if self._graph is None or where != self._where:
            self._where = where
            self._capture(compute, values, given)
        assert self._graph is not None
        for buffer, tensor in zip(self._buffers, given, strict=True):
            buffer.copy_(tensor, non_blocking=True)
        self._graph.replay()
        for place in self._kept:
            found = self._values[place]
            values[place] = found.clone() if isinstance(found, Tensor) else found
        return self._read

    def _capture(self, compute: Compute, values: Values, given: Sequence[Tensor]) -> None:
        self._buffers = [tensor.clone() for tensor in given]
        self._values = values.copy()
        graph = GRAPHS[given[0].device.type]()

        def work() -> Tensor | None:
            self._values[: len(given)] = self._buffers
            return compute(self._values)

        self._read = graph.capture(work)
        self._graph = graph


def capturable(given: Sequence[Tensor], made: Sequence[Any]) -> bool:
    """Says if what is made of the given can be captured: all of it lies on one device that has
    graphs, and a copy of what is given lies in memory as that does."""
    device = given[0].device
    tensors = [*given, *(t for t in made if isinstance(t, Tensor))]
    numbers = any(isinstance(one, bool | int | float) for one in made)  # for which the host waits
    there = device.type in GRAPHS and all(t.device == device for t in tensors)
    return there and not numbers and all(t.clone().stride() == t.stride() for t in given)
