"""Dual propagation: all variants through one `relax` (DP23 eqs. 6-9, DP24 eqs. 11-14)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.families import Fraction, Positive, register
from neurosim.maths import (
    Activation,
    Loss,
    Messages,
    Rows,
    clip_at_once,
    dyad,
    loop_gain,
    relax_at_half,
    relax_some_at_half,
)
from neurosim.network import Network
from neurosim.rules.base import (
    Nudge,
    Rule,
    Upward,
    Wake,
    Woken,
    only_clipping,
    only_squared_error,
)
from neurosim.tensors import finite_product

Variant = Literal["aro", "lagrangian", "damped"]
NudgeName = Literal["prediction", "potential", "proximal"]
DampingName = Literal["strong", "published", "published_code"]


@register("dual_propagation")
@dataclass(frozen=True)
class DualPropagation(Rule):
    """s± ← f((a ± w± Δ + D s±) / (1 + D)), with the weights (w⁺, w⁻) and damping D of a variant.

    ============  ======  ======  =====================================================
    ``variant``   w⁺      w⁻      D
    ============  ======  ======  =====================================================
    aro           α       1−α     0
    lagrangian    1−α     α       0
    damped        α       1−α     strong: σ²\\|1−2α\\|; published: max(0, (σ²−1)/2)·\\|1−2α\\|
    ============  ======  ======  =====================================================

    σ² is that of the projections upward (`loop_gain`). The damping ``published_code`` is
    max(0, (σ²−1)/2) for every α, as in the code of DP24. With tanh, damping also moves the fixed
    points: f((a + s D)/(1 + D)) = s does not mean f(a) = s. The mean is s̄ = α s⁺ + (1−α) s⁻ in
    every variant. ``nudge`` says where the output dyads take the loss gradient: at the
    feed-forward ``prediction``, at their own ``potential`` at each wake, or, for the squared error,
    in closed form (``proximal``: s⁺ = (a + w⁺βy)/(1 + w⁺β), s⁻ = (a − w⁻βy)/(1 − w⁻β), which needs
    w⁻β < 1).
    """

    separate_feedback: ClassVar[bool] = True
    remedy: ClassVar[str] = "try a smaller learning rate or beta, or another variant"

    alpha: Annotated[Fraction, Field(description="share of s⁺ in the mean")] = 0.5
    beta: Annotated[Positive, Field(description="strength of the nudge")] = 1.0
    variant: Annotated[
        Variant,
        Field(description="the adversarial robust one, that of the Lagrangian, or the damped one"),
    ] = "aro"
    nudge: Annotated[
        NudgeName,
        Field(
            description="where the loss is taken: at a potential, at the prediction, or proximally"
        ),
    ] = "potential"
    damping: Annotated[
        DampingName,
        Field(description="of the variant damped: the safe one, that of the paper, or of its code"),
    ] = "strong"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.damping != "strong" and self.variant != "damped":
            raise ConfigurationError(
                f"damping is {self.damping!r}, but the variant {self.variant!r} has none; use the "
                "variant 'damped'",
                "damping",
            )
        if self.nudge == "proximal" and self.weights[1] * self.beta >= 1.0:
            raise ConfigurationError(
                f"the proximal nudge needs w⁻·beta < 1, but w⁻ = {self.weights[1]:g} (variant "
                f"{self.variant}, alpha {self.alpha:g}) and beta = {self.beta:g}; take a smaller "
                "beta or another nudge",
                "beta",
            )

    @property
    def weights(self) -> tuple[float, float]:
        """(w⁺, w⁻): how strongly the apical potential acts on s⁺ and, negatively, on s⁻. Their sum
        is 1, so that what is sent back is all that comes."""
        if self.variant == "lagrangian":
            return 1.0 - self.alpha, self.alpha
        return self.alpha, 1.0 - self.alpha

    @property
    def gradient_scale(self) -> float:
        return -1.0 / self.beta

    @property
    def needs_prediction(self) -> bool:
        return self.nudge == "prediction"

    @property
    def nudges_at_potential(self) -> bool:
        return self.nudge == "potential"

    def check_loss(self, loss: Loss) -> None:
        if self.nudge == "proximal":
            mend = "use the nudge 'potential' or 'prediction'"
            only_squared_error(loss, "the nudge 'proximal' is", mend)

    def mean(self, plus: Tensor, minus: Tensor) -> Tensor:
        return dyad.mean(plus, minus, self.alpha)

    def damping_of(self, upward: Sequence[Upward]) -> float:
        tilt = 1.0 if self.damping == "published_code" else abs(1.0 - 2.0 * self.alpha)
        if self.variant != "damped" or not tilt:
            return 0.0
        # Several projections upward act as one stacked operator: its norm² is at most the sum.
        square = sum(loop_gain(*projection) for projection in upward)
        return tilt * (square if self.damping == "strong" else max(0.0, (square - 1.0) / 2.0))

    def check_network(self, network: Network) -> None:
        super().check_network(network)
        if not math.isclose(sum(self.weights), 1.0, rel_tol=1e-12):
            said = f"weights of the apical potential are {self.weights}: their sum has to be 1"
            raise ConfigurationError(said, "rule")
        if self.nudge == "proximal":
            only_clipping(network, "the nudge 'proximal' is", "the nudge 'potential'")

    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """−βg, or βy for the proximal nudge."""
        assert nudge.target is not None
        if self.nudge == "proximal":
            return nudge.target * self.beta
        frozen = self.nudge == "prediction"
        gradient = nudge.gradient if frozen else nudge.loss.gradient(output, nudge.target)
        assert gradient is not None
        # Of a small array, a product with a number takes three times as long.
        return -gradient if self.beta == 1.0 else gradient * -self.beta

    def wake(self, woken: Woken) -> Wake:
        f, damping = woken.activation, woken.damping
        basal, apical = woken.basal, woken.pull
        w_plus, w_minus = self.weights
        stiff_plus, stiff_minus = self._stiffness(woken)
        plain = not (damping or stiff_plus or stiff_minus)
        if apical is not None and plain and w_plus == w_minus:  # both are ½, as their sum is 1
            halves = self._halves and self._means
            found = relax_at_half(f, basal, apical, woken.last) if halves else None
            if found is not None:
                return Wake(*found[:4]).knowing(True, moderate=True, news=found.news)
            plus, minus = dyad.relax_both(f, basal, apical, w_plus)
        else:
            relaxed = partial(dyad.relax, f, basal, apical, damping=damping)
            alone = apical is None and not damping
            if alone and plain and (state := clip_at_once(f, basal)) is not None:
                return Wake(state, state, state, None).knowing(True, moderate=True)
            plus = relaxed(w_plus, state=woken.plus, stiffness=stiff_plus)
            if alone:
                return Wake(plus, plus, plus, None)
            minus = relaxed(-w_minus, state=woken.minus, stiffness=stiff_minus)
        if not plain:
            return Wake(plus, minus, self.mean(plus, minus), plus - minus)
        assert apical is not None
        difference = f.difference(plus, minus, apical)
        if f.linear and self._means:
            # A linear dyad's mean is a + (αw⁺ − (1−α)w⁻)Δ. Taking it from the states would round,
            # and the rounding would look like news.
            tilt = self.alpha * w_plus - (1.0 - self.alpha) * w_minus
            mean = dyad.relax(f, basal, apical, tilt)
            wake = Wake(plus, minus, mean, difference)
            if woken.last is None or not mean.is_cpu:
                return wake
            # Where these norms are moderate those of the states are.
            finite = finite_product(mean, mean) & finite_product(difference, difference)
            return wake.knowing(finite, moderate=True)
        wake = Wake(plus, minus, self.mean(plus, minus), difference)
        return wake.knowing(moderate=True) if f.bounded and self._means else wake

    def _stiffness(self, woken: Woken) -> tuple[float, float]:
        """What the proximal nudge adds to the denominators of s⁺ and s⁻."""
        if woken.force is None or self.nudge != "proximal":
            return 0.0, 0.0
        w_plus, w_minus = self.weights
        return w_plus * self.beta, -w_minus * self.beta

    @property
    def _halves(self) -> bool:
        """Whether w⁺, w⁻ and α are ½."""
        return self.alpha == 0.5 and self.weights == (0.5, 0.5)

    @property
    def _means(self) -> bool:
        """Whether the mean is that of dual propagation."""
        return type(self).mean is DualPropagation.mean

    def wakes_at_once(self, activation: Activation) -> bool:
        clips = activation.linear or activation.ceiling is not None
        return clips and self._halves and super().wakes_at_once(activation)

    def wake_at_once(self, woken: Woken, rows: Rows) -> Messages | None:
        apical, stiffness = woken.pull, self._stiffness(woken)
        if apical is None or woken.damping:
            return None
        return relax_some_at_half(woken.activation, woken.basal, apical, stiffness, rows)
