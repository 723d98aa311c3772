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

    ``separate_feedback`` says whether differences may come back through weights of their own
    (`Projection.feedback`).
    """

    separate_feedback: ClassVar[bool] = False

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

    def check_network(self, network: Network) -> None:
        """Raises ConfigurationError where the rule is not defined for this network."""
        separate = [p for p in network.projections if p.feedback != "symmetric"]
        if separate and not self.separate_feedback:
            name, kind = separate[0].name, separate[0].feedback
            raise ConfigurationError(
                f"{type(self).__name__} sends its messages back through the transposed weights, "
                f"but the feedback of the projection {name!r} is {kind}; use feedback 'symmetric', "
                "or another rule such as dual_propagation",
                "rule",
            )

    @abstractmethod
    def mean(self, plus: Tensor, minus: Tensor) -> Tensor:
        """What dyads in these states send forward."""

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
