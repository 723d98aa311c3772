"""What the rules have in common whose neurons descend an energy: one state, sent both ways.

    E = Σ_k c^(k−L) [ G_k(s_k) − s_kᵀ (W_k s_{k−1} + b_k) ],   f_k = (∇G_k)⁻¹

With all others held, E is least in the states of population k at
s_k = f_k(a_k + c W_{k+1}ᵀ s_{k+1}), so that is what a neuron does when it wakes: G = ½s² for the
identity, on s ≥ 0 for relu, on [0, 1] for hard_sigmoid; see `Activation.inverse_primitive`. c is 1
but in contrastive Hebbian learning.

Where a projection pools by maximum, s_{k−1} takes the feedback of the present winners. That is the
least of a bound on E from above which touches it at the present state, wherever s_k ≥ 0.
"""

from abc import abstractmethod
from typing import ClassVar, Literal

from torch import Tensor

from neurosim.base import ConfigurationError, stream
from neurosim.maths import Loss, dyad
from neurosim.network import Network
from neurosim.rules.base import Nudge, Phase, Rule, Wake, Woken, only_clipping, only_squared_error

Readout = Literal["state", "static"]
Sides = Literal["centered", "one_sided", "negative_one_sided", "random_sign"]
FREE_RUNS = "how often the schedule runs in the free phase"


class EnergyRule(Rule):
    """A neuron with one state s, which it sends forward and back. ``feedback_gain`` is c."""

    paired: ClassVar[bool] = False
    remedy: ClassVar[str] = (
        "its energy may have no least value: try the initialization weak_uniform, an activation "
        "with bounds (hard_sigmoid or tanh), or a smaller learning rate"
    )
    settles: ClassVar[bool] = True

    @property
    def feedback_gain(self) -> float:
        """What the apical potential is multiplied by."""
        return 1.0

    @abstractmethod
    def wake_output(self, woken: Woken, strength: complex) -> Wake:
        """One wake of output dyads under a nudge of this strength; see `Rule.wake`."""

    def wake(self, woken: Woken) -> Wake:
        if woken.strength is not None:
            return self.wake_output(woken, woken.strength)
        return one(dyad.relax(woken.activation, woken.basal, woken.apical, self.feedback_gain))


class ContrastingRule(EnergyRule):
    """Contrasts what neurons are in a free phase, and under a nudge of strength β, or −β.

    ==================  =================================================
    ``variant``         the gradient, of the products at the ends of phases
    ==================  =================================================
    centered            −[ · |₊β − · |₋β] / 2β, both starting from the free states
    one_sided           −[ · |₊β − · |₀] / β
    negative_one_sided  −[ · |₀ − · |₋β] / β
    random_sign         one of the two, drawn for each inference
    ==================  =================================================
    """

    variant: Sides
    free: int

    @property
    @abstractmethod
    def strength(self) -> float:
        """β > 0."""

    @property
    def centered(self) -> bool:
        return self.variant == "centered"

    @property
    def gradient_scale(self) -> float:
        return -1.0 / (2.0 * self.strength if self.centered else self.strength)

    @property
    def phases(self) -> tuple[Phase, ...]:
        if self.centered:
            return (
                Phase("free", runs=self.free),
                Phase("plus", self.strength, 1.0),
                Phase("minus", -self.strength, -1.0, restored=True),
            )
        return self._one_sided(-1.0 if self.variant == "negative_one_sided" else 1.0)

    def _one_sided(self, sign: float) -> tuple[Phase, ...]:
        nudged = Phase("nudged", sign * self.strength, sign)
        return Phase("free", share=-sign, runs=self.free), nudged

    def phases_of(self, seed: int, number: int) -> tuple[Phase, ...]:
        if self.variant != "random_sign":
            return self.phases
        return self._one_sided(stream(seed, "sign", str(number)).choice((1.0, -1.0)))


class NudgedEnergyRule(EnergyRule):
    """Minimizes F = E + β ℓ, β the strength of the phase.

    ``readout`` says what the output is. ``state``: a population like the others under ℓ = ½‖s−y‖²,
    s_L = f((a_L + βy)/(1 + β)). ``static``: z = a_L, which is no state of E, under any ℓ; what it
    sends back is −β∇ℓ(z), and nothing in a free phase.
    """

    readout: Readout

    @property
    def nudges_at_potential(self) -> bool:
        return self.readout == "static"

    @property
    def silent_output(self) -> bool:
        return self.readout == "static"

    def check_loss(self, loss: Loss) -> None:
        if self.readout == "state":
            mend = "use the readout 'static', which takes any loss"
            only_squared_error(loss, "the readout 'state' is nudged by", mend)

    def check_network(self, network: Network) -> None:
        super().check_network(network)
        output = network.output
        if self.readout == "state":
            only_clipping(network, "the readout 'state' has", "the readout 'static'")
        elif not output.activation.linear:
            raise ConfigurationError(
                f"the readout 'static' is linear, but the output {output.name!r} has the "
                f"activation {str(output.activation)!r}; leave it out, or use the readout 'state'",
                "readout",
            )
        if self.readout == "static" and network.outgoing(output.name):
            raise ConfigurationError(
                f"the readout 'static' is no state, but the output {output.name!r} has a "
                f"projection to {network.outgoing(output.name)[0].post!r}; use the readout 'state'",
                "readout",
            )

    def force(self, nudge: Nudge, output: Tensor) -> Tensor:
        """βy for the readout ``state``, −β∇ℓ(z) for ``static``."""
        assert nudge.target is not None
        if self.readout == "static":
            return nudge.loss.gradient(output, nudge.target) * -nudge.strength
        return nudge.target * nudge.strength

    def wake_output(self, woken: Woken, strength: complex) -> Wake:
        basal = woken.basal
        if self.readout == "static":
            return Wake(basal, basal, basal, woken.force)
        stiffness = 0.0 if woken.force is None else strength
        return one(dyad.relax(woken.activation, basal, woken.pull, 1.0, stiffness=stiffness))


def one(state: Tensor) -> Wake:
    """The wake of a neuron that sends its one state both ways."""
    return Wake(state, state, state, state)
