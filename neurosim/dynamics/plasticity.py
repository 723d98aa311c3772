"""What a projection does to its own weight, from local quantities only."""

import torch
from torch import Tensor

from neurosim.dynamics.state import State
from neurosim.rules import Rule


def contrastive_hebbian(
    state: State, rule: Rule, share: complex = 1.0
) -> tuple[dict[str, Tensor], int]:
    """Computes the local gradient of every parameter, batch mean.

    ∂L/∂W = −1/(βB) Σ δ s̄ᵀ (DP23 eq. 10): δ = s⁺ − s⁻ of the post-synaptic dyads themselves, s̄ the
    mean as the projection sees it. A bias sees a mean of 1. A difference of zero costs nothing.
    A Kolen-Pollack feedback weight gets the gradient of the weight of its projection.
    In a rule with phases it is what one of them adds, of which the gradient takes its ``share``:
    δ is what the post-synaptic dyads send back, of complex products the real part counts.

    Returns:
        The gradients by the names of the parameters, and the operations that they took.
    """
    scale = rule.gradient_scale * share / state.batch
    gains = rule.gradient_gains(state.model.network)
    result: dict[str, Tensor] = {}
    operations = 0
    for cell in state.cells:
        difference = rule.error(
            cell.population.activation, cell.plus.value, cell.minus.value, cell.difference.tensor
        )
        if difference is not None:
            # Smaller than the weights.
            difference = difference * (scale * gains.get(cell.name, 1.0))
        for link in cell.incoming:
            if link.weight is None:
                continue
            name = f"{link.name}.weight"
            if difference is None:
                result[name] = torch.zeros_like(link.weight)
            else:
                result[name] = link.weight_gradient(difference)
                operations += len(link.heard_means)
            if link.projection.feedback == "kolen_pollack":
                # A copy: who clips gradients in place must not do it twice.
                result[f"{link.name}.feedback"] = result[name].clone()
        bias = state.model.parameter(cell.name, "bias")
        if bias is not None:
            name = f"{cell.name}.bias"
            if difference is None:
                result[name] = torch.zeros_like(bias)
            else:
                dims = (0, 2, 3) if len(cell.population.shape) == 3 else (0,)
                result[name] = difference.sum(dims).real
    return {name: result[name] for name, _ in state.model.named_parameters()}, operations
