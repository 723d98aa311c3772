"""Difference target propagation (Lee et al. 2015), with local-Jacobian learning of the feedback
weights (Ernoult et al. 2022)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeVar

from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError, unknown
from neurosim.families import BelowOne, Count, Described, Positive, register
from neurosim.maths import Activation
from neurosim.network import Feedback, Network
from neurosim.rules.base import Nudge, Rule, Wake, Woken

Value = TypeVar("Value", int, float)


@dataclass(frozen=True)
class LocalJacobian(Described):
    """How feedback weights learn: ``steps`` of gradient descent at ``rate`` with ``momentum`` on

        −2⟨ε, G(F(x + ε)) − G(y)⟩ + ‖G(y + η) − G(y)‖²,    y = F(x),

    ε and η normal with standard deviation ``std`` (the same, as otherwise G would learn a multiple
    of the transposed Jacobian). Each but the momentum may be given by projection.
    """

    steps: Count | Mapping[str, Count] = 20
    std: Positive | Mapping[str, Positive] = 0.2
    rate: Positive | Mapping[str, Positive] = 1e-2
    momentum: BelowOne = 0.9

    def of(self, projection: str) -> tuple[int, float, float]:
        """Steps, standard deviation and rate of a projection."""
        return _of(self.steps, projection), _of(self.std, projection), _of(self.rate, projection)

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


@register("difference_target_propagation")
@dataclass(frozen=True)
class DifferenceTargetPropagation(Rule):
    """s = f(a) and the target t = s + Δ; s goes forward, f(t) − f(s) goes back.

    Through a feedback weight V that is G(t) − G(s) for G(t) = V f(t) + c, so that below
    t = s + Σ [G(t) − G(s)]: the difference correction. c plays no part. Where a projection pools by
    maximum, G goes back to the winners. At the output t = ŷ − β∇ℓ(ŷ). s⁺ is s and s⁻ is t. The
    local gradient is that of Σ ½‖s − t‖² / β with the states below held, −(1/βB) Σ f'(a)(t − s) s̄ᵀ:
    that of back-propagation as β → 0 where G has the transposed Jacobian of F.

    ``jacobian`` is how the feedback weights of projections with `Projection.feedback`
    ``local_jacobian`` learn; None stands for its defaults, and is all there is without them.
    """

    feedbacks: ClassVar[tuple[Feedback, ...]] = (
        "symmetric",
        "kolen_pollack",
        "random",
        "local_jacobian",
    )

    beta: Annotated[Positive, Field(description="step of the output's target")] = 0.7
    jacobian: LocalJacobian | None = None

    @property
    def gradient_scale(self) -> float:
        return -1.0 / self.beta

    @property
    def nudges_at_potential(self) -> bool:
        return True

    def check_feedback(self, network: Network) -> None:
        super().check_feedback(network)
        learning = [p.name for p in network.projections if p.feedback == "local_jacobian"]
        if self.jacobian is None:
            return
        if not learning:
            raise ConfigurationError(
                "jacobian says how feedback weights learn, but no projection has any that do; "
                "give the network feedback 'local_jacobian', or leave jacobian out",
                ("rule", "jacobian"),
            )
        self.jacobian.check(learning)

    def mean(self, plus: Tensor, minus: Tensor) -> Tensor:
        return plus

    def error(
        self, activation: Activation, plus: Tensor, minus: Tensor, difference: Tensor | None
    ) -> Tensor | None:
        """f'(a)(t − s)."""
        if minus is plus:
            return None
        return activation.backward(None, plus, minus - plus)

    def force(self, nudge: Nudge, basal: Tensor) -> Tensor:
        """−β∇ℓ(a)."""
        assert nudge.target is not None
        return nudge.loss.gradient(basal, nudge.target) * -self.beta

    def wake(self, woken: Woken) -> Wake:
        f, apical = woken.activation, woken.pull
        state = f(woken.basal)
        if apical is None:
            return Wake(state, state, state, None)
        target = state + apical
        sent = f.difference(f(target), f(state), apical)
        return Wake(state, target, state, sent)


def _of(option: Value | Mapping[str, Value], projection: str) -> Value:
    return option[projection] if isinstance(option, Mapping) else option
