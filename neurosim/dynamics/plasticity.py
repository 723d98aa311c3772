"""Plasticity: what weights learn from local quantities, a family that is open from outside."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.channels import Channel, MessageKind
from neurosim.dynamics.link import Link
from neurosim.dynamics.node import Node
from neurosim.dynamics.state import State
from neurosim.families import Count, Kind, NotNegative, Positive, Repeating, register
from neurosim.maths import Clip, LearningRate, OptimizerChoice
from neurosim.rules import Nudge, Rule
from neurosim.tensors import surely_finite

Presynaptic = Literal["mean", "activation"]
# By the names of the parameters; the operations that they took; if all are known to be finite.
Gradients = tuple[dict[str, Tensor], int, bool]


# The largest factor of a signal of moderate norm with which its products with another such array
# still do not overflow.
_LARGEST = 1024.0


class Gradient(NamedTuple):
    """The gradient of a parameter by its ``name``, with the ``operations`` that it took. Where it
    is a sum of products of two factors, ``unproved`` are those of them whose norms may be near
    overflow; None elsewhere."""

    name: str
    value: Tensor
    operations: int = 0
    unproved: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Plasticity(Kind, Repeating, family="plasticity", bare=True, default="contrastive_hebbian"):
    """Says what weights learn, at the end of every inference or ``every`` so many ticks.

    Base class of the family. The gradient of a weight is the product of a signal at its
    post-synaptic dyads and of what it sees of the pre-synaptic ones, summed over the batch; a
    member says otherwise in `signal`, `seen`, `weight_gradient`, or in all of `gradients`.
    ``optimizer`` and ``learning_rate`` are what a scenario trains with; a `Trainer` is given its
    own. ``needs_target``: there is nothing to learn without one. ``repeats``: gradients follow from
    states and weights, by functions of torch, so that they can be recorded and replayed; a subclass
    says so anew.
    """

    needs_target: ClassVar[bool] = True

    every: Annotated[
        Count | None, Field(description="update weights after every so many ticks")
    ] = None
    optimizer: Annotated[
        OptimizerChoice, Field(description="what turns gradients into steps; a name of torch too")
    ] = OptimizerChoice.of("adam")
    learning_rate: Annotated[
        LearningRate,
        Field(description="how the optimizer's rate changes in the course of a training"),
    ] = LearningRate.of("constant")
    clip: Annotated[Clip | None, Field(description="bounds on what the optimizer is given")] = None

    @property
    def trace_time(self) -> float | None:
        """The time constant of the traces that weights see in place of the means, if they do."""
        return None

    @property
    def event_driven(self) -> bool:
        """Says if synapses learn one by one: only those whose gradient is not zero."""
        return False

    def updates(self, gradients: Iterable[Tensor]) -> int:
        """Returns how many weights and biases a step with these gradients updates."""
        return sum(int(g.count_nonzero()) if self.event_driven else g.numel() for g in gradients)

    def learns(self, nudge: Nudge) -> bool:
        """Says if an update that is due takes place while this is what acts on the output."""
        del nudge
        return True

    @property
    def observes(self) -> bool:
        """Says if weights see the potentials of the dyads below as these last computed them."""
        return False

    def check(
        self, rule: Rule, channels: Mapping[tuple[str, MessageKind], Channel], tick: float
    ) -> None:
        """Raises ConfigurationError where it does not go with what else makes a simulation."""
        del rule, channels, tick

    def signal(self, node: Node, rule: Rule) -> Tensor | None:
        """Returns what the weights into these dyads learn from (B, …); None for all zeros."""
        f, difference = node.activation, node.difference.tensor
        if rule.learns_from_difference:  # the states may never have been made
            return difference
        return rule.error(f, node.plus.value, node.minus.value, difference)

    def seen(self, link: Link) -> Tensor | None:
        """Returns what weights see of the dyads below (B, *pre); None for the means s̄ as the
        projection sees them."""
        del link
        return None

    def weight_gradient(self, link: Link, signal: Tensor) -> Tensor:
        """Returns Σ over the batch of signal · s̄ᵀ, s̄ what the weights see."""
        return link.weight_gradient(signal, self.seen(link))

    def gradients(
        self, state: State, rule: Rule, share: complex = 1.0
    ) -> tuple[dict[str, Tensor], int]:
        """Computes the local gradient of every parameter, batch mean.

        A bias sees a mean of 1. A signal of None costs nothing. In a rule with phases it is what
        one of them adds, of which the gradient takes its ``share``; of complex products the real
        part counts.

        Returns:
            The gradients by the names of the parameters, and the operations that they took.
        """
        return self.learned(state, rule, share)[:2]

    def learned(self, state: State, rule: Rule, share: complex = 1.0) -> Gradients:
        """Returns the same, and whether all of them are known to be finite."""
        found, operations, sure = dict[str, Tensor](), 0, True
        for one in self.each_gradient(state, rule, share):
            found[one.name] = one.value
            operations += one.operations
            sure = sure and surely_finite(one.value, one.unproved)
        return {name: found[name] for name, _ in state.model.named_parameters()}, operations, sure

    def each_gradient(self, state: State, rule: Rule, share: complex = 1.0) -> Iterator[Gradient]:
        """Yields them as they are known: the output's first."""
        scale = rule.gradient_scale * share / state.batch
        gains = rule.gradient_gains(state.model.network)
        for node in reversed(state.cells):
            signal, factor = self.signal(node, rule), scale * gains.get(node.name, 1.0)
            sent, unproved = node.difference, tuple[Tensor, ...]()
            if signal is not None:
                known = sent.moderate and signal is sent.tensor and abs(factor) <= _LARGEST
                signal = signal * factor  # smaller than the weights
                unproved = () if known else (signal,)
            bias = state.model.parameter(node.name, "bias")
            if bias is not None:
                dims = (0, 2, 3) if len(node.population.shape) == 3 else (0,)
                of_bias = torch.zeros_like(bias) if signal is None else signal.sum(dims).real
                yield Gradient(f"{node.name}.bias", of_bias, unproved=None if unproved else ())
            for link in node.incoming:
                if link.weight is None:
                    continue
                of_weight = self._of_weight(link, signal, unproved)
                yield of_weight
                way_back = link.projection.feedback
                if link.feedback is not None and way_back.trained == "gradient":
                    back = way_back.gradient(of_weight.value, link.weight, link.feedback)
                    yield Gradient(f"{link.name}.feedback", back)

    def _of_weight(
        self, link: Link, signal: Tensor | None, unproved: tuple[Tensor, ...]
    ) -> Gradient:
        """Returns the gradient of a weight; ``unproved``: the signal, or nothing."""
        name, views = f"{link.name}.weight", link.heard_means
        if signal is None:
            assert link.weight is not None
            return Gradient(name, torch.zeros_like(link.weight))
        if type(self).weight_gradient is not Plasticity.weight_gradient:
            return Gradient(name, self.weight_gradient(link, signal), len(views))
        states = self.seen(link)
        found = link.weight_gradient(signal, states)
        if states is None and [view.mask for view in views] == [None]:
            seen, states = views[0].value, views[0].value.value
            unproved = unproved if seen.moderate else (*unproved, states)
        elif states is not None:
            unproved = (*unproved, states)
        if states is None or not link.operator.sums_products:
            return Gradient(name, found, len(views))
        return Gradient(name, found, len(views), unproved)


