"""Difference target propagation (Lee et al. 2015), with local-Jacobian learning of the feedback
weights (Ernoult et al. 2022)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Positive, register
from neurosim.maths import Activation
from neurosim.network import LocalJacobian, Network
from neurosim.rules.base import Nudge, Rule, Wake, Woken


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

    separate_feedback: ClassVar[bool] = True

    beta: Annotated[Positive, Field(description="step of the output's target")] = 0.7
    jacobian: Annotated[
        LocalJacobian | None,
        Field(description="learn feedback weights before each inference; null: they stay"),
    ] = None

    @property
    def gradient_scale(self) -> float:
        return -1.0 / self.beta

    @property
    def exchange(self) -> LocalJacobian:
        return self.jacobian or LocalJacobian()

    def check_feedback(self, network: Network) -> None:
        super().check_feedback(network)
        learning = [p.name for p in network.projections if p.feedback.trained == "noise"]
        if self.jacobian is None:
            return
        if not learning:
            raise ConfigurationError(
                "jacobian says how feedback weights learn, but no projection has any that do; "
                "give the network feedback 'local_jacobian', or leave jacobian out",
                ("rule", "jacobian"),
            )
        self.jacobian.check(learning)

    def error(
        self, activation: Activation, plus: Tensor, minus: Tensor, difference: Tensor | None
    ) -> Tensor | None:
        """f'(a)(t − s)."""
        if minus is plus:
            return None
        return activation.backward(None, plus, minus - plus)

    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """−β∇ℓ(f(a))."""
        assert nudge.target is not None
        return nudge.loss.gradient(output, nudge.target) * -self.beta

    def wake(self, woken: Woken) -> Wake:
        f, apical = woken.activation, woken.pull
        state = f(woken.basal)
        if apical is None:
            return Wake(state, state, state, None)
        target = state + apical
        sent = f.difference(f(target), f(state), apical)
        return Wake(state, target, state, sent)
