"""What comes from outside into a simulation, checked: tensors, and what goes together."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from neurosim.base import ConfigurationError, InputError, NetworkError
from neurosim.channels import Channel, MessageKind
from neurosim.maths import Loss
from neurosim.measures import Probe
from neurosim.network import Model, Network, check_shape
from neurosim.rules import Rule
from neurosim.tensors import Shape

Init = Literal["zero", "feedforward", "carry"]


def accept(what: str, array: Tensor, shape: Shape, model: Model) -> Tensor:
    """Returns a copy of an array (B, *shape) with the model's device and dtype: what happens to the
    tensor later must not reach into the simulation.

    Raises InputError for a wrong shape or values that are not finite.
    """
    if not isinstance(array, Tensor):
        raise InputError(f"the {what} must be a torch tensor, not {type(array).__name__}")
    check_shape(what, array, shape)
    if array.is_complex():
        raise InputError(f"the {what} must be real, not {array.dtype}")
    array = array.detach().to(model.device, model.dtype, copy=True)
    finite = array.isfinite()
    if not finite.all():
        sample, *index = (~finite).nonzero()[0].tolist()
        raise InputError(f"the {what} is not finite: first at sample {sample}, index {index}")
    return array


def accept_batch(x: Tensor, target: Tensor | None, model: Model) -> tuple[Tensor, Tensor | None]:
    """Returns `accept` of inputs and, if there are any, as many targets."""
    x = accept("input", x, model.network.input.shape, model)
    if target is not None:
        target = accept("target", target, model.network.output.shape, model)
        if len(target) != len(x):
            raise InputError(f"there are {len(x)} inputs but {len(target)} targets")
    return x, target


def check_start(init: Init, rule: Rule, network: Network) -> None:
    """Raises ConfigurationError or NetworkError where inferences cannot start in this way."""
    rule.check_feedback(network)
    if rule.needs_prediction and init != "feedforward":
        raise ConfigurationError(
            f"the nudge 'prediction' needs init 'feedforward', not {init!r}; or use the nudge "
            "'potential' or 'proximal'",
            "init",
        )
    if init == "feedforward" and network.cycle is not None:
        raise NetworkError(
            "init 'feedforward' needs a network without cycles; this one has "
            f"{' -> '.join([*network.cycle, network.cycle[0]])}; use init 'zero'",
            ("init",),
        )


def check_output(loss: Loss, network: Network) -> None:
    """Raises ConfigurationError for a softmax of a softmax."""
    output = network.output
    if getattr(output.activation, "kind", None) == "softmax" and loss.kind == "cross_entropy":
        raise ConfigurationError(
            f"the loss cross_entropy applies a softmax, and the output {output.name!r} has one "
            "already; leave its activation out, or use another loss",
            "loss",
        )


def check_phases(
    rule: Rule, channels: Mapping[Any, Channel], nudge_after: int | None, learn_every: int | None
) -> None:
    """Raises ConfigurationError for what does not go with a rule that has phases."""
    if not rule.phases:
        return
    names = ", ".join(phase.name for phase in rule.phases)
    if nudge_after is not None:
        raise ConfigurationError(
            f"nudge_after is {nudge_after}, but {type(rule).__name__} says itself when the target "
            f"acts: in its phases ({names}); leave nudge_after out",
            "nudge_after",
        )
    if learn_every is not None:
        raise ConfigurationError(
            f"a weight update after every {learn_every} ticks does not go with "
            f"{type(rule).__name__}, which contrasts the ends of its phases ({names}), between "
            "which the weights must not change; leave it out to learn at the end of an inference",
            "learn_every",
        )
    for (projection, kind), channel in channels.items():
        rough = [a.effect.name for a in channel.acting if not a.effect.for_complex]
        if rule.holomorphic and rough:
            raise ConfigurationError(
                f"the {kind} channel of {projection!r} has {rough[0]}, which is defined for real "
                f"messages, but those of {type(rule).__name__} are complex; leave it out",
                "channels",
            )


def check_winners(
    network: Network, channels: Mapping[tuple[str, MessageKind], Channel], tick: float
) -> None:
    """Raises ConfigurationError where winners among s⁺, of which no message tells, are not known at
    once."""
    for (name, kind), channel in channels.items():
        operator = network.projection(name).operator
        if operator.winners_at_plus and not channel.is_exact(tick):
            raise ConfigurationError(
                f"the pooling of {name!r} has the winners 'plus', which are found among states "
                f"that no message tells of, but the {kind} channel of {name!r} is not ideal; leave "
                "its delays, thresholds and effects out, or take the winners 'mean'",
                "channels",
            )


def check_probes(probes: Sequence[Probe], network: Network, rule: Rule) -> None:
    """Raises ConfigurationError for a probe that cannot measure this network."""
    for probe in probes:
        probe.check(network, rule)
        if probe.per != "tick":
            raise ConfigurationError(
                f"the probe {probe.kind} is recorded by training, every so many {probe.per}s, not "
                "within an inference",
                "probes",
            )


def check_length(ticks: int, nudge_after: int, learn_every: int | None) -> None:
    """Raises ConfigurationError for what would never happen in an inference of so many ticks."""
    if ticks < nudge_after:
        raise ConfigurationError(
            f"nudge_after is {nudge_after}, but the schedule ends after {ticks} ticks: the target "
            "would never act",
            "nudge_after",
        )
    if learn_every is not None and learn_every > ticks:
        raise ConfigurationError(
            f"a weight update after every {learn_every} ticks, but the schedule ends after {ticks} "
            "ticks: the weights would never change",
            "learn_every",
        )
