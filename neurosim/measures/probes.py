"""Probes: what is recorded during an inference, and when."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, PluginError
from neurosim.dynamics import Counts, Phases, State
from neurosim.families import Count, Kind, check, kinds, register
from neurosim.measures.gradients import Alignment, Truth, alignment, feedback_alignment
from neurosim.measures.metrics import in_flight, reach, residual, staleness
from neurosim.network import Network
from neurosim.rules import Nudge, Rule
from neurosim.tensors import Selection

Record = dict[str, Any]
Woken = Sequence[tuple[int, Selection | None]]


@dataclass(frozen=True)
class Observation:
    """Holds what probes look at: a simulation at the end of ``tick``.

    ``unit`` is the simulated time of one tick. ``woken`` are the dyads that woke in it, by the
    index of their cell; None for all of its dyads.
    """

    state: State
    rule: Rule
    nudge: Nudge
    phases: Phases
    unit: float
    counts: Counts
    tick: int
    woken: Woken
    truth: Truth

    def true_gradient(self) -> dict[str, Tensor] | None:
        """Returns the gradient of the batch-mean loss, see `measures.true_gradient`."""
        return self.truth.of(self.state, self.rule, self.nudge)


class _ByName(ABCMeta):
    """Lets ``Probe("residual", every=2)`` make the member of that name."""

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if not cls.__abstractmethods__:
            return super().__call__(*arguments, **options)
        options |= dict(zip(("kind", "every"), arguments, strict=False))
        return Probe.of(options.pop("kind", None), **options)


@dataclass(frozen=True)
class Probe(Kind, metaclass=_ByName, family="probe", bare=True):
    """Records a measure at every ``every``-th tick, and at the last. Base class of all probes.

    ``Probe("residual", every=2)`` and ``Probe.of("residual", every=2)`` make a member by its name.
    ``per``: what ``every`` counts; training itself records what is not per tick. ``tracks``:
    messages must remember when they were sent. ``observes``: it asks for potentials as dyads last
    computed them. ``at_end``: it also records at the end, due or not.
    ``of_wakes``: it has nothing to record in a tick without a wake.
    """

    taken: ClassVar[Mapping[str, str]] = {"phase": "what a trace calls the beginnings of phases"}
    per: ClassVar[Literal["tick", "step", "epoch"]] = "tick"
    tracks: ClassVar[bool] = False
    at_end: ClassVar[bool] = True
    of_wakes: ClassVar[bool] = False

    every: Annotated[Count, Field(description="a record every so many ticks")] = field(
        default=1, kw_only=True
    )

    @property
    def observes(self) -> bool:
        """Says if it asks for potentials as dyads last computed them."""
        return False

    @abstractmethod
    def measure(self, seen: Observation) -> Record | None:
        """Returns a record of numbers, text, lists and mappings by name; None for nothing to say.

        Reads the simulation and changes nothing. The tick and time of the record are added to it.
        """

    def records(self, seen: Observation) -> Iterable[Record]:
        """Returns all records of a tick, of a probe that may have several."""
        measured = self.measure(seen)
        return () if measured is None else (measured,)

    def check(self, network: Network, rule: Rule) -> None:
        """Checks that it can measure this network.

        Raises:
            ConfigurationError: where it cannot.
        """
        del network, rule


def in_order(probes: Sequence[Probe]) -> list[Probe]:
    """Returns probes in the order in which their records are written: that of registration.

    Raises:
        ConfigurationError: where one is named twice.
    """
    kinds = [probe.kind for probe in probes]
    for number, kind in enumerate(kinds):
        if kind in kinds[:number]:
            raise ConfigurationError(f"the probe {kind!r} is named twice", (number,))
    order = Probe.family.registered
    return sorted(probes, key=lambda probe: order.index(probe.kind))


class Trace:
    """Holds what the probes of one inference recorded: records by kind, each with its time.

    ``trace["residual"][-1]["total_mean"]`` is the last residual of the means. With any probe and a
    rule with phases ``trace["phase"]`` says when each began, once the inference has ended. What was
    not probed is empty. Raises ConfigurationError for a name that no probe has.
    """

    def __init__(self, records: Mapping[str, Sequence[Record]] | None = None) -> None:
        self._records: dict[str, list[Record]] = {}
        if records is not None:  # every inference makes an empty one, and a check takes its time
            check(Mapping[str, Sequence[Mapping[str, Any]]], records=records)
            self._records = {kind: list(items) for kind, items in records.items()}

    def add(self, kind: str, record: Record) -> None:
        """Appends a record."""
        self._records.setdefault(kind, []).append(record)

    def __getitem__(self, kind: str) -> list[Record]:
        if kind not in self._records and kind != "phase":
            Probe.family[kind]  # raises where there is no such probe
        return self._records.get(kind, [])

    def __contains__(self, kind: object) -> bool:
        return kind in self._records

    def __repr__(self) -> str:
        counts = ", ".join(f"{kind}: {len(items)}" for kind, items in self._records.items())
        return f"Trace({counts or 'nothing was probed'})"

    def kinds(self) -> tuple[str, ...]:
        """Returns the kinds that have records, in the order of their first."""
        return tuple(self._records)

    @property
    def wakes(self) -> list[tuple[float, str, list[int] | None]]:
        """Returns every wake, as `Replay` takes them: (time, population, flat indices or None)."""
        return [(r["time"], r["population"], r["indices"]) for r in self["wakes"]]

    def state_dict(self) -> dict[str, Any]:
        """Returns all records, as the constructor takes them."""
        return {kind: list(items) for kind, items in self._records.items()}


class Sink(Protocol):
    """Looks at every ``every``-th tick of all inferences of a simulation."""

    every: int

    def look(self, passed: int, seen: Observation) -> None: ...


@dataclass(frozen=True)
class Recorder:
    """Asks the ``probes`` of a simulation, lets its ``sink`` look, and tells if it has come to
    rest."""

    state: State
    rule: Rule
    nudge: Nudge
    phases: Phases
    probes: Sequence[Probe]
    unit: float
    sink: Sink | None = None
    truth: Truth = field(default_factory=Truth)

    def record(
        self, trace: Trace | None, counts: Counts, tick: int, passed: int, woken: Woken
    ) -> None:
        """Adds what is due at ``tick``, ``passed`` ticks into an inference, if there is a trace."""
        if trace is not None:
            due = [probe for probe in self.probes if passed % probe.every == 0]
            self._add(trace, due, counts, tick, woken)
        if self.sink is not None and passed % self.sink.every == 0:
            self.sink.look(passed, self._seen(counts, tick, woken))

    def close(self, trace: Trace, counts: Counts, tick: int) -> None:
        """Adds, at the end of an inference, its phases, and what was not due at its last tick."""
        begins = self.phases.begins if self.probes else ()
        for began, phase in zip(begins, self.phases.all, strict=False):
            trace.add("phase", self._when(began) | {"phase": phase.name})
        there = {p.kind for p in self.probes if trace[p.kind] and trace[p.kind][-1]["tick"] == tick}
        late = [p for p in self.probes if p.at_end and p.kind not in there]
        self._add(trace, late, counts, tick, ())

    def _add(
        self, trace: Trace, probes: Sequence[Probe], counts: Counts, tick: int, woken: Woken
    ) -> None:
        if not probes:
            return
        seen = self._seen(counts, tick, woken)
        for probe in probes:
            for record in probe.records(seen):
                trace.add(probe.kind, self._when(tick) | _written(probe, record))

    def _seen(self, counts: Counts, tick: int, woken: Woken) -> Observation:
        about = self.state, self.rule, self.nudge, self.phases
        return Observation(*about, self.unit, counts, tick, woken, self.truth)

    def _when(self, tick: int) -> Record:
        return {"tick": tick, "time": tick * self.unit}

    def settled(self, tolerance: float) -> bool:
        """Says if both residuals are at most ``tolerance`` and the nudge has reached everything."""
        nudge, free = self.nudge, bool(self.phases.all) and not self.nudge.active
        expected = nudge.target is not None and not free
        if expected and not (nudge.active and all(reach(self.state).values())):
            return False
        found = residual(self.state, self.rule, nudge)
        return max(found.mean[""], found.difference[""]) <= tolerance


def _written(probe: Probe, record: Any) -> Record:
    """Returns a record. Raises PluginError where it, or a value in it, cannot be written."""
    said = ""
    if not isinstance(record, Mapping):
        said = f"measures {record!r}, which is no mapping: return {{name: number}}, or None"
    for name, value in record.items() if not said else ():
        if isinstance(value, Tensor | np.generic | np.ndarray) and not isinstance(value, float):
            said = f"records a {type(value).__name__} as {name!r}: record numbers, float(…)"
    if said:
        raise PluginError(f"{kinds.where(type(probe))}: the probe {probe.kind!r} {said}")
    return dict(record)


# ---- ours ----------------------------------------------------------------------------------------


@register("residual")
@dataclass(frozen=True)
class ResidualProbe(Probe):
    """Measures ‖s − T(s)‖ / ‖s‖ for the mean and the difference, by population and in total."""

    def measure(self, seen: Observation) -> Record:
        found = residual(seen.state, seen.rule, seen.nudge)
        return _totalled(mean=found.mean, difference=found.difference)


@register("gradient_angle")
@dataclass(frozen=True)
class GradientAngleProbe(Probe):
    """Measures angle (degrees) and norm ratio of the local gradient to the true one, by parameter.

    That is back-propagation's, or that of the settled network for a rule that predicts so: the
    record then says ``reference``: settled, and there is none without a free fixed point. A rule
    with phases has a gradient in the last one only.
    """

    def check(self, network: Network, rule: Rule) -> None:
        if network.cycle is not None and not rule.settles:
            raise ConfigurationError(
                "gradient_angle compares with back-propagation, which needs a network "
                "without cycles",
                "probes",
            )

    def measure(self, seen: Observation) -> Record | None:
        if seen.nudge.target is None or not seen.phases.complete:
            return None
        reference = seen.true_gradient()
        if reference is None:
            return None
        angles = _aligned(alignment(seen.phases.gradients()[0], reference))
        return angles | ({"reference": "settled"} if seen.rule.settles else {})


@register("reach")
@dataclass(frozen=True)
class ReachProbe(Probe):
    """Says which populations have a difference of the target's making."""

    def measure(self, seen: Observation) -> Record:
        return {"reached": reach(seen.state)}