@register("contrastive_hebbian")
@dataclass(frozen=True)
class ContrastiveHebbianPlasticity(Plasticity):
    """∂L/∂W = −1/(βB) Σ δ s̄ᵀ (DP23 eq. 10).

    δ = s⁺ − s⁻ of the post-synaptic dyads themselves; in a rule with phases what they send back.
    The code of DP23 has f(a) in the place of s̄, with the potential a that the dyads below last
    computed: ``presynaptic`` "activation".
    """

    repeats: ClassVar[bool] = True

    presynaptic: Annotated[
        Presynaptic, Field(description="what weights see of the dyads below: s̄, or f(a)")
    ] = "mean"

    @property
    def observes(self) -> bool:
        return self.presynaptic == "activation"

    def check(
        self, rule: Rule, channels: Mapping[tuple[str, MessageKind], Channel], tick: float
    ) -> None:
        if not self.observes:
            return
        hidden = [n for (n, k), c in channels.items() if k == "mean" and not c.is_exact(tick)]
        problem = ""
        if rule.phases:
            problem = f"{type(rule).__name__} contrasts the states of its phases"
        elif hidden:
            problem = (
                f"no message tells of f(a), and the mean channel of {hidden[0]!r} is not ideal"
            )
        if problem:
            raise ConfigurationError(
                f"presynaptic is 'activation', but {problem}; use presynaptic 'mean'",
                ("plasticity", "presynaptic"),
            )

    def seen(self, link: Link) -> Tensor | None:
        return link.pre.activity() if self.observes else None


@register("continual")
@dataclass(frozen=True)
class ContinualPlasticity(ContrastiveHebbianPlasticity):
    r"""Contrastive Hebbian learning for a network that never stops.

    Event-driven: the synapses of a dyad learn while its \|δ\| is above a ``threshold``, and their
    updates are counted. With a ``trace`` they see e in place of s̄: its average over the past, that
    fades with this time constant, e' = (s̄ − e)/τ. ``only_with_target``: what is due while no target
    acts is left out.
    """

    repeats: ClassVar[bool] = True

    threshold: Annotated[
        NotNegative, Field(description="synapses learn where |difference| is above it")
    ] = 0.0
    trace: Annotated[
        Positive | None,
        Field(description="of what weights see, in simulated time; default: the means as they are"),
    ] = None
    only_with_target: Annotated[
        bool, Field(description="no update while no target acts on the output")
    ] = False

    @property
    def trace_time(self) -> float | None:
        return self.trace

    @property
    def event_driven(self) -> bool:
        return True

    def learns(self, nudge: Nudge) -> bool:
        return nudge.active or not self.only_with_target

    def check(
        self, rule: Rule, channels: Mapping[tuple[str, MessageKind], Channel], tick: float
    ) -> None:
        super().check(rule, channels, tick)
        late = [n for (n, k), c in channels.items() if k == "mean" and _by_synapse(c)]
        problem = ""
        if self.trace is not None and rule.phases:
            problem = f"{type(rule).__name__} contrasts the states of its phases"
        elif self.trace is not None and self.observes:
            problem = "presynaptic is 'activation'"
        elif self.trace is not None and late:
            problem = f"the means of {late[0]!r} reach each synapse at another time"
        if problem:
            raise ConfigurationError(
                f"a trace is of the means as a projection sees them, but {problem}; leave it out",
                ("plasticity", "trace"),
            )

    def signal(self, node: Node, rule: Rule) -> Tensor | None:
        signal = super().signal(node, rule)
        if signal is None or not self.threshold:
            return signal
        return torch.where(signal.abs() > self.threshold, signal, 0.0)

    def seen(self, link: Link) -> Tensor | None:
        if self.trace is None:
            return super().seen(link)
        return torch.zeros_like(link.pre.plus.value) if link.trace is None else link.trace


def _by_synapse(channel: Channel) -> bool:
    """Whether each synapse may have a delay of its own."""
    delay = channel.delay
    return getattr(delay, "per", None) == "synapse" or getattr(delay, "values", None) is not None
