"""A plugin: what a user may add to a simulation, each in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import stream
from neurosim.channels import Draws, Effect, Parcel
from neurosim.dynamics import Plasticity
from neurosim.families import Count, Fraction, NotNegative, Portion, Positive, register
from neurosim.learning import EndEvent, ListenerChoice, StepEvent
from neurosim.maths import Activation, Loss
from neurosim.measures import Observation, Probe
from neurosim.network import Feedback, Initialization
from neurosim.schedules import Clock, Schedule, Start, Unit, UnitKind
from neurosim.simulation import Prediction, Simulation


class CoinClock(Clock):
    """Waits for the first head: a geometric number of ticks."""

    def __init__(self, at: Start, probability: float, next_wake: Any, end: int) -> None:
        super().__init__(next_wake, end)
        self.random, self.probability = at.random, probability

    def reschedule(self, tick: int, due: Any) -> Any:
        return tick + self.random.geometric(self.probability, len(due))


@register("coin")
@dataclass(frozen=True)
class Coin(Schedule):
    """Every unit tosses a coin at every tick, and wakes with this probability. All wake first."""

    probability: Annotated[Portion, Field(description="of a wake, at each tick")] = 0.3
    ticks: Annotated[Count, Field(description="of an inference")] = 20
    unit: Unit | UnitKind = "neuron"
    tick: float = 1.0

    def start(self, at: Start) -> Clock:
        first = np.full(at.layout.total, at.tick + 1)
        return CoinClock(at, self.probability, first, at.tick + self.ticks)


@register("soft_ramp")
@dataclass(frozen=True)
class SoftRamp(Activation):
    """f(a) = log(1 + exp(sharpness·a)) / sharpness, a smooth relu."""

    largest_slope = 1.0
    sharpness: Positive = 1.0

    def __call__(self, potential: Tensor) -> Tensor:
        return torch.nn.functional.softplus(potential, self.sharpness, threshold=50.0)


@register("hinge")
@dataclass(frozen=True)
class Hinge(Loss):
    """ℓ = Σ max(0, margin − (2y − 1) ŷ): outputs of the class above the margin, others below."""

    local: ClassVar[bool] = True
    margin: Positive = 1.0

    def value(self, prediction: Tensor, target: Tensor) -> Tensor:
        return torch.relu(self.margin - (2.0 * target - 1.0) * prediction).flatten(1).sum(1)


@register("bursts")
@dataclass(frozen=True)
class Bursts(Effect):
    """Multiplies each message by 1 + ``strength``·|ε| with a ``probability``, ε standard normal."""

    repeats: ClassVar[bool] = True

    probability: Fraction = 0.1
    strength: NotNegative = 1.0

    def act(self, parcel: Parcel, draws: Draws) -> None:
        burst = parcel.uniform(draws, "when") < self.probability
        factor = 1.0 + self.strength * parcel.normal(draws, "how").abs()
        parcel.values = torch.where(burst, parcel.values * factor, parcel.values)

    def moves_zero(self) -> bool:
        return False


@register("largest_state")
@dataclass(frozen=True)
class LargestState(Probe):
    """Records the largest |s⁺| of each population."""

    def measure(self, seen: Observation) -> dict[str, float]:
        return {cell.name: float(cell.plus.value.abs().max()) for cell in seen.state.cells}


@register("signs")
@dataclass(frozen=True)
class Signs(Initialization):
    """Weights of one size and random sign."""

    size: Positive = 0.1

    def weight(self, shape: Any, fans: Any, random: np.random.Generator) -> Any:
        return self.size * random.choice((-1.0, 1.0), shape)


@register("mirror")
@dataclass(frozen=True)
class Mirror(Feedback):
    """Follows the local gradient of W at a ``rate`` of its own, and decays by itself."""

    trained = "gradient"
    rate: Positive = 0.5
    decay: NotNegative = 1e-3

    def gradient(self, of_weight: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        return self.rate * of_weight + self.decay * feedback


@register("large_differences")
@dataclass(frozen=True)
class LargeDifferences(Plasticity):
    """Only dyads whose signal is above a ``threshold`` teach the weights into them."""

    threshold: NotNegative = 1e-4

    def signal(self, node: Any, rule: Any) -> Tensor | None:
        found = super().signal(node, rule)
        return None if found is None else found * (found.abs() > self.threshold)


@register("smoothed")
@dataclass(frozen=True)
class Smoothed(Prediction):
    """The mean prediction for ``copies`` of the input with Gaussian noise of this ``std``."""

    copies: Count = 3
    std: Positive = 0.1

    def predict(self, simulation: Simulation, x: Tensor) -> Iterator[Tensor | None]:
        random, total = stream(simulation.seed, "smoothed"), torch.zeros(())
        for _ in range(self.copies):
            noise = torch.from_numpy(random.standard_normal(x.shape)).to(x)
            total = total + simulation.predict(x + self.std * noise)
            yield None
        yield total / self.copies


class LossLogging:
    """Keeps the losses of all steps, and writes their means when its run ends or stops."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.losses: list[float] = []

    def on_step(self, event: StepEvent) -> None:
        self.losses.append(event.loss)

    def on_end(self, event: EndEvent) -> None:
        parts = [self.losses[n:][: self.every] for n in range(0, len(self.losses), self.every)]
        self.path.write_text("".join(f"{np.mean(part)!r}\n" for part in parts), encoding="utf-8")

    def state_dict(self) -> dict[str, Any]:
        return {"losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])


@register("loss_log")
@dataclass(frozen=True)
class LossLog(ListenerChoice):
    """Writes the mean loss of every so many steps to a file in the run's folder."""

    every: Annotated[Count, Field(description="so many steps")] = 1
    path: str = "losses.txt"

    def make(self, folder: Path) -> LossLogging:
        return LossLogging(folder / self.path, self.every)
