"""What comes from outside into a simulation, checked: tensors, and what goes together."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

from neurosim.base import (
    ConfigurationError,
    DataError,
    InputError,
    NetworkError,
)
from neurosim.channels import Channel, MessageKind
from neurosim.data import one_hot
from neurosim.maths import Loss
from neurosim.measures import Probe
from neurosim.network import Model, Network, check_shape, tensor_of
from neurosim.rules import Rule
from neurosim.schedules import Schedule
from neurosim.tensors import Shape, autocasts, finite_product, full_precision

Init = Literal["zero", "feedforward", "carry"]
_P = ParamSpec("_P")
_Found = TypeVar("_Found")


class undisturbed:  # noqa: N801
    """Context, and decorator, in which no gradients are recorded. No `torch.autocast` around
    changes a dtype, and tensors that outlive the call know their versions, in
    `torch.inference_mode` too. It is entered several times in every inference, and as a rule there
    is only one thing to do."""

    def __call__(self, function: Callable[_P, _Found]) -> Callable[_P, _Found]:
        @wraps(function)
        def inner(*args: _P.args, **kwargs: _P.kwargs) -> _Found:
            with undisturbed():
                return function(*args, **kwargs)

        return inner

    def __enter__(self) -> None:
        self._more: ExitStack | None = None
        if torch.is_inference_mode_enabled() or autocasts():
            self._more = ExitStack()
            self._more.enter_context(torch.inference_mode(False))
            self._more.enter_context(full_precision())
        self._records = torch.is_grad_enabled()
        if self._records:
            torch.set_grad_enabled(False)

    def __exit__(self, *what: object) -> None:
        if self._records:
            torch.set_grad_enabled(True)
        if self._more is not None:
            self._more.close()


def accept(what: str, array: Tensor, shape: Shape, model: Model) -> Tensor:
    """Returns a copy of an array (B, *shape) with the model's device and dtype: what happens to the
    tensor later must not reach into the simulation.

    Raises InputError for a wrong shape or values that are not finite.
    """
    return _accepted(what, array, shape, model)[0]


def _accepted(what: str, array: Tensor, shape: Shape, model: Model) -> tuple[Tensor, bool]:
    """Returns it, and if its norm is known to be far from overflow."""
    array = as_tensor(what, array)
    check_shape(what, array, shape)
    if array.is_complex():
        raise InputError(f"the {what} must be real, not {array.dtype}")
    order = torch.contiguous_format  # whatever that of the caller is
    array = array.detach().to(model.device, model.dtype, copy=True, memory_format=order)
    moderate = bool(finite_product(array, array))
    if not moderate:  # perhaps it only overflows
        bad = (~array.isfinite()).nonzero()
        if len(bad):
            sample, *index = bad[0].tolist()
            raise InputError(f"the {what} is not finite: first at sample {sample}, index {index}")
    return array, moderate and array.is_cpu


def as_tensor(what: str, array: Any) -> Tensor:
    """Does what `tensor_of` does. Raises InputError also for a tensor without values."""
    found = tensor_of(what, array)
    if type(found) is Tensor and found.is_meta:  # tensors of other classes may have values
        raise InputError(f"the {what} is on the device meta, and has no values there")
    return found


def accept_batch(
    x: Tensor, target: Tensor | None, model: Model
) -> tuple[Tensor, Tensor | None, bool]:
    """Returns `accept` of inputs and, if there are any, as many targets; and if the norm of the
    inputs is known to be far from overflow."""
    x, moderate = _accepted("input", x, model.network.input.shape, model)
    if target is not None:
        target = accept_target(target, model)
        if len(target) != len(x):
            raise InputError(f"there are {len(x)} inputs but {len(target)} targets")
    return x, target, moderate


def accept_target(target: Tensor, model: Model) -> Tensor:
    """Returns `accept` of targets: whole numbers (B,) are classes, and become 1 for their outputs
    and 0 for the others."""
    output, target = model.network.output, as_tensor("target", target)
    whole = not (target.is_floating_point() or target.is_complex())
    if target.ndim == 1 and whole and target.dtype != torch.bool:
        try:
            target = one_hot(target.long(), output.size, model.dtype).view(-1, *output.shape)
        except DataError as error:
            raise InputError(f"the target (B,) holds classes; {error}") from None
    return accept("target", target, output.shape, model)


def trained(model: Model, optimizer: torch.optim.Optimizer) -> dict[str, Parameter]:
    """Returns the parameters of the model that an optimizer moves: those that it holds, but for
    frozen ones."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    named = model.named_parameters()
    return {name: p for name, p in named if p.requires_grad and id(p) in held}


