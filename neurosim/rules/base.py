"""What a rule is: what a neuron does when it wakes, and what it sends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from neurosim.dyad import ActivationName
from neurosim.errors import ConfigurationError
from neurosim.losses import Loss
from neurosim.network import Network
from neurosim.operators import Operator
from neurosim.populations import Feedback


class Wake(NamedTuple):
    """The result of a wake: states, and the two messages. A difference of None is exactly zero."""

    plus: Tensor
    minus: Tensor
    mean: Tensor
    difference: Tensor | None


class Upward(NamedTuple):
    """A projection upward, as far as damping depends on it: its weights, those that differences
    come back through only where they are separate."""

    operator: Operator
    weight: Tensor | None
    feedback: Tensor | None = None


@dataclass
class Nudge:
    """What acts on the output dyads: a target, once it is switched on.

    ``gradient`` is ∇ℓ at the feed-forward prediction, for the rules that freeze it.
    """

    loss: Loss
    target: Tensor | None = None
    gradient: Tensor | None = None
    active: bool = False


class Rule(ABC):
    """A frozen description; the arrays that a wake reads and writes are passed in and out.

    ``feedbacks`` are the feedback weights (`Projection.feedback`) that messages may come back
    through.
    """

    feedbacks: ClassVar[tuple[Feedback, ...]] = ("symmetric",)

    @property
    @abstractmethod
    def gradient_scale(self) -> float:
        """What the sum over the batch of δ s̄ᵀ is multiplied by, before the division by B."""

    @property
    @abstractmethod
    def needs_prediction(self) -> bool:
        """Whether the nudge needs the feed-forward prediction."""

    @property
    @abstractmethod
    def nudges_at_potential(self) -> bool:
        """Whether the nudge depends on the present potentials of the output dyads."""

    @abstractmethod
    def check_loss(self, loss: Loss) -> None:
        """Raises ConfigurationError where the rule's nudge cannot use this loss."""

    def check_feedback(self, network: Network) -> None:
        """Raises ConfigurationError where a projection has feedback that the rule has not."""
        for projection in network.projections:
            if projection.feedback not in self.feedbacks:
                possible = " or ".join(map(repr, self.feedbacks))
                raise ConfigurationError(
                    f"{type(self).__name__} needs the feedback {possible}, but that of the "
                    f"projection {projection.name!r} is {projection.feedback!r}; change it, or use "
                    "another rule",
                    "rule",
                )

    @abstractmethod
    def mean(self, plus: Tensor, minus: Tensor) -> Tensor:
        """What dyads in these states send forward."""

    def error(
        self, activation: ActivationName, plus: Tensor, minus: Tensor, difference: Tensor | None
    ) -> Tensor | None:
        """What the weights into dyads in these states learn from, δ in the local gradient: the
        ``difference`` that was sent, in rules that send nothing else back. None is exactly zero."""
        del activation, plus, minus
        return difference

    @abstractmethod
    def damping_of(self, upward: Sequence[Upward]) -> float:
        """The damping D of a population with these projections upward."""

    @abstractmethod
    def force(self, nudge: Nudge, basal: Tensor) -> Tensor:
        """What an active nudge adds to the apical potential of all output dyads (B, *output)."""

    @abstractmethod
    def wake(
        self,
        activation: ActivationName,
        basal: Tensor,
        apical: Tensor | None,
        *,
        plus: Tensor | None = None,
        minus: Tensor | None = None,
        damping: float = 0.0,
        force: Tensor | None = None,
    ) -> Wake:
        """One wake of dyads with these potentials (B, …); an apical potential of None is zero.

        ``force`` is given for output dyads under an active nudge.
        """
