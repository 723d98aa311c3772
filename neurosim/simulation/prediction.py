"""Prediction: how a network answers when it is evaluated, a family that is open from outside."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Kind, register
from neurosim.network import Network
from neurosim.rules import Rule
from neurosim.simulation.simulation import Simulation


class Prediction(Kind, ABC, family="prediction", bare=True):
    """Says how the network of a simulation answers inputs. Base class of the family.

    ``settles``: it runs inferences, so that each batch needs a simulation of its own.
    """

    settles: ClassVar[bool] = False

    @abstractmethod
    def predict(self, simulation: Simulation, x: Tensor) -> Iterator[Tensor | None]:
        """Yields the prediction (B, *output) for inputs x (B, *input) last, and before that None as
        often as somebody may want to look up or to stop."""

    def check(self, network: Network, rule: Rule) -> None:
        """Raises ConfigurationError where the network, or what it is under the rule, has no such
        prediction."""
        del network, rule


def why_none(network: Network, rule: Rule) -> str:
    """Returns why a network has no feed-forward prediction under a rule, empty if it has one."""
    if network.cycle is not None:
        return "the network has a cycle, so it has no feed-forward prediction"
    return f"{rule.kind} predicts by its free phase" if rule.settles else ""


@register("feedforward")
@dataclass(frozen=True)
class Feedforward(Prediction):
    """One pass from the input up."""

    def predict(self, simulation: Simulation, x: Tensor) -> Iterator[Tensor | None]:
        yield simulation.predict(x)

    def check(self, network: Network, rule: Rule) -> None:
        if why := why_none(network, rule):
            raise ConfigurationError(f"{why}; use evaluation 'settled'", "evaluation")


@register("settled")
@dataclass(frozen=True)
class Settled(Prediction):
    """Where the network settles without a target."""

    settles: ClassVar[bool] = True

    def predict(self, simulation: Simulation, x: Tensor) -> Iterator[Tensor | None]:
        simulation.start(x, record=False)
        while not simulation.done:
            simulation.advance(1)
            yield None
        yield simulation.finish().prediction