def chosen_gradients(
    found: Mapping[str, Tensor], moved: Mapping[str, Parameter]
) -> dict[str, Tensor]:
    """Returns the gradients of the parameters that an optimizer moves. Raises InputError where one
    is not there, or has another shape, dtype or device."""
    for name, parameter in moved.items():
        given = found.get(name)
        if not isinstance(given, Tensor):
            raise InputError(f"the gradients lack that of {name!r}, which the optimizer moves")
        one, other = ((t.shape, t.dtype, t.device) for t in (given, parameter))
        if one != other:
            said = (
                f"{list(one[0])} of {one[1]} on {one[2]}, where the parameter is {list(other[0])}"
            )
            raise InputError(f"the gradient of {name!r} is {said} of {other[1]} on {other[2]}")
    return {name: found[name] for name in moved}


def check_optimizer(
    optimizer: torch.optim.Optimizer | None, model: Model, *, needed: bool = False
) -> None:
    """Raises ConfigurationError for an optimizer that the model cannot learn with, and for none
    where one is ``needed``."""
    if optimizer is None and not needed:
        return
    if not isinstance(optimizer, torch.optim.Optimizer):
        said = f"the optimizer must be one of torch.optim, as torch.optim.SGD, not {optimizer!r}"
        raise ConfigurationError(said, "optimizer")
    cls = type(optimizer)  # whose own step may be wrapped by a scheduler
    name, (_, *others) = cls.__name__, inspect.signature(cls.step).parameters.values()
    problem = ""
    if any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in others):
        problem = "asks for a closure, the loss as a function, and there is one gradient for a step"
    elif isinstance(optimizer, torch.optim.SparseAdam):
        problem = "takes sparse gradients, and those here are dense"
    elif not trained(model, optimizer):
        problem = "holds no parameter of this model that can learn: give it model.parameters()"
    if problem:
        raise ConfigurationError(f"the optimizer {name} {problem}", "optimizer")


def check_model(model: object) -> None:
    """Raises ConfigurationError for what is no model, and says how it becomes one; or for a model
    whose parameters are not those of its network, each by itself."""
    if isinstance(model, Model):
        _check_parameters(model)
        return
    how = "a Model"
    if isinstance(model, Network):
        how = "ns.Model(network)"
    elif isinstance(model, torch.nn.Module):
        how = "ns.Model(ns.Network.from_torch(module))"
    said = f"a Simulation is made of a Model, not of a {type(model).__name__}: give it {how}"
    raise ConfigurationError(said, "model")


def _check_parameters(model: Model) -> None:
    held, owners = dict(model.named_parameters(remove_duplicate=False)), dict[int, str]()
    constants = dict(model.named_buffers())
    for name in model.network.parameter_shapes():
        if name not in held and name not in constants:
            said = f"the model has no parameter {name!r} any more: torch.nn.utils.parametrize."
            said += "remove_parametrizations, or prune.remove, makes it one again"
            raise ConfigurationError(said, "model")
        if name in held and (other := owners.setdefault(id(held[name]), name)) != name:
            said = f"{other!r} and {name!r} of the model are one parameter, and projections learn "
            said += "apart from each other; give each a copy of its own"
            raise ConfigurationError(said, "model")


def check_parts(*parts: tuple[object, type]) -> None:
    """Raises ConfigurationError for an option that is no object of its class."""
    for part, cls in parts:
        if part is not None and not isinstance(part, cls):
            name = cls.__name__.lower()
            said = f"{name} must be made by ns.{cls.__name__}(...), not {part!r}"
            raise ConfigurationError(said, name)


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
    """Raises ConfigurationError for a softmax of a softmax, or weights of other classes."""
    output = network.output
    loss.check(output.size)
    if loss.applies and getattr(output.activation, "kind", None) == loss.applies:
        raise ConfigurationError(
            f"the loss {loss.kind} applies a {loss.applies}, and the output {output.name!r} has "
            "one already; leave its activation out, or use another loss",
            "loss",
        )


def check_updates(rule: Rule, schedule: Schedule, learn_every: int | None) -> None:
    """Raises ConfigurationError where more than one says when weights are updated."""
    if not schedule.update_ticks:
        return
    if rule.phases:
        names = ", ".join(phase.name for phase in rule.phases)
        raise ConfigurationError(
            f"the schedule updates weights, but {type(rule).__name__} contrasts the ends of its "
            f"phases ({names}), between which the weights must not change; leave the updates out",
            "schedule",
        )
    if learn_every is not None:
        raise ConfigurationError(
            f"a weight update after every {learn_every} ticks does not go with a schedule that "
            "says itself when weights are updated; leave one of them out",
            "learn_every",
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


def check_within(optimizer: torch.optim.Optimizer | None, learns_within: bool) -> None:
    """Raises ConfigurationError for an optimizer that would never take a step."""
    if optimizer is not None and not learns_within:
        raise ConfigurationError(
            "the optimizer of an inference takes its steps within it, and nothing says when: make "
            "the Simulation with learn_every, or call learn(optimizer) after the inference",
            "optimizer",
        )
