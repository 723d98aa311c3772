"""Networks that contract, their fixed points without the simulator, and how far the asynchronous
convergence theorem says a run has come. For `test_convergence_theorem.py`.

Everything here is numpy: a projection is its matrix, and one synchronous wake of everything is
written down from the equations of dual propagation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import neurosim as ns

Floats = npt.NDArray[np.float64]
States = dict[str, tuple[Floats, Floats]]

ACTIVATIONS = {
    "relu": lambda a: np.maximum(a, 0.0),
    "identity": lambda a: a,
    "hard_sigmoid": lambda a: np.clip(a, 0.0, 1.0),
    "tanh": np.tanh,
}


@dataclass
class Problem:
    """A network with weights that contract under a rule, an input and a target (squared error)."""

    model: ns.Model
    rule: ns.DualPropagation
    x: Tensor
    target: Tensor

    def __post_init__(self) -> None:
        network = self.model.network
        self.order = [population.name for population in network.dyadic]
        self.sizes = {population.name: population.size for population in network.dyadic}
        self.output, self.input = network.output.name, network.input.name

    @property
    def matrices(self) -> list[tuple[str, str, Floats]]:
        """(pre, post, matrix) of every projection."""
        return [(p.pre, p.post, matrix_of(self.model, p)) for p in self.model.network.projections]

    @property
    def biases(self) -> dict[str, Floats]:
        """By population, over its dyads."""
        found = {}
        for population in self.model.network.dyadic:
            bias = self.model.parameter(population.name, "bias")
            assert bias is not None
            each = population.size // bias.numel()  # one for each conv channel
            found[population.name] = np.repeat(bias.detach().numpy(), each)
        return found

    # ---- the sufficient condition --------------------------------------------------------------

    def factor(self) -> float:
        """A bound on by how much one wake shrinks the largest error, without damping.

        A hidden dyad: ‖W_in‖∞ + 2 max(w⁺, w⁻) ‖W_out‖₁, as a mean is off by at most what its states
        are, and a difference by twice that. An output dyad: ‖W_L‖∞, times what the nudge makes of
        its own potential.
        """
        strongest = max(self.rule.weights)
        below = dict.fromkeys(self.order, 0.0)
        above = dict.fromkeys(self.order, 0.0)
        for pre, post, matrix in self.matrices:
            below[post] += float(np.abs(matrix).sum(1).max())
            if pre != self.input:
                above[pre] += float(np.abs(matrix).sum(0).max())
        w_plus, w_minus, beta = *self.rule.weights, self.rule.beta
        gain = {
            "prediction": 1.0,
            "proximal": 1.0 / (1.0 - w_minus * beta),
            "potential": max(abs(1.0 - w_plus * beta), 1.0 + w_minus * beta),
        }[self.rule.nudge]
        bounds = [below[k] + 2.0 * strongest * above[k] for k in self.order if k != self.output]
        return max([*bounds, gain * below[self.output]])

    def contraction(self) -> float:
        """The same with damping D, which the fixed points of piecewise linear dyads do not feel."""
        if self.rule.variant != "damped":
            return self.factor()
        strongest = max(
            sum(np.linalg.norm(matrix, 2) ** 2 for pre, _, matrix in self.matrices if pre == name)
            for name in self.order
        )
        damping = 1.001 * float(strongest) * abs(1.0 - 2.0 * self.rule.alpha)
        return (self.factor() + damping) / (1.0 + damping)

    # ---- the fixed point -----------------------------------------------------------------------

    def prediction(self) -> dict[str, Floats]:
        """The plain feed-forward activity."""
        values = {self.input: self.x.flatten(1).numpy()}
        for name in self.order:
            basal = sum(values[pre] @ m.T for pre, post, m in self.matrices if post == name)
            values[name] = self._activation(name)(basal + self.biases[name])
        return values

    def fixed_point(self) -> States:
        """By synchronous, undamped iteration until nothing changes but the last bits."""
        x, y = self.x.flatten(1).numpy(), self.target.flatten(1).numpy()
        alpha, beta, (w_plus, w_minus) = self.rule.alpha, self.rule.beta, self.rule.weights
        matrices, biases = self.matrices, self.biases
        frozen = 0.0
        if self.rule.nudge == "prediction":
            frozen = self.prediction()[self.output] - y
        states = {k: (np.zeros((len(x), n)),) * 2 for k, n in self.sizes.items()}
        for _ in range(400):
            mean = {k: alpha * plus + (1.0 - alpha) * minus for k, (plus, minus) in states.items()}
            mean[self.input] = x
            following: States = {}
            for name in self.order:
                f = self._activation(name)
                a = biases[name] + sum(mean[q] @ m.T for q, post, m in matrices if post == name)
                up = [(states[post], m) for pre, post, m in matrices if pre == name]
                apical = sum((plus - minus) @ m for (plus, minus), m in up)
                if name != self.output:
                    following[name] = f(a + w_plus * apical), f(a - w_minus * apical)
                elif self.rule.nudge == "proximal":
                    following[name] = (
                        (a + w_plus * beta * y) / (1.0 + w_plus * beta),
                        (a - w_minus * beta * y) / (1.0 - w_minus * beta),
                    )
                else:
                    force = -beta * (frozen if self.rule.nudge == "prediction" else a - y)
                    following[name] = a + w_plus * force, a - w_minus * force
            step = distance(states, following)
            states = following
            if step < 1e-15:
                return states
        raise AssertionError("the reference iteration did not settle")

    def _activation(self, name: str) -> Any:
        return ACTIVATIONS[self.model.network[name].activation.kind]

    def scale(self) -> float:
        """The largest number in the fixed point."""
        return max(np.abs(s).max() for pair in self.fixed_point().values() for s in pair)


def matrix_of(model: ns.Model, projection: Any) -> Floats:
    """A projection as a matrix (post, pre) over flat indices, by its action on unit vectors."""
    pre = int(np.prod(projection.operator.pre))
    weight = model.parameter(projection.name, "weight")
    if weight is None:
        return np.eye(pre)
    weight = weight.detach()
    if weight.dim() == 2:
        return weight.numpy()
    units = torch.eye(pre, dtype=weight.dtype).view(pre, *projection.operator.pre)
    return torch.nn.functional.conv2d(units, weight, padding="same").flatten(1).T.numpy()


def distance(one: Mapping[str, Sequence[Any]], other: Mapping[str, Sequence[Any]]) -> float:
    """The largest difference between states s⁺, s⁻ of populations; (B, N) each."""
    assert set(one) == set(other)
    return max(
        float(np.abs(np.asarray(a) - np.asarray(b)).max())
        for name in one
        for a, b in zip(one[name], other[name], strict=True)
    )


def present(simulation: ns.Simulation) -> States:
    """The states s⁺, s⁻ of a simulation, flat."""
    return {
        cell.name: (cell.plus.value.flatten(1).numpy(), cell.minus.value.flatten(1).numpy())
        for cell in simulation.state.cells
    }


def chain(*layers: tuple[int, str]) -> dict[str, Any]:
    """Dense layers (size, activation) over an input of 3."""
    named = [{"name": f"p{i}", "dense": n, "activation": f} for i, (n, f) in enumerate(layers[:-1])]
    return {"input": 3, "layers": [*named, {"name": "out", "dense": layers[-1][0]}]}


def make_problem(
    description: dict[str, Any], rule: ns.DualPropagation, factor: float, seed: int
) -> Problem:
    """A network with random weights, scaled so that a wake shrinks errors by ``factor``."""
    model = ns.Model(ns.Network.from_dict(description), seed=seed, dtype=torch.float64)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(generator.normal(0.0, 1.0, tuple(parameter.shape))))
        network = model.network
        x = torch.from_numpy(generator.standard_normal((2, *network.input.shape)))
        y = torch.from_numpy(generator.standard_normal((2, *network.output.shape)))
        problem = Problem(model, rule, x, y)
        shrink = factor / problem.factor()
        for name, parameter in model.named_parameters():
            if name.endswith(".weight"):
                parameter.mul_(shrink)
    return problem


class Rounds:
    """Rounds of a run, by the theorem: after r of them no state is further from the fixed point
    than factorʳ times the largest distance at the start.

    With messages at most ``delay`` ticks late, a wake at tick n reads values that their senders
    had at tick n − delay or later. So a round that begins after tick t is over when every dyad has
    woken at some tick from t + delay on: it has then read only states of the round before.
    """

    def __init__(self, sizes: Mapping[str, int], delay: int) -> None:
        self.count, self._delay, self._began = 0, delay, 0
        self._woken = {name: np.zeros(size, dtype=bool) for name, size in sizes.items()}

    def wake(self, tick: int, population: str, indices: Sequence[int] | None) -> None:
        if tick >= self._began + self._delay:
            self._woken[population][slice(None) if indices is None else list(indices)] = True

    def close(self, tick: int) -> None:
        """At the end of a tick."""
        if all(woken.all() for woken in self._woken.values()):
            self.count, self._began = self.count + 1, tick
            for woken in self._woken.values():
                woken[:] = False
