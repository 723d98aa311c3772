"""The parts of a network's description, each checked by itself."""

import re
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

from neurosim.base import ConfigurationError, NetworkError, unknown
from neurosim.maths import MAX_DYADS, Activation, Operator
from neurosim.tensors import Shape

Role = Literal["input", "hidden", "output"]
Feedback = Literal["symmetric", "kolen_pollack", "random", "local_jacobian"]


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_PROJECTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\->]*")


class _ActivationField:
    """A field that takes an activation or its name, and holds the activation."""

    def __get__(self, population: Any, owner: type[Any] | None = None) -> Activation:
        if population is None:
            return Activation.of("relu")  # the default
        found: Activation = population.__dict__["activation"]
        return found

    def __set__(self, population: Any, value: Activation | str) -> None:
        try:
            population.__dict__["activation"] = Activation.of(value)
        except ConfigurationError as error:
            raise NetworkError(str(error), ("activation",)) from None


@dataclass(frozen=True)
class Population:
    """A named array of dyads of shape (N,) or (C, H, W); a node of the network.

    The bias is one value per dyad on (N,), one per conv channel on (C, H, W). Input dyads only
    send; output dyads are linear and are nudged by the loss. ``activation`` is an `Activation` or
    the name of one.

    Raises:
        NetworkError: for a name, shape, activation or bias that it cannot have.
    """

    name: str
    shape: Shape
    activation: _ActivationField = _ActivationField()
    role: Role = "hidden"
    bias: bool = True

    def __post_init__(self) -> None:
        name = self.name
        if not _NAME.fullmatch(name):
            raise NetworkError(
                f"population name {name!r} must start with a letter and hold letters, digits, _, -"
            )
        if name == "training":
            raise NetworkError("the name 'training' is taken by torch's modules; choose another")
        if len(self.shape) not in (1, 3) or min(self.shape) < 1:
            raise NetworkError(
                f"population {name!r} has shape {list(self.shape)}; it must be [N] or [C, H, W]"
            )
        if self.size > MAX_DYADS:
            raise NetworkError(
                f"population {name!r} has {self.size:,} dyads; it can hold at most {MAX_DYADS:,}"
            )
        if self.role != "hidden" and not self.activation.linear:
            why = "inputs are sent as they are (identity)"
            if self.role == "output":
                why = "output dyads are linear (identity), the loss applies what else is needed"
            raise NetworkError(
                f"{self.role} population {name!r} has activation {str(self.activation)!r}; {why}"
            )
        if self.role == "input" and self.bias:
            raise NetworkError(f"input population {name!r} cannot have a bias")

    @property
    def size(self) -> int:
        """Number of dyads."""
        return prod(self.shape)

    @property
    def bias_shape(self) -> Shape:
        return (self.shape[0],) if len(self.shape) == 3 else (self.size,)


@dataclass(frozen=True)
class Projection:
    """A directed edge: mean messages go from ``pre`` to ``post``, difference messages back.

    ``feedback`` says through which weight differences go back: through that of the operator itself
    (``symmetric``: Wᵀδ), or through a separate one of the same shape, Bᵀδ. A ``random`` one stays
    as it was drawn; a ``kolen_pollack`` one gets the same local gradient as W, so that with weight
    decay the two become one; a ``local_jacobian`` one learns by itself what its layer does
    (`DifferenceTargetPropagation`).
    """

    name: str
    pre: str
    post: str
    operator: Operator
    feedback: Feedback = "symmetric"

    def __post_init__(self) -> None:
        if not _PROJECTION_NAME.fullmatch(self.name):
            raise NetworkError(
                f"projection name {self.name!r} must start with a letter and hold letters, "
                "digits, _, - and >"
            )
        if self.feedback not in get_args(Feedback):
            raise NetworkError(
                unknown("feedback", self.feedback, get_args(Feedback)), ("feedback",)
            )
        if self.feedback != "symmetric" and self.operator.weight_shape is None:
            raise NetworkError(
                f"projection {self.name!r} has no weight, so it can have no {self.feedback} "
                "feedback weight",
                ("feedback",),
            )
