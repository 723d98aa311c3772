"""A simulation: model, rule, schedule, channels and probes put together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neurosim.base import NEVER, InputError, StateError, stream
from neurosim.channels import Channels, Wiring
from neurosim.dynamics import Compute, Counts, Plasticity, State
from neurosim.families import Count, Seed, Whole, check
from neurosim.maths import Loss, Precision, check_precision, finite_norm
from neurosim.measures import Probe, Sink, Trace, metrics
from neurosim.network import Faults, Model, placed
from neurosim.rules import DualPropagation, Nudge, Rule
from neurosim.schedules import Layout, Schedule, Unit
from neurosim.simulation import compatibility, saving
from neurosim.simulation.common import BeforeStep, Learned, new_clock, run_length
from neurosim.simulation.compatibility import Init, accept_batch
from neurosim.simulation.engine import Engine, Processes, UnitMap
from neurosim.simulation.inference import Inference
from neurosim.simulation.outcome import Outcome, Stop
from neurosim.simulation.parts import Composed, html_of, parts_of, text_of
from neurosim.simulation.repeats import BRIEF, Repeats
from neurosim.simulation.stream import Stream

TWINS = 2**62  # what inferences of twins are numbered from


class Simulation(Composed):
    """Puts together an asynchronous network of dyads, for one batch at a time.

    ``init``: start each inference from ``zero`` states, from a ``feedforward`` pass, or ``carry``
    states, messages and time over (L-DP). ``nudge_after``: the tick from which the target acts.
    ``plasticity`` says what weights learn: with an optimizer, after ``every`` so many of its ticks,
    which ``learn_every`` sets too, or where the schedule says so; else it is left to `learn`.
    ``compute``: "dense" forces dense operations, "graph" that CUDA captures them. ``processes``:
    one of SimPy per "population", or "neuron". ``devices`` places populations, by name, ``a..b`` or
    ``rest``. ``precision``: "bf16-mixed" has products of projections in bfloat16.

    Raises ConfigurationError for parts that do not go together.
    """

    __repr__, _repr_html_ = text_of, html_of

    @compatibility.undisturbed()
    def __init__(
        self,
        model: Model,
        *,
        schedule: Schedule | str,
        rule: Rule | str | None = None,
        loss: Loss | str = "squared_error",
        channels: Channels | None = None,
        faults: Faults | None = None,
        init: Init = "feedforward",
        nudge_after: int | None = None,
        plasticity: Plasticity | str = "contrastive_hebbian",
        learn_every: int | None = None,
        probes: Sequence[Probe | str] = (),
        stop: Stop | None = None,
        device: str | torch.device = "cpu",
        devices: Mapping[str, str | torch.device] | None = None,
        compute: Compute = "auto",
        precision: Precision | None = None,
        processes: Processes = "population",
        seed: int = 0,
    ) -> None:
        compatibility.check_model(model)
        self.rule = DualPropagation() if rule is None else Rule.of(rule)
        schedule = Schedule.of(schedule)
        check(Init, init=init)
        check(Compute, compute=compute)
        check(Processes, processes=processes)
        learn_every = check(Count | None, learn_every=learn_every)
        nudge_after = check(Whole | None, nudge_after=nudge_after)
        seed = check(Seed, seed=seed)
        compatibility.check_parts((channels, Channels), (faults, Faults), (stop, Stop))
        check_precision(precision, model.dtype)
        network = model.network
        self.probes = Probe.all_of(probes)
        compatibility.check_start(init, self.rule, network)
        compatibility.check_probes(self.probes, network, self.rule)
        self.loss = Loss.of(loss)
        self.rule.check_loss(self.loss)
        self.rule.check_network(network)
        compatibility.check_output(self.loss, network)
        self.devices = dict(check(Mapping[str, Any] | None, devices=devices) or {})
        self.device, places = placed(network, device, self.devices)
        self.model, self.schedule, self.init, self.stop = model.place(places), schedule, init, stop
        self.processes, self.precision, self.warned = processes, precision, set[str]()
        plasticity = Plasticity.of(plasticity)
        every = plasticity.every if learn_every is None else learn_every
        self.plasticity = replace(plasticity, every=every)
        self.nudge_after = nudge_after or 0
        if nudge_after is None and not self.rule.phases:
            self.nudge_after = schedule.nudge_after(network.depth)
        self.layout = Layout(network, Unit.of(schedule.unit))
        self.channels, self.faults = channels or Channels(), faults or Faults()
        resolved = self.channels.resolve(network, schedule.tick)
        compatibility.check_phases(self.rule, resolved, nudge_after, self.learn_every)
        compatibility.check_updates(self.rule, schedule, self.learn_every)
        compatibility.check_winners(network, resolved, schedule.tick)
        self.plasticity.check(self.rule, resolved, schedule.tick)
        tracked = any(probe.tracks for probe in self.probes)
        self.state = State(
            model,
            resolved,
            Wiring(seed, schedule.tick, tracked, model.dtype, self.device, self.device),
            self.faults.damage(network, seed),
            devices=places,
            precision=precision,
            paired=self.rule.paired,
            by_position=self.layout.unit.has_positions,
        )
        observed = self.plasticity.observes or any(probe.observes for probe in self.probes)
        for cell in self.state.cells if observed else ():
            cell.observed = True
        self.units = UnitMap(self.layout, self.state)
        self.seed, self.compute, self.random = seed, compute, stream(seed, "schedule")
        # Begun so far, and the first sample's place in the batch: all of them have their own noise.
        self.inferences = self.sample = 0
        self.before_step: BeforeStep | None = None  # is told of gradients; False is a veto
        self.sink: Sink | None = None  # what looks at ticks, besides the probes
        self.caching = True  # whether what has not changed is left out: never changes a result
        self._inference: Inference | None = None  # the present one, or the last
        self._repeats = Repeats(self)

    # ---- an inference --------------------------------------------------------------------------

    def infer(
        self,
        x: Tensor,
        target: Tensor | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        record: bool = True,
    ) -> Outcome:
        """Runs a whole inference: `start`, `advance` to the end, and `finish`.

        Args:
            x: inputs (B, *input), a tensor or an array of numpy.
            target: what the output is nudged towards, (B, *output), or classes (B,) as whole
                numbers. Without a target nothing acts on the output.
            optimizer: of torch, for a simulation that learns within an inference.
            record: whether the probes record.

        Returns:
            Predictions, states, counts and the trace of the probes. `gradients` and `learn` are
            for what weights learn of it.

        Raises:
            InputError: for wrong shapes, or values that are not finite.
            ConfigurationError: for an optimizer that the model cannot learn with.
            DivergenceError: where a state is not finite.
        """
        if not self._start(x, target, optimizer, record, NEVER):
            self.advance()
        return self.finish()

    def start(
        self,
        x: Tensor,
        target: Tensor | None = None,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        record: bool = True,
        ahead: bool = False,
    ) -> None:
        """Begins an inference on inputs x (B, *input) with targets (B, *output), if any.

        ``optimizer`` is for ``learn_every``; ``record`` switches the probes. ``ahead`` lets it be
        over at once where `infer` would replay it and the last took less than a second. Raises as
        `infer` does, and ConfigurationError for an optimizer that nothing tells when to step.
        """
        self._start(x, target, optimizer, record, BRIEF * ahead)

    @compatibility.undisturbed()
    def _start(
        self, x: Tensor, target: Tensor | None, optimizer: Any, record: bool, longest: float
    ) -> bool:
        """Does that, or runs it if the last took ``longest`` seconds at most: says if so."""
        compatibility.check_within(optimizer, self.learns_within)
        x, target, moderate = accept_batch(x, target, self.model)
        compatibility.check_optimizer(optimizer, self.model)
        last = self._inference
        previous = last if self.init == "carry" and last is not None and not last.failed else None
        if previous is not None and len(x) != self.state.batch:
            raise InputError(
                f"the batch has {len(x)} samples, but the carried states have {self.state.batch}; "
                "with init 'carry' the batch size is fixed"
            )
        self.inferences += 1
        tick, before = (0, None) if previous is None else (previous.tick, previous.clock)
        clock = self._repeats.clock(tick, before, nudged=target is not None)
        how: Any = {"number": self.inferences, "optimizer": optimizer, "record": record}
        self.take_up(new := Inference(self, clock, target, tick=tick, moderate=moderate, **how))
        x, took = x.to(self.rule.state_dtype(x.dtype)), NEVER if last is None else last.seconds
        if took <= longest and self._repeats.run(new, x):
            return True
        new.begin(x, carried=previous is not None)
        return False

    def stream(self, *arguments: Any, **options: Any) -> Stream:
        """Returns an inference without end, while input and target change: see `Stream`."""
        return Stream(self, *arguments, **options)

    def take_up(self, inference: Inference | None) -> None:
        """Ends the present inference, if any, and puts another one in its place."""
        if (last := self._inference) is not None:
            last.running = False
            if last.failed:
                self.__dict__.pop("engine", None)  # its processes may have stopped anywhere
        self._inference = inference

    @cached_property
    def engine(self) -> Engine:
        """The processes, which live as long as the simulation."""
        return Engine(self.layout.offsets, self.processes)

    def advance(
        self, ticks: int | None = None, interrupted: Callable[[], bool] = lambda: False
    ) -> int:
        """Runs so many ticks, or to the end of the inference, or until ``interrupted()``, which is
        asked wherever anything is due. Returns how many ticks were run.

        Raises StateError outside of an inference, DivergenceError where a state is not finite.
        """
        return self._known("is no inference under way: call start").advance(ticks, interrupted)

    def finish(self) -> Outcome:
        """Ends the inference, with learning if it is due. What arrives at the tick after the last
        has been delivered. Raises StateError outside of an inference."""
        return self._known("is no inference under way: call start").finish()

    def _known(self, missing: str = "are no states yet: call infer or start") -> Inference:
        if self._inference is None:
            raise StateError(f"there {missing} first")
        return self._inference

    @property
    def inference(self) -> Inference:
        """The present inference, or the last. Raises StateError where there is none."""
        return self._known()

    @property
    def done(self) -> bool:
        """Whether the inference is over; an event-driven one also when nothing is due."""
        return self.inference.done

    @property
    def last_tick(self) -> int:
        """The tick at which the inference ends at the latest."""
        return self.inference.last_tick

    @property
    def counts(self) -> Counts:
        """What this inference has done so far."""
        return self.inference.counts

    @property
    def phase(self) -> str | None:
        """The name of the present phase, in a rule that has any."""
        phase = None if self._inference is None else self._inference.phases.present
        return None if phase is None else phase.name

    @property
    def nudge(self) -> Nudge:
        """What acts on the output dyads in this inference."""
        return Nudge(self.loss) if self._inference is None else self._inference.nudge

    @property
    def trace(self) -> Trace:
        """What the probes have recorded in this inference."""
        return Trace() if self._inference is None else self._inference.trace

    @property
    def tick(self) -> int:
        """The last completed tick."""
        return 0 if self._inference is None else self._inference.tick

    @property
    def time(self) -> float:
        """Simulated time."""
        return self.tick * self.schedule.tick

    @property
    def ticks(self) -> int:
        """The ticks of one inference, at most."""
        return run_length(self) * max(1, sum(phase.runs for phase in self.rule.phases))

    def predict(self, x: Tensor | None = None) -> Tensor:
        """Returns what the network answers (B, *output), at its present weights and without any
        target, to x (B, *input), or to the input of the present inference.

        That is one feed-forward pass, faults and all, over ideal channels and in the model's own
        dtype. A network with a cycle, or under a rule that predicts by its free phase, settles in a
        `twin`. Raises InputError for a wrong shape, StateError where there is no inference yet.
        """
        if x is None:
            self._known("is no input yet: call infer or start")
            x = self.state.input.plus.some(None).real
        x = compatibility.as_tensor("input", x)
        if self.rule.settles or self.model.network.cycle is not None:
            return self.twin().infer(x).prediction
        return self.model.predict(x, self.state.damage)

    def twin(self, number: int = 0) -> "Simulation":
        """Returns a simulation of the same parts and the same parameters with states of its own, as
        they are before the first inference, and without probes.

        Its noise depends on its ``number``, and is that of no inference of this simulation.
        """
        twin = Simulation(self.model, **parts_of(self) | {"probes": ()})
        twin.caching, twin.random = self.caching, stream(self.seed, "evaluation")
        twin.inferences, twin.warned = TWINS + check(Whole, number=number), self.warned
        return twin

    @property
    def learn_every(self) -> int | None:
        """After how many ticks the weights are updated, if within an inference."""
        return self.plasticity.every

    @property
    def learns_within(self) -> bool:
        """Whether weights are updated within an inference, by ``learn_every`` or the schedule."""
        return self.learn_every is not None or bool(self.schedule.update_ticks)

    # ---- learning ------------------------------------------------------------------------------

    @compatibility.undisturbed()
    def gradients(self) -> dict[str, Tensor]:
        """Returns all local gradients, batch mean, by the keys of ``model.state_dict()``.

        ∂L/∂W = −1/(βB) Σ (s⁺ − s⁻) s̄ᵀ (DP23 eq. 10), with the states as they are now. Phases add
        what their ends give: StateError before the last. DivergenceError if one is not finite.
        """
        found, sure = self.inference.gradients()
        if not sure:
            finite_norm(found, f"at tick {self.tick} the gradient of", self.rule.remedy)
        return found

    @compatibility.undisturbed()
    def objective(self) -> float:
        """Returns (1/βB) Σ_k Σ_batch (s⁻ − s⁺)ᵀ a_k, whose derivative by the weights is
        `gradients`. Raises StateError in a rule with phases."""
        self._known()
        return metrics.contrastive_objective(self.state, self.rule)

    def learn(self, optimizer: torch.optim.Optimizer, gradients: Learned = None) -> None:
        """Hands the local gradients, or those given, to the optimizer and takes one step.

        What is frozen (``requires_grad_(False)``) stays. ``before_step``, if set, is given the
        gradients first: it may change them, and return False to veto the step, which leaves every
        parameter as it is. Then the plasticity clips them.

        Raises:
            ConfigurationError: for an optimizer that the model cannot learn with.
            DivergenceError: for a gradient that is not finite; no weight has changed.
        """
        compatibility.check_optimizer(optimizer, self.model, needed=True)
        self.inference.learn(optimizer, gradients)

    def weights_changed(self) -> None:
        """Tells it of weights that were written where torch does not count: through ``.data``, or a
        numpy array, or by a fused optimizer outside of `learn`. All other writes are noticed."""
        if self._inference is not None:
            self._inference.check_weights(written=True)

    def check_schedule(self) -> None:
        """Raises the ConfigurationError that `start` would for this schedule and network."""
        new_clock(self, 0, stream(0, "check"), nudged=True)

    # ---- as data -------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        """Lets copy and pickle make it of its parts and its state; ``before_step`` stays behind.
        Raises StateError within an inference that has an optimizer."""
        return saving.reduce(self, self._inference)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the rest of the run depends on, as tensors and numbers. With the states
        of model and optimizer a simulation that is built the same way goes on bit for bit."""
        return saving.save(self, self._inference)

    @compatibility.undisturbed()
    def load_state_dict(
        self, state: dict[str, Any], *, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Continues where `state_dict` was taken; ``optimizer`` is for ``learn_every``.

        Raises StateError where the state is of another version, network, rule or schedule, or not
        complete.
        """
        saving.check(self, state, optimizer)
        self.take_up(None)  # there is none where the rest is not complete
        self._inference = saving.load(self, state, optimizer, Inference)
