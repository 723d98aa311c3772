"""A family: optimizers. And what they may be given: clipped gradients, and finite ones."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from math import isfinite
from typing import Annotated, Any, Self, TypeGuard

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_value_, clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from neurosim.base import ConfigurationError, DivergenceError, unknown
from neurosim.families import BelowOne, Described, Fraction, Kind, NotNegative, Positive, register
from neurosim.maths.eager import eager
from neurosim.maths.torch_names import Options, TorchName, TorchNames, refusing
from neurosim.tensors import unchanged

Rate = Annotated[Positive, Field(description="learning rate")]
Decay = Annotated[NotNegative, Field(description="weight decay, of biases too")]
Betas = Annotated[
    tuple[BelowOne, BelowOne], Field(description="decay of the averages of gradient and square")
]
Epsilon = Annotated[Positive, Field(description="what is added to the root of the second average")]
Parameters = Iterable[Parameter] | Iterable[dict[str, Any]]  # or groups of them, as torch has them


# ---- optimizers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParameterGroup(Described):
    """A learning rate or a weight decay that some parameters have for themselves.

    A pattern is compared with the name of a parameter (``h1.weight``) and of its owner (``h1``).
    """

    parameters: Annotated[
        str | tuple[str, ...], Field(description="names, or patterns such as *.bias")
    ]
    lr: Annotated[
        Positive | None, Field(description="learning rate; default: that of the optimizer")
    ] = None
    weight_decay: Annotated[
        NotNegative | None, Field(description="weight decay; default: that of the optimizer")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.options:
            raise ConfigurationError("the group says nothing: give it lr or weight_decay", "lr")

    @classmethod
    def of(cls, said: Any) -> Any:
        """Makes a group of a mapping; another is returned as it is."""
        if not isinstance(said, dict):
            return said
        known = [one.name for one in fields(cls)]
        for key in said:
            if key not in known:
                raise ConfigurationError(unknown("key of a group", key, known), "groups")
        if "parameters" not in said:
            raise ConfigurationError("a group needs the key 'parameters'", "groups")
        return cls(**said)

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.parameters,) if isinstance(self.parameters, str) else self.parameters

    @property
    def options(self) -> dict[str, float]:
        """What the group says, by the names of torch."""
        said = {"lr": self.lr, "weight_decay": self.weight_decay}
        return {key: value for key, value in said.items() if value is not None}

    def names(self, parameter: str) -> bool:
        return any(_matches(pattern, parameter) for pattern in self.patterns)


def _words(parameter: str) -> tuple[str, str]:
    return parameter, parameter.rpartition(".")[0]


def _matches(pattern: str, parameter: str) -> bool:
    return any(word == pattern or fnmatchcase(word, pattern) for word in _words(parameter))


def _made(kind: object) -> TypeGuard[type[Optimizer]]:
    return isinstance(kind, type) and issubclass(kind, Optimizer)


@dataclass(frozen=True)
class OptimizerChoice(Kind, ABC, family="optimizer"):
    """Describes an optimizer, and makes it. Base class of the family."""

    groups: Annotated[
        tuple[ParameterGroup, ...],
        Field(description="parameters with a rate or decay of their own; the last that says one"),
    ] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.groups, list | tuple):
            object.__setattr__(self, "groups", tuple(map(ParameterGroup.of, self.groups)))
        super().__post_init__()

    @classmethod
    def of(cls, value: object, **options: Any) -> Self:
        """Makes a member, or says how one of torch is given that is none."""
        known = {kind.__name__.lower(): kind for kind in vars(torch.optim).values() if _made(kind)}
        kind = known.get(value.lower()) if isinstance(value, str) else value
        if _made(kind) and (not isinstance(value, str) or value.lower() not in cls.family):
            given = f"torch.optim.{kind.__name__}(model.parameters(), lr=…)"
            raise ConfigurationError(f"{value} is of torch, and has parameters: give {given}")
        return super().of(value, **options)

    @abstractmethod
    def make(self, parameters: Parameters) -> Optimizer:
        """Makes the optimizer of parameters or groups of torch; `make_for` makes those groups."""

    @unchanged()  # one of a plugin may load torch's compiler
    def make_for(self, named: Iterable[tuple[str, Parameter]]) -> Optimizer:
        """Makes the optimizer of a model's ``named_parameters()``, each with what its groups say.

        Raises:
            ConfigurationError: for a group that names no parameter, or says what the optimizer
                does not have.
        """
        parameters = dict(named)
        if not self.groups:
            return self.make(parameters.values())
        for number, group in enumerate(self.groups):
            for pattern in group.patterns:
                if not any(_matches(pattern, name) for name in parameters):
                    known = dict.fromkeys(word for name in parameters for word in _words(name))
                    said = unknown("parameter", pattern, known)
                    raise ConfigurationError(said, ("groups", number, "parameters"))
        alike: dict[tuple[tuple[str, float], ...], list[Parameter]] = {}
        for name, parameter in parameters.items():
            own = {k: v for g in self.groups if g.names(name) for k, v in g.options.items()}
            alike.setdefault(tuple(own.items()), []).append(parameter)
        made = self.make([{"params": same, **dict(own)} for own, same in alike.items()])
        for number, group in enumerate(self.groups):
            for key in group.options:
                if key not in made.defaults:
                    said = f"{type(made).__name__} has no {key}, which group {number} says"
                    raise ConfigurationError(said, ("groups", number, key))
        return made

    @property
    def moments(self) -> int:
        """Returns how many tensors it keeps per parameter, by which memory is estimated."""
        kept = _one_step(self).values()
        return sum(isinstance(value, Tensor) and value.dim() == 2 for value in kept)


def _one_step(choice: OptimizerChoice) -> dict[str, Any]:
    """Returns what an optimizer keeps of a matrix after a step."""
    weight = Parameter(torch.zeros(2, 2))
    optimizer, weight.grad = choice.make([weight]), torch.ones(2, 2)
    optimizer.step()
    kept: dict[str, Any] = optimizer.state[weight]
    return kept


@register("sgd")
@dataclass(frozen=True)
class SGD(OptimizerChoice):
    """Stochastic gradient descent."""

    lr: Rate = 1e-3
    momentum: Annotated[Fraction, Field(description="of the running sum of gradients")] = 0.0
    weight_decay: Decay = 0.0
    nesterov: Annotated[bool, Field(description="look ahead along the momentum")] = False
    decoupled: Annotated[
        bool, Field(description="decay weights by themselves, as adamw does, not by the gradient")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ConfigurationError("nesterov looks ahead along a momentum: give one", "nesterov")
        if self.decoupled and not (self.weight_decay or any(g.weight_decay for g in self.groups)):
            raise ConfigurationError("there is no weight_decay to be decoupled", "decoupled")

    def make(self, parameters: Parameters) -> Optimizer:
        optimizer = eager(torch.optim.SGD)(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )
        if self.decoupled:
            for group in optimizer.param_groups:
                group["decoupled_decay"], group["weight_decay"] = group["weight_decay"], 0.0
            optimizer.register_step_pre_hook(_decay)
        return optimizer


@torch.no_grad()
def _decay(optimizer: Optimizer, args: Any, options: Any) -> None:
    """W ← (1 − lr λ) W of every weight that the step will move (Loshchilov & Hutter 2019)."""
    del args, options
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if weight.grad is not None:
                weight.mul_(1.0 - group["lr"] * group["decoupled_decay"])


@dataclass(frozen=True)
class _Adam(OptimizerChoice):
    lr: Rate = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: Epsilon = 1e-8
    weight_decay: Decay = 0.0

    def make(self, parameters: Parameters) -> Optimizer:
        cls = torch.optim.AdamW if isinstance(self, AdamW) else torch.optim.Adam
        return eager(cls)(
            parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )


@register("adam")
@dataclass(frozen=True)
class Adam(_Adam):
    """Adam (Kingma & Ba 2015). Weight decay is added to the gradient."""


@register("adamw")
@dataclass(frozen=True)
class AdamW(_Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""


_TORCH = TorchNames(
    "optimizer",
    torch.optim,
    Optimizer,
    {
        "LBFGS": "asks for the loss several times in a step, and there is one gradient",
        "SparseAdam": "takes sparse gradients, and those here are dense",
    },
    given=("params",),
    adapted=eager,
)


@register("torch")
@dataclass(frozen=True)
class TorchOptimizer(OptimizerChoice):
    """An optimizer of torch.optim by its name, such as RMSprop."""

    name: TorchName
    lr: Annotated[Positive | None, Field(description="learning rate; default: torch's own")] = None
    options: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if "lr" in self.options:
            raise ConfigurationError("lr is a key beside name, not an option", ("options", "lr"))
        with refusing(self.name):
            _one_step(self)

    @classmethod
    def example(cls) -> list["TorchOptimizer"]:
        """Returns one of every optimizer that there is."""
        return [cls(name) for name in _TORCH]

    def make(self, parameters: Parameters) -> Optimizer:
        rate = {} if self.lr is None else {"lr": self.lr}
        made: Optimizer = _TORCH.make(self.name, parameters, **rate, **self.options)
        return made


# ---- gradients before a step ---------------------------------------------------------------------


@dataclass(frozen=True)
class Clip(Described):
    """Bounds what the optimizer is given, the norm of all gradients together or every entry, or how
    far its ``step`` moves a weight."""

    norm: Annotated[
        Positive | None, Field(description="the largest norm of all gradients together")
    ] = None
    value: Annotated[
        Positive | None, Field(description="the largest size of an entry of a gradient")
    ] = None
    step: Annotated[
        Positive | None, Field(description="the farthest that a step moves a weight")
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.norm is None) == (self.value is None) and (self.norm or self.step is None):
            raise ConfigurationError("clip by a norm, or by a value: one of both", "norm")

    @contextmanager
    def bounded(self, parameters: list[Parameter]) -> Iterator[None]:
        """Bounds how far the parameters move within the block."""
        bound = self.step
        before = [] if bound is None else [parameter.detach().clone() for parameter in parameters]
        yield
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=bound is not None):
                assert bound is not None
                parameter.copy_(old + (parameter - old).clamp(-bound, bound))

    def apply(self, parameters: list[Parameter], norm: Tensor | None) -> None:
        """Clips the gradients of parameters in place; ``norm`` is that of all of them, where it is
        bounded."""
        if self.norm is not None:
            assert norm is not None
            clip_grads_with_norm_(parameters, self.norm, norm)
        if self.value is not None:
            clip_grad_value_(parameters, self.value)


def finite_norm(arrays: Mapping[str, Tensor], title: str, remedy: str) -> Tensor:
    """Returns the norm of arrays together.

    Raises:
        DivergenceError: for the first array that is not finite, by its name.
    """
    norm = get_total_norm(list(arrays.values()))
    if isfinite(norm):
        return norm
    for name, array in arrays.items():
        bad = (~array.isfinite()).nonzero()
        if len(bad):
            where = bad[0].tolist()
            said = f"{title} {name!r} is not finite: first at {where}; {remedy}."
            raise DivergenceError(said, parameter=name)
    return get_total_norm([array.double() for array in arrays.values()])  # the squares overflowed
