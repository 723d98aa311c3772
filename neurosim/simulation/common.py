"""What all inferences of one simulation share."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from neurosim.base import stream
from neurosim.channels import Channels
from neurosim.dynamics import Compute, Plasticity, State
from neurosim.maths import Loss
from neurosim.measures import Probe, Sink
from neurosim.network import Model
from neurosim.rules import Nudge, Rule
from neurosim.schedules import Clock, Layout, Schedule, Start
from neurosim.simulation.compatibility import Init, check_length
from neurosim.simulation.engine import Engine, UnitMap
from neurosim.simulation.outcome import Stop
from neurosim.simulation.silence import warn_of_reach

Learned = Mapping[str, Tensor] | None  # gradients; None for those of the inference itself
BeforeStep = Callable[[dict[str, Tensor]], bool | None]


class Common(Protocol):
    """What all inferences of one simulation have in common: `Simulation` describes it."""

    model: Model
    channels: Channels
    rule: Rule
    loss: Loss
    schedule: Schedule
    layout: Layout
    units: UnitMap
    state: State
    init: Init
    nudge_after: int
    plasticity: Plasticity
    stop: Stop | None
    probes: tuple[Probe, ...]
    compute: Compute
    caching: bool
    warned: set[str]  # what it has warned of already
    before_step: BeforeStep | None
    sink: Sink | None
    seed: int
    random: np.random.Generator
    inferences: int
    sample: int

    def take_up(self, inference: Any) -> None: ...
    def predict(self, x: Tensor | None = None) -> Tensor: ...
    @property
    def engine(self) -> Engine: ...
    @property
    def learns_within(self) -> bool: ...


def run_length(common: Common) -> int:
    """Returns the ticks of one run of the schedule."""
    return common.schedule.start(Start(common.layout, 0, False, stream(0, "check"))).end


def first_prediction(common: Common, nudge: Nudge, x: Tensor, *, carried: bool) -> Tensor | None:
    """Returns the prediction that is known where an inference starts; None where the target is to
    act later on a network that predicts by where it settles until then."""
    free = common.rule.phases or (common.model.network.cycle is not None and not carried)
    if free and not nudge.active:
        return None
    if common.init == "feedforward" and not common.rule.settles:
        return common.state.output.plus.some(None)
    return common.predict(x.real)


def new_clock(
    common: Common,
    tick: int,
    random: np.random.Generator,
    previous: Clock | None = None,
    *,
    nudged: bool,
) -> Clock:
    """Returns the clock of an inference that begins after ``tick``, with a target (``nudged``) or
    without one. Raises ConfigurationError for a schedule that is too short, or leaves out units."""
    feedforward, after = common.init == "feedforward", common.nudge_after if nudged else None
    clock = common.schedule.start(Start(common.layout, tick, feedforward, random, previous))
    check_length(clock.end - tick, after or 0, common.plasticity.every)
    if common.inferences <= 1:
        warn_of_reach(common, clock.end - tick, after)
    return clock
