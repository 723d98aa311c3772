"""A recorder of single dyads and synapses into a file that grows, and nothing else does."""

import os
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self
from zlib import crc32

import numpy as np

from neurosim.base import ConfigurationError, DataError, flat, naming, plain
from neurosim.families import check
from neurosim.learning.events import EndEvent, Listener, StartEvent
from neurosim.measures import Observation, Probe, StatesProbe
from neurosim.records import LARGE_HEADER
from neurosim.simulation import Simulation

_HEAD = ("inference", "tick")
_CHUNK = 1 << 20  # bytes that are read at a time


class StatesFile(Listener):
    """Writes what a probe `states` sees into a ``.npy`` file: a row for each ``every``-th tick of
    every inference of a simulation, with or without a trainer.

    ``numpy.load(path)`` has the fields ``inference`` and ``tick``, both from 1 (a tick from the
    beginning of its inference), and ``plus.h1[5]``, …; ``pandas.DataFrame(numpy.load(path))`` is a
    table. Use it as a context manager, or as a listener: then it is in checkpoints, and a training
    that goes on cuts off what was written later. Memory does not grow with the rows. What is in
    the file is known to readers at the end and from each checkpoint on.

    Raises:
        ConfigurationError: for another probe, dyads that are not there, or a simulation that has a
            recorder already.
    """

    def __repr__(self) -> str:
        return f"StatesFile({str(self.path)!r}, every {self.every} ticks)"

    def __init__(self, path: str | Path, simulation: Simulation, probe: Probe) -> None:
        check(Simulation, simulation=simulation)
        self.path, self._simulation = Path(check(str | Path, path=path)), simulation
        self._probe = Probe.of(probe)
        self.every = self._probe.every
        if not isinstance(self._probe, StatesProbe):
            raise ConfigurationError(f"the probe {self._probe.kind} has no file; it takes 'states'")
        if simulation.sink is not None:
            raise ConfigurationError("the simulation has a recorder already: close that one first")
        self._probe.check(simulation.model.network, simulation.rule)
        for cell in simulation.state.cells if self._probe.observes else ():
            cell.observed = True
        simulation.sink = self
        self._file: BinaryIO | None = None
        self._rows = self._crc = 0
        self._dtype: np.dtype[Any] | None = None

    def __enter__(self) -> Self:
        with naming(self.path):
            self._file = self.path.open("r+b" if self._rows else "w+b")
            self._file.seek(0, os.SEEK_END)
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the file, and lets the simulation go."""
        self._simulation.sink = None
        if self._file is not None:
            with naming(self.path):
                self._flush()
                self._file.close()
            self._file = None

    def look(self, passed: int, seen: Observation) -> None:
        """Appends a row."""
        if self._file is None:
            return
        found = flat(self._probe.measure(seen) or {})
        if self._dtype is None:
            self._dtype = np.dtype([(n, "<i8") for n in _HEAD] + [(n, "<f8") for n in found])
            with naming(self.path):
                self._head()
        values = (self._simulation.inferences, passed, *found.values())
        row = np.array([values], self._dtype).tobytes()
        self._crc = crc32(row, self._crc)
        self._rows += 1
        with naming(self.path):
            self._file.write(row)

    def _head(self) -> None:
        """Writes in front of the rows how many there are: numpy leaves room for the number."""
        assert self._file is not None
        assert self._dtype is not None
        descr = np.lib.format.dtype_to_descr(self._dtype)
        about = {"descr": descr, "fortran_order": False, "shape": (self._rows,)}
        self._file.seek(0)
        np.lib.format.write_array_header_2_0(self._file, about)
        self._file.seek(0, os.SEEK_END)

    def _flush(self) -> None:
        assert self._file is not None
        self._file.flush()  # the rows before their number
        if self._dtype is not None:
            self._head()
            self._file.flush()
        os.fsync(self._file.fileno())

    # ---- as a listener -------------------------------------------------------------------------

    def on_start(self, event: StartEvent) -> None:
        del event
        self._simulation.sink = self
        self.__enter__()

    def on_end(self, event: EndEvent) -> None:
        with suppress(OSError) if event.error is not None else nullcontext():
            self.__exit__()

    def state_dict(self) -> dict[str, Any]:
        """Returns how many rows are on the disk, and their checksum."""
        if self._file is not None:
            with naming(self.path):
                self._flush()
        return {"rows": self._rows, "crc": self._crc}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cuts off what was written later. Raises DataError where something else was before."""
        self._rows, self._crc = state["rows"], state["crc"]
        if not self._rows:
            return
        with plain(self.path).open("r+b") as file:
            self._dtype, size = _dtype(self.path, file), file.tell()
            left, crc = self._rows * self._dtype.itemsize, 0
            size += left
            while left and (part := file.read(min(left, _CHUNK))):
                left, crc = left - len(part), crc32(part, crc)
            if left or crc != self._crc:
                raise DataError(f"{self.path}: lacks rows that the checkpoint was saved after")
            file.truncate(size)


def _dtype(path: Path, file: BinaryIO) -> np.dtype[Any]:
    """Reads the header of a file. Raises DataError where it is damaged."""
    try:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_2_0(file, max_header_size=LARGE_HEADER)[2]
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from None