@register("messages")
@dataclass(frozen=True)
class MessagesProbe(Probe):
    """Counts messages by kind, synaptic operations and wakes so far."""

    def measure(self, seen: Observation) -> Record:
        return asdict(seen.counts)


@register("wakes")
@dataclass(frozen=True)
class WakesProbe(Probe):
    """Records the wakes of each tick, as `Replay` takes them; complete only with ``every`` = 1."""

    at_end: ClassVar[bool] = False
    of_wakes: ClassVar[bool] = True

    def measure(self, seen: Observation) -> None: ...

    def records(self, seen: Observation) -> Iterable[Record]:
        for index, selection in seen.woken:
            indices = None if selection is None else selection.dyads.tolist()
            yield {"population": seen.state.cells[index].name, "indices": indices}


@register("in_flight")
@dataclass(frozen=True)
class InFlightProbe(Probe):
    """Counts messages sent and not yet arrived, by kind and projection, and in total."""

    def measure(self, seen: Observation) -> Record:
        found = in_flight(seen.state, seen.tick)
        totals = {f"total_{kind}": sum(by_name.values()) for kind, by_name in found.items()}
        return {**found, **totals, "total": sum(totals.values())}


@register("staleness")
@dataclass(frozen=True)
class StalenessProbe(Probe):
    """Measures how far what each population sees lies behind its senders: by how much simulated
    time (``mean_lag``) and of their norm (``mean_error``), and the same for differences."""

    tracks: ClassVar[bool] = True

    def measure(self, seen: Observation) -> Record:
        late = staleness(seen.state, seen.rule)
        record: Record = {}
        for kind, lags in late.lag.items():
            record[f"{kind}_lag"] = {name: ticks * seen.unit for name, ticks in lags.items()}
            record[f"{kind}_error"] = late.error[kind]
        return record


