"""A recorder of single dyads and synapses into a file that grows, and nothing else does."""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Self, cast

from neurosim.base import ConfigurationError, flat, naming
from neurosim.families import check
from neurosim.learning.events import EndEvent, Listener, StartEvent
from neurosim.measures import Observation, Probe, StatesProbe
from neurosim.records import StatesWriter
from neurosim.simulation import Simulation


class StatesFile(Listener):
    """Writes what a probe `states` sees into a Zarr store, ``NAME.zarr``: a row for each
    ``every``-th tick of every inference of a simulation, with or without a trainer.

    `States` reads it, and so do ``zarr.open_group(path)`` and ``xarray.open_zarr(path)``: arrays
    ``inference`` and ``tick`` by row, both from 1 (a tick from the beginning of its inference), and
    ``value`` by row and ``column`` (``plus.h1[5]``, …). Use it as a context manager, or as a
    listener: then it is in checkpoints, and a training that goes on cuts off what was written
    later. Memory does not grow with the rows: a chunk of them, at most 1 MiB or one row, is held
    until it is full. Readers see full chunks, and all rows at the end and at each checkpoint.

    Raises:
        ConfigurationError: for another probe, dyads that are not there, another name of the file,
            one that is there and is no store of a recorder, or a simulation that has an open
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
        if self.path.suffix != ".zarr":
            said = (
                f"{self.path}: a Zarr store is written; call it {self.path.stem or 'states'}.zarr"
            )
            raise ConfigurationError(said)
        self._probe.check(simulation.model.network, simulation.rule)
        for cell in simulation.state.cells if self._probe.observes else ():
            cell.observed = True
        self._open, self._writer = False, cast("StatesWriter | None", None)  # at the first row
        self._take()  # already now: an inference may be put back before its training goes on

    def _take(self) -> None:
        """Asks the simulation to show its ticks."""
        other = self._simulation.sink
        if isinstance(other, StatesFile) and other is not self and other._open:
            said = "the simulation has an open recorder already: leave that first"
            raise ConfigurationError(said)
        self._simulation.sink = self

    def __enter__(self) -> Self:
        self._take()
        self._open = True
        return self

    def __exit__(self, *exception: object) -> None:
        """Writes the rest, and lets the simulation go."""
        if self._simulation.sink is self:
            self._simulation.sink = None
        if self._open:
            self._open = False
            self._flush()

    def look(self, passed: int, seen: Observation) -> None:
        """Appends a row."""
        if not self._open:
            return
        found = flat(self._probe.measure(seen) or {})
        with naming(self.path):
            if self._writer is None:
                self._writer = StatesWriter(self.path, list(found))
            self._writer.append(self._simulation.inferences, passed, found.values())

    def _flush(self) -> None:
        if self._writer is not None:
            with naming(self.path):
                self._writer.flush()

    # ---- as a listener -------------------------------------------------------------------------

    def on_start(self, event: StartEvent) -> None:
        del event
        self.__enter__()

    def on_end(self, event: EndEvent) -> None:
        with suppress(OSError) if event.error is not None else nullcontext():
            self.__exit__()

    def state_dict(self) -> dict[str, Any]:
        """Returns how many rows are on the disk, and their checksum."""
        if self._open:
            self._flush()
        writer = self._writer
        return {"rows": writer.rows if writer else 0, "crc": writer.crc if writer else 0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Cuts off what was written later. Raises DataError where something else was before."""
        rows, crc = state["rows"], state["crc"]
        self._writer = StatesWriter.after(self.path, rows, crc) if rows else None
