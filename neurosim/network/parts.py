"""The parts of a network's description, each checked by itself."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, Literal, TypeVar

from neurosim.base import ConfigurationError, NetworkError
from neurosim.families import Kind, check
from neurosim.maths import MAX_DYADS, Activation, Operator
from neurosim.network.feedback import Feedback
from neurosim.network.initialization import Initialization
from neurosim.tensors import Shape

Role = Literal["input", "hidden", "output"]
Member = TypeVar("Member", bound=Kind)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_PROJECTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\->]*")


class MemberField(Generic[Member]):
    """A field that takes a member of a family or its name, and holds the member; or None, if that
    is its default."""

    def __init__(self, of: Callable[[object], Member], default: str | None) -> None:
        self._of, self._default = of, default

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, part: Any, owner: type[Any] | None = None) -> Member:
        found: Member = self._made(self._default) if part is None else part.__dict__[self._name]
        return found

    def _made(self, value: Member | str | None) -> Any:
        return None if value is None and self._default is None else self._of(value)

    def __set__(self, part: Any, value: Member | str | None) -> None:
        try:
            part.__dict__[self._name] = self._made(value)
        except ConfigurationError as error:
            raise NetworkError(str(error), (self._name,)) from None


@dataclass(frozen=True)
class Population:
    """A named array of dyads of shape (N,) or (C, H, W); a node of the network.

    The bias is one value per dyad on (N,), one per conv channel on (C, H, W). Input dyads only
    send; output dyads are nudged by the loss, and may be of any activation that the rule knows how
    to nudge. ``activation`` is an `Activation` or the name of one.

    Raises:
        NetworkError: for a name, shape, activation or bias that it cannot have.
    """

    name: str
    shape: Shape
    activation: MemberField[Activation] = MemberField(Activation.of, "relu")
    role: Role = "hidden"
    bias: bool = True

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise NetworkError(
                f"population name {name!r} must start with a letter and hold letters, digits, _, -"
            )
        if name == "training":
            raise NetworkError("the name 'training' is taken by torch's modules; choose another")
        shape = check(tuple[int, ...], shape=self.shape)
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise NetworkError(
                f"population {name!r} has shape {list(shape)}; it must be [N] or [C, H, W]"
            )
        if self.size > MAX_DYADS:
            raise NetworkError(
                f"population {name!r} has {self.size:,} dyads; it can hold at most {MAX_DYADS:,}"
            )
        why = None
        if self.role == "input" and not self.activation.linear:
            why = "inputs are sent as they are (identity)"
        elif self.role == "hidden" and self.activation.lateral:
            why = "its dyads depend on each other, which only those of the output can"
        if why:
            raise NetworkError(
                f"{self.role} population {name!r} has activation {str(self.activation)!r}; {why}"
            )
        if self.role == "input" and self.bias:
            raise NetworkError(f"input population {name!r} cannot have a bias")

    def __str__(self) -> str:
        f = "" if self.activation.linear else f" {self.activation}"
        return f"{self.name} {list(self.shape)}{f}"

    @property
    def size(self) -> int:
        """Number of dyads."""
        return prod(self.shape)

    @property
    def bias_shape(self) -> Shape:
        """Tells the shape of a bias: one number for each conv channel, or each dyad."""
        return (self.shape[0],) if len(self.shape) == 3 else (self.size,)


@dataclass(frozen=True)
class Projection:
    """A directed edge: mean messages go from ``pre`` to ``post``, difference messages back.

    ``feedback``, a `Feedback` or its name, says through which weight differences go back, and
    ``initialization`` how the weight and the biases that it adds are drawn, if not as in the rest
    of the network.
    """

    name: str
    pre: str
    post: str
    operator: Operator
    feedback: MemberField[Feedback] = MemberField(Feedback.of, "symmetric")
    initialization: MemberField[Initialization] = MemberField(Initialization.of, None)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _PROJECTION_NAME.fullmatch(self.name):
            raise NetworkError(
                f"projection name {self.name!r} must start with a letter and hold letters, "
                "digits, _, - and >"
            )
        check(str, pre=self.pre, post=self.post)
        check(Operator, operator=self.operator)
        if self.feedback.separate and self.operator.weight_shape is None:
            raise NetworkError(
                f"projection {self.name!r} has no weight, so it can have no {self.feedback.kind} "
                "feedback weight",
                ("feedback",),
            )
        if self.initialization and self.operator.weight_shape is None:
            raise NetworkError(
                f"projection {self.name!r} has no weight to be initialized; leave initialization "
                "out",
                ("initialization",),
            )
