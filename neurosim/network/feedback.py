"""Feedback: the weights through which differences come back, a family that is open from outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, PluginError, unknown
from neurosim.families import BelowOne, Count, Described, Kind, Positive, kinds, register

Signal = Literal["gradient", "noise"] | None


class Feedback(Kind, family="feedback", bare=True):
    """Says through which weight the differences of a projection go back. Base class of the family.

    ``separate``: through a weight B of its own, of the shape of W, as Bᵀδ; otherwise as Wᵀδ.
    ``trained`` says by what a separate weight learns. "gradient": it is a parameter of the model,
    which the optimizer moves by `gradient`. "noise": neighbours exchange noise, as the rule says
    (`Rule.exchange`). None: it stays as it was drawn.
    """

    separate: ClassVar[bool] = True
    trained: ClassVar[Signal] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        said = f"{kinds.where(cls)}: the feedback {cls.__name__} has trained = {cls.trained!r}"
        if cls.trained not in (None, "gradient", "noise"):
            raise PluginError(f"{said}; it must be 'gradient', 'noise' or None")
        if cls.trained and not cls.separate:
            raise PluginError(f"{said}, but no weight of its own: set separate = True")

    def gradient(self, of_weight: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        """Returns what B learns from, a new tensor, where W learns from ``of_weight``."""
        del weight, feedback
        # A copy: who clips gradients in place must not do it twice.
        return of_weight.clone()


@dataclass(frozen=True)
class LocalJacobian(Described):
    """How weights learn by noise: ``steps`` of gradient descent at ``rate`` with ``momentum`` on

        −2⟨ε, G(F(x + ε)) − G(y)⟩ + ‖G(y + η) − G(y)‖²,    y = F(x),

    ε and η normal with standard deviation ``std`` (the same, as otherwise G would learn a multiple
    of the transposed Jacobian). Each but the momentum may be given by projection.
    """

    steps: Annotated[
        Count | Mapping[str, Count], Field(description="steps for each batch; or by projection")
    ] = 20
    std: Annotated[
        Positive | Mapping[str, Positive],
        Field(description="standard deviation of the noise sent through a layer; or by projection"),
    ] = 0.2
    rate: Annotated[
        Positive | Mapping[str, Positive], Field(description="learning rate; or by projection")
    ] = 1e-2
    momentum: Annotated[BelowOne, Field(description="of the running sum of gradients")] = 0.9

    def of(self, projection: str) -> tuple[int, float, float]:
        """Steps, standard deviation and rate of a projection."""
        steps, std, rate = (
            option[projection] if isinstance(option, Mapping) else option
            for option in (self.steps, self.std, self.rate)
        )
        return int(steps), std, rate

    def check(self, learning: Sequence[str]) -> None:
        """Raises ConfigurationError unless values by projection are of just these."""
        for key in ("steps", "std", "rate"):
            given = getattr(self, key)
            if not isinstance(given, Mapping):
                continue
            for name in given:
                if name not in learning:
                    message = unknown("projection", name, learning)
                    raise ConfigurationError(message, ("rule", "jacobian", key, name))
            missing = [name for name in learning if name not in given]
            if missing:
                raise ConfigurationError(
                    f"{key} is given by projection, but not for {missing[0]!r}",
                    ("rule", "jacobian", key),
                )


@register("symmetric")
@dataclass(frozen=True)
class Symmetric(Feedback):
    """Differences go back through the weight itself."""

    separate: ClassVar[bool] = False


@register("random")
@dataclass(frozen=True)
class Random(Feedback):
    """A weight that stays as it was drawn (Lillicrap et al. 2016)."""


@register("kolen_pollack")
@dataclass(frozen=True)
class KolenPollack(Feedback):
    """A weight with the local gradient of W, so that with weight decay the two become one (Akrout
    et al. 2019)."""

    trained: ClassVar[Signal] = "gradient"


@register("local_jacobian")
@dataclass(frozen=True)
class LocalJacobianFeedback(Feedback):
    """A weight that learns what its layer does (Ernoult et al. 2022)."""

    trained: ClassVar[Signal] = "noise"
