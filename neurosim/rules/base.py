"""What a rule is: what a neuron does when it wakes, and what it sends."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Kind
from neurosim.maths import Activation, Last, Loss, Messages, News, Operator, Rows
from neurosim.network import Feedback, LocalJacobian, Network
from neurosim.tensors import Arrays, Deferred, finite_product, materialized


class Known(NamedTuple):
    """What a rule has found out of the arrays of a wake: of these, and no others in their place.

    ``finite`` says if all of them are; None where it has not looked. ``moderate``: if they are, the
    norms of both messages are far from overflow. ``news`` counts against `Woken.last`.
    """

    finite: Tensor | bool | None = None
    moderate: bool = False
    news: News | None = None
    of: tuple[Tensor | Deferred | None, ...] = ()


_NOTHING = Known()


class Wake(NamedTuple):
    """The result of a wake: states, and the two messages. A difference of None is exactly zero.

    A neuron with one state has it twice, and sends back what its rule says in the difference's
    place. States may be `Deferred` where there is a `Woken.last`.
    """

    plus: Tensor | Deferred
    minus: Tensor | Deferred
    mean: Tensor
    difference: Tensor | None
    told: Known = _NOTHING

    def knowing(
        self,
        finite: Tensor | bool | None = None,
        *,
        moderate: bool = False,
        news: News | None = None,
    ) -> "Wake":
        """Returns this wake with what its rule has found out of it."""
        return self._replace(told=Known(finite, moderate, news, self[:4]))

    @property
    def known(self) -> Known:
        """What its rule has found out of these arrays: nothing where one was replaced since, as a
        rule that is derived from another may do."""
        told = self.told
        return told if told.of and all(map(is_, told.of, self)) else _NOTHING

    def is_finite(self) -> Tensor | bool:
        """Says if s⁺ᵀs⁻ is finite, which it is not if any state is not, and a difference that is
        not between two states; what the rule has found out is not asked again."""
        finite = self.known.finite
        if finite is not None:
            return finite
        plus, minus = materialized(self.plus), materialized(self.minus)
        known, difference = finite_product(plus, minus), self.difference
        if self.minus is self.plus and difference is not None and difference is not self.plus:
            known = known & finite_product(difference, difference)
        return known


class Woken(NamedTuple):
    """Dyads of one population that wake, with what they find: arrays of shape (B, …).

    An apical potential of None is zero. The states ``plus`` and ``minus`` are given under damping
    alone, ``force`` for output dyads under an active nudge, and ``strength`` for all output dyads:
    that of the present phase. ``last`` is there where nobody asks for the states at once.
    """

    activation: Activation
    basal: Tensor
    apical: Tensor | None = None
    plus: Tensor | None = None
    minus: Tensor | None = None
    damping: float = 0.0
    force: Tensor | None = None
    strength: complex | None = None
    last: Last | None = None

    @property
    def pull(self) -> Tensor | None:
        """The apical potential with the force of the nudge."""
        apical, force = self.apical, self.force
        return apical if force is None else force if apical is None else apical + force


def only_squared_error(loss: Loss, whose: str, mend: str) -> None:
    """Raises ConfigurationError for another loss than the one whose closed form a nudge is."""
    if loss.kind != "squared_error":
        said = f"{whose} the closed form of squared_error, not of {loss.kind}; {mend}"
        raise ConfigurationError(said, "loss")


def only_clipping(network: Network, whose: str, mend: str) -> None:
    """Raises ConfigurationError for an output whose activation does more than clip."""
    output = network.output
    if not output.activation.clips:
        clipping = [repr(name) for name, f in Activation.family.items() if f.clips]
        raise ConfigurationError(
            f"{whose} a closed form, which the activation {str(output.activation)!r} of the output "
            f"{output.name!r} does not have; use one of {', '.join(clipping)} there, or {mend}",
            "rule",
        )


class Upward(NamedTuple):
    """A projection upward, as far as damping depends on it: its weights, those that differences
    come back through only where they are separate."""

    operator: Operator
    weight: Tensor | None
    feedback: Tensor | None = None


@dataclass
class Nudge(Arrays):
    """What acts on the output dyads: a target, once it is switched on.

    ``gradient`` is ∇ℓ at the feed-forward prediction, for the rules that freeze it; ``strength``
    is that of the present phase, and ``settled`` the output at the end of the first one, for the
    rules that have several.
    """

    loss: Loss
    target: Tensor | None = None
    gradient: Tensor | None = None
    active: bool = False
    strength: float | complex = 0.0
    settled: Tensor | None = None


Nudge.plain = ("gradient", "active", "strength", "settled")


@dataclass(frozen=True)
class Phase:
    """A part of an inference in which the target acts on the output dyads with one ``strength`` β.

    The schedule runs ``runs`` times in it. With 0 the phase is free: the target does not act. Of
    the product of post- and presynaptic values at its end, the gradient takes ``share`` times.
    ``restored``: it begins with the states at the end of the first phase.
    """

    name: str
    strength: complex = 0.0
    share: complex = 0.0
    runs: int = 1
    restored: bool = False


class Rule(Kind, ABC, family="rule"):
    """A frozen description; the arrays that a wake reads and writes are passed in and out.

    ``separate_feedback``: whether differences may come back through a weight of their own.
    ``paired``: whether a neuron has two states s⁺ and s⁻, or one, for which both names stand.
    ``holomorphic``: whether its states are complex. ``settles``: whether the network predicts
    by where it settles without a target, and not by one pass from the input up; that is also what
    the true gradient, with which the local one is compared, differentiates. ``remedy``: what helps
    where states are no longer finite.
    """

    separate_feedback: ClassVar[bool] = False
    paired: ClassVar[bool] = True
    remedy: ClassVar[str] = "try a smaller learning rate"
    holomorphic: ClassVar[bool] = False
    settles: ClassVar[bool] = False

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of an inference in order. Without any there is one, in which the target
        acts from `Simulation.nudge_after` on, and the weights may learn at any time."""
        return ()

    def phases_of(self, seed: int, number: int) -> tuple[Phase, ...]:
        """Returns the phases of the inference of that number, in a simulation of that seed, for a
        rule that draws strengths. What else is in ``phases`` must hold for every inference."""
        del seed, number
        return self.phases

    def state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """That of the states of a network with parameters of this dtype."""
        return dtype.to_complex() if self.holomorphic else dtype

    def gradient_gains(self, network: Network) -> dict[str, float]:
        """What the gradients of weights and bias are multiplied by besides `gradient_scale`, by
        post-synaptic population; 1 where it is not named."""
        del network
        return {}

    def check_network(self, network: Network) -> None:
        """Raises ConfigurationError where the rule is not defined for this network."""
        del network

    @property
    def gradient_scale(self) -> float:
        """What the sum over the batch of δ s̄ᵀ is multiplied by, before the division by B (and, in
        a rule with phases, by the share of each)."""
        return -1.0

    @property
    def needs_prediction(self) -> bool:
        """Whether the nudge needs the feed-forward prediction."""
        return False

    @property
    def nudges_at_potential(self) -> bool:
        """Whether the nudge depends on the present potentials of the output dyads."""
        return True

    @property
    def silent_output(self) -> bool:
        """Whether output dyads send nothing back unless they are nudged."""
        return self.paired

    def check_loss(self, loss: Loss) -> None:
        """Raises ConfigurationError where the rule's nudge cannot use this loss."""
        del loss

    @property
    def exchange(self) -> LocalJacobian | None:
        """How feedback weights learn by an exchange of noise, in rules where they can."""
        return None

    def takes(self, feedback: Feedback | type[Feedback]) -> bool:
        """Whether differences can come back through this feedback."""
        if feedback.trained == "noise" and self.exchange is None:
            return False
        return self.separate_feedback or not feedback.separate

    def check_feedback(self, network: Network) -> None:
        """Raises ConfigurationError where a projection has feedback that the rule has not."""
        for projection in network.projections:
            if not self.takes(projection.feedback):
                members = Feedback.family.items()
                possible = " or ".join(repr(name) for name, f in members if self.takes(f))
                raise ConfigurationError(
                    f"{type(self).__name__} needs the feedback {possible}, but that of the "
                    f"projection {projection.name!r} is {projection.feedback.kind!r}; change it, "
                    "or use another rule",
                    "rule",
                )

    def mean(self, plus: Tensor, minus: Tensor) -> Tensor:
        """What dyads in these states send forward, the mean of their `wake`; by default s⁺."""
        del minus
        return plus

    def error(
        self, activation: Activation, plus: Tensor, minus: Tensor, difference: Tensor | None
    ) -> Tensor | None:
        """What the weights into dyads in these states learn from, δ in the local gradient: the
        ``difference`` that was sent, in rules that send nothing else back. None is exactly zero."""
        del activation, plus, minus
        return difference

    @property
    def learns_from_difference(self) -> bool:
        """Whether `error` is the difference that was sent, for which nobody needs the states."""
        return type(self).error is Rule.error

    def damping_of(self, upward: Sequence[Upward]) -> float:
        """The damping D of a population with these projections upward."""
        del upward
        return 0.0

    @abstractmethod
    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """What an active nudge adds to the apical potential of all output dyads, of which
        ``output`` is f(a): both are (B, *output)."""

    @abstractmethod
    def wake(self, woken: Woken) -> Wake:
        """One wake of these dyads."""

    def wake_at_once(self, woken: Woken, rows: Rows) -> Messages | None:
        """Does what `wake` does, for some dyads of a population, in one pass over its ``rows``: it
        writes their states, the potentials that are kept there, and the difference if it is sent
        at once. It is asked where `wakes_at_once`. Returns None where `wake` has to do it, as it
        has by default."""
        del woken, rows
        return None

    def wakes_at_once(self, activation: Activation) -> bool:
        """Says if `wake_at_once` can do what `wake` does for dyads with this activation. It cannot
        where a subclass has changed `wake` or `mean`, but not `wake_at_once`."""
        del activation
        names = {"wake", "mean", "wake_at_once"}
        defined = (names & vars(owner).keys() for owner in type(self).__mro__)
        return "wake_at_once" in next(filter(None, defined))
