"""What hardware takes for what a network does: joules and seconds of what is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from neurosim import documents
from neurosim.base import ConfigurationError, unknown
from neurosim.documents import Document
from neurosim.families import Count, Positive, build, model_of

_FOLDER = Path(__file__).parent / "hardware"
_Source = Annotated[str, Field(min_length=1, description="where the figures are from")]


def _figure(description: str) -> Any:
    return Field(ge=0, allow_inf_nan=False, description=description)


@dataclass(frozen=True)
class Cost:
    """What one event of a kind takes."""

    source: _Source
    energy: Annotated[float, _figure("joules")] = 0.0
    time: Annotated[float, _figure("seconds")] = 0.0


@dataclass(frozen=True)
class Static:
    """What is taken as time goes by."""

    source: _Source
    power: Annotated[Positive, Field(description="watts")]


@dataclass(frozen=True)
class Parallel:
    """How much is done at the same time."""

    source: _Source
    units: Annotated[Count, Field(description="that work at the same time, each by itself")]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What hardware takes for a message, a wake, a synaptic operation and an update of a weight.

    The energy of counts n is Σ n e + P t (J) in the time t = Σ n t₁ / units (s).
    """

    name: Annotated[str, Field(min_length=1, max_length=100, description="of the hardware")]
    message: Annotated[Cost, Field(description="from one dyad to those of one projection")]
    wake: Annotated[Cost, Field(description="of one dyad, in one sample")]
    synaptic_operation: Annotated[Cost, Field(description="of a message at one synapse")]
    update: Annotated[Cost, Field(description="of one weight or bias")]
    static: Annotated[Static | None, Field(description="power while it works")] = None
    parallel: Annotated[Parallel | None, Field(description="default: one thing at a time")] = None

    @classmethod
    def load(cls, name: str | Path) -> Costs:
        """Reads a file of costs, or one that ships: loihi, a100.

        Raises:
            DocumentError: for what is wrong in it, with lines.
            ConfigurationError: for a name that none has.
        """
        return cls.of(documents.load(shipped_costs(str(name)) or name))

    @classmethod
    def of(cls, document: Document) -> Costs:
        """Makes what a document describes. Raises DocumentError."""
        costs: Costs = build(documents.parse(model_of(Costs), document))
        return costs

    def spent(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Returns ``energy`` (J) and ``hardware_seconds`` of so many ``message``, ``wake``,
        ``synaptic_operation`` and ``update``, and the energy of each and of what is static."""
        kinds = {f.name: getattr(self, f.name) for f in fields(self)}
        costs = {kind: one for kind, one in kinds.items() if isinstance(one, Cost)}
        units = 1 if self.parallel is None else self.parallel.units
        seconds = sum(counts[kind] * one.time for kind, one in costs.items()) / units
        parts = {f"energy_{kind}": counts[kind] * one.energy for kind, one in costs.items()}
        parts["energy_static"] = 0.0 if self.static is None else self.static.power * seconds
        return {"energy": sum(parts.values()), "hardware_seconds": seconds, **parts}

    def of_training(self, summary: Mapping[str, Any]) -> dict[str, float]:
        """Returns the same for one sample of a training, of whose counts ``messages``, ``wakes``,
        ``synaptic_operations``, ``updates``, ``steps`` and ``samples`` a summary tells.

        A wake is of a dyad in all samples of a batch, each of which hardware runs by itself; what
        is updated once for a batch is shared by its samples. Of a stream, which has a
        ``cumulative_accuracy``, it also returns ``energy_per_right`` answer.
        """
        steps, samples = summary["steps"], summary["samples"]
        if not steps:
            return {}
        counts = {
            "message": summary["messages"] / samples,
            "wake": summary["wakes"] / steps,
            "synaptic_operation": summary["synaptic_operations"] / samples,
            "update": summary["updates"] / samples,
        }
        spent = self.spent(counts)
        if accuracy := summary.get("cumulative_accuracy"):
            spent["energy_per_right"] = spent["energy"] / accuracy
        return spent


def shipped_costs(name: str) -> Path | None:
    """Returns the file of costs that ships under this name; None for the name of another file.

    Raises ConfigurationError for a plain name that none has.
    """
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}
    plain = Path(name).name == name and not Path(name).suffix
    if plain and name not in known:
        raise ConfigurationError(unknown("hardware", name, known) + "; or name a YAML file")
    return known.get(name)