@register("feedback_angle")
@dataclass(frozen=True)
class FeedbackAngleProbe(Probe):
    """Measures angle (degrees) and norm ratio of feedback to forward weights, by projection."""

    def measure(self, seen: Observation) -> Record:
        return _aligned(feedback_alignment(seen.state))


class _OfTraining(Probe):
    """What training records by itself."""

    def measure(self, seen: Observation) -> None: ...


@register("loss")
@dataclass(frozen=True)
class LossProbe(_OfTraining):
    """Records the training loss every so many steps."""

    per = "step"
    every: Annotated[Count, Field(description="a record every so many steps")] = field(
        default=10, kw_only=True
    )


@register("accuracy")
@dataclass(frozen=True)
class AccuracyProbe(_OfTraining):
    """Records the accuracy on the test samples every so many epochs, and at the end."""

    per = "epoch"


def _totalled(**values: Mapping[str, float]) -> Record:
    """Makes a record of values by name, in which "" is the name of the total."""
    parts = {what: {k: v for k, v in named.items() if k} for what, named in values.items()}
    return parts | {f"total_{what}": named[""] for what, named in values.items()}


def _aligned(found: Mapping[str, Alignment]) -> Record:
    angles = {name: value.angle for name, value in found.items()}
    return _totalled(angle=angles, norm_ratio={n: value.norm_ratio for n, value in found.items()})
