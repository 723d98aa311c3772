"""The runs of neurosim that other people's code has made the same of, and how far they are apart.

A difference is relative to the largest value of its array.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import neurosim as ns
from neurosim.dynamics import feedback
from neurosim.dynamics.outlet import Counts

Arrays = Mapping[str, Any]
Found = Iterator[tuple[str, float]]  # what was compared, and the worst difference

ORDERS = {
    "fwK": "forward",
    "bwK": "backward",
    "fwbwK": "forward_backward",
    "oddeven": "odd_even",
    "evenodd": "even_odd",
}


class Noted(dict[str, Any]):
    """Arrays, of which those that nobody has taken are ``left``."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.left = set(arrays)

    def __getitem__(self, key: str) -> Any:
        self.left.discard(key)
        return super().__getitem__(key)


def read(path: Path) -> tuple[Noted, dict[str, Any]]:
    """Returns the arrays of a file, and its ``meta`` with the name of the file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(bytes(arrays.pop("meta"))) if "meta" in arrays else {}
    return Noted(arrays), {"file": path.stem} | meta


def tensor(array: Any) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def difference(actual: Tensor, expected: Any) -> float:
    """Returns the largest difference, relative to the largest value."""
    wanted = torch.tensor(np.asarray(expected))
    assert actual.shape == wanted.shape
    off, size = float((actual.detach() - wanted).abs().max()), float(wanted.abs().max())
    return off / size if size else off


def worst(found: Mapping[str, Tensor], arrays: Arrays, depth: int, prefix: str = "grad_") -> float:
    """Returns the largest difference of the gradients of all weights and biases."""
    return max(
        difference(found[f"p{k}.{kind}"], arrays[f"{prefix}{kind}_{k}"])
        for k in range(1, depth + 1)
        for kind in ("weight", "bias")
    )


def states(found: Mapping[str, Tensor], arrays: Arrays, key: str, layers: range) -> float:
    return max(difference(found[f"p{k}"], arrays[f"{key}_{k}"]) for k in layers)


def chain(arrays: Arrays, activation: str = "relu", **pool: Any) -> ns.Model:
    """Returns a chain p1, p2, … in float64 with the weights ``weight_k``, ``bias_k``, and feedback
    weights where there are any; ``pool`` says how which convolutions pool."""
    depth = sum(key.startswith("bias_") for key in arrays)
    layers: list[dict[str, Any]] = []
    values = {}
    for k in range(1, depth + 1):
        weight = arrays[f"weight_{k}"]
        layer = {"name": f"p{k}", ("conv" if weight.ndim == 4 else "dense"): len(weight)}
        layers.append(layer | ({"pool": pool[f"p{k}"]} if f"p{k}" in pool else {}))
        values |= {f"p{k}.weight": tensor(weight), f"p{k}.bias": tensor(arrays[f"bias_{k}"])}
        if k > 1 and (key := feedback_key(arrays, k)):
            layers[-1]["feedback"] = "local_jacobian" if "before" in key else "kolen_pollack"
            values[f"p{k}.feedback"] = tensor(arrays[key])
        if f"pool{k}" in pool:
            layers.append({"name": f"pool{k}", "pool": pool[f"pool{k}"]})
    x = arrays["x" if "x" in arrays else "plus_0"]
    described = {"input": list(x.shape[1:]), "activation": activation, "layers": layers}
    model = ns.Model(ns.Network.from_dict(described), dtype=torch.float64)
    model.load_state_dict(values)
    return model


def feedback_key(arrays: Arrays, k: int) -> str | None:
    """Returns the name of the feedback weight of a layer, as it is before the update."""
    named = re.compile(rf"(?!grad_|.*after)\w*(feedback|back)\w*_{k}")
    return next((key for key in arrays if named.fullmatch(key)), None)


def pooled(arrays: Arrays) -> dict[str, str]:
    """Returns the pooling of a chain in which every convolution has one."""
    planes = [key for key, value in arrays.items() if key[:7] == "weight_" and value.ndim == 4]
    return {f"p{key[7:]}": "max" for key in planes}


def one_hot(labels: Any, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(np.asarray(labels)).long(), classes).double()


# ---- dual propagation ----------------------------------------------------------------------------


def dp24(
    arrays: Arrays,
    meta: dict[str, Any],
    *,
    pool: Any = "max",
    unit: Any = "population",
    **options: Any,
) -> Found:
    pools = {f"p{k}": pool for k, there in enumerate(meta["max_pool"], 1) if there}
    model = chain(arrays, meta.get("activation", "relu"), **pools)
    depth = len(meta["features"]) + len(meta["dense"])
    # Their mean squared error is ‖ŷ − y‖², twice ours.
    factor = 2.0 if meta["loss"] == "mse" else 1.0
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(
            alpha=meta["alpha"],
            beta=factor * meta["beta"],
            variant=meta["variant"],
            nudge="potential" if meta["variant"] == "aro" else "prediction",
            damping="published" if meta["variant"] == "damped" else "strong",
        ),
        loss="squared_error" if meta["loss"] == "mse" else "cross_entropy",
        schedule=ns.schedules.Sweep(ORDERS[meta["sequence"]], meta["passes"], unit=unit),
        init="feedforward",
        **options,
    )
    outcome = simulation.infer(tensor(arrays["plus_0"]), tensor(arrays["y"]))
    layers = range(1, depth + 1)
    yield "s⁺", states(outcome.plus, arrays, "plus", layers)
    yield "s⁻", states(outcome.minus, arrays, "minus", layers)
    if meta["variant"] == "damped":
        damping = [cell.damping for cell in simulation.state.cells[:-1]]
        yield "damping", difference(tensor(damping), arrays["L"][1:])
    gradients = {name: factor * value for name, value in simulation.gradients().items()}
    yield "gradients", worst(gradients, arrays, depth)
    if "objective" in arrays and factor == 1.0:
        # A sum of terms that cancel: of their size, and not of its own.
        yield "objective", abs(simulation.objective() - float(arrays["objective"]))


def winners_at_plus(arrays: Arrays, meta: dict[str, Any]) -> Found:
    return dp24(arrays, meta, pool={"kind": "max", "winners": "plus"})


def dp23(arrays: Arrays, meta: dict[str, Any]) -> Found:
    model = chain(arrays, pool2="max", pool3="max")
    labels = arrays["labels"]
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.5, beta=2.0 / len(labels), nudge="prediction"),
        loss="cross_entropy",
        schedule=ns.schedules.Sweep("backward", 1),
        init="feedforward",
        plasticity=ns.Plasticity.of("contrastive_hebbian", presynaptic="activation"),
    )
    x, y = tensor(arrays["x"]), one_hot(labels, 7)
    simulation.infer(x, y)
    gradients = simulation.gradients()
    yield "gradients", worst(gradients, arrays, 5)
    learned = [k for k in range(2, 6) if f"grad_{feedback_key(arrays, k)}" in arrays]
    for k in learned:
        wanted = arrays[f"grad_{feedback_key(arrays, k)}"]
        yield f"gradient of feedback {k}", difference(gradients[f"p{k}.feedback"], wanted)
    loss = simulation.loss.mean(simulation.predict(x), y)
    yield "loss", difference(loss, arrays["loss"])


# ---- energy-based learning -----------------------------------------------------------------------


def ebl(arrays: Arrays, meta: dict[str, Any]) -> Found:
    depth = sum(key.startswith("bias_") for key in arrays)
    model = chain(arrays, "hard_sigmoid", **pooled(arrays))
    beta, free, nudged = (
        arrays[key].item() for key in ("nudging", "free_iterations", "nudged_iterations")
    )
    x, y = tensor(arrays["x"]), one_hot(arrays["labels"], 7)
    free_runs, synchronous = free // nudged, "synchronous" in meta["file"]

    def simulation(rule: ns.Rule) -> ns.Simulation:
        return ns.Simulation(
            model,
            rule=rule,
            loss="squared_error",
            schedule=ns.schedules.Parallel(ticks=nudged)
            if synchronous
            else ns.schedules.Sweep("odd_even", nudged),
            init="zero",
        )

    def contrast(rule: ns.Rule, target: Tensor = y) -> dict[str, Tensor]:
        made = simulation(rule)
        made.infer(x, target)
        return made.gradients()

    def mixed(*parts: tuple[float, dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: sum(share * part[name] for share, part in parts) for name in parts[0][1]}

    clamped = ns.ContrastiveHebbian(discount=1.0, free=free_runs)

    def nudged_by(variant: Any) -> dict[str, Tensor]:
        return contrast(ns.EquilibriumPropagation(beta=beta, variant=variant, free=free_runs))

    match meta["file"].split("_")[-1]:
        case "cep":
            found = nudged_by("centered")
        case "nep":  # one-sided with −β
            found = mixed((2.0, nudged_by("centered")), (-1.0, nudged_by("one_sided")))
        case "cl":
            found = contrast(clamped)
        case kind:  # clamped to a point between the free output and the target
            settled = tensor(arrays[f"free_{depth}"])
            sides = {"pcpl": (1.0,), "ccpl": (1.0, -1.0)}[kind]
            found = mixed(
                *(
                    (
                        side / len(sides) / beta,
                        contrast(clamped, settled - side * beta * (settled - y)),
                    )
                    for side in sides
                )
            )
    yield "gradients", worst(found, arrays, depth)
    settled = simulation(ns.EquilibriumPropagation(free=free_runs)).infer(x)
    yield "free states", states(settled.plus, arrays, "free", range(1, depth + 1))


def hep(arrays: Arrays, meta: dict[str, Any]) -> Found:
    depth = len(arrays["sizes"]) - 1
    model = chain(arrays, "tanh")
    x, y = tensor(arrays["x"]), tensor(arrays["y"])

    def simulation(rule: ns.Rule) -> ns.Simulation:
        schedule = ns.schedules.Sweep("odd_even", 60)
        return ns.Simulation(model, rule=rule, loss="cross_entropy", schedule=schedule, init="zero")

    settled = simulation(ns.EquilibriumPropagation(readout="static")).infer(x)
    yield "free states", states(settled.plus, arrays, "free", range(1, depth))
    yield "logits", difference(settled.prediction, arrays["logits"])
    begun = ns.Simulation(
        model,
        rule=ns.EquilibriumPropagation(readout="static", free=1),
        loss="cross_entropy",
        schedule=ns.schedules.Parallel(ticks=7),
        init="zero",
    ).infer(x)
    yield "states after 7 steps", states(begun.plus, arrays, "free7", range(1, depth))
    marks = {key.split("_weight")[0] for key in arrays if key[0] == "N" and "_weight" in key}
    for key in sorted(marks):
        points, beta = int(key.split("_")[0][1:]), float(key.split("_b")[1])
        nudged = simulation(
            ns.EquilibriumPropagation(beta=beta, variant="one_sided", readout="static")
            if points == 1
            else ns.HolomorphicEP(beta=beta, points=points)
        )
        nudged.infer(x, y)
        yield (
            f"gradients, N = {points}, β = {beta:g}",
            worst(nudged.gradients(), arrays, depth, f"{key}_"),
        )


def lpom(arrays: Arrays, meta: dict[str, Any]) -> Found:
    # Their output a − 2β(a − y) is (a + by)/(1 + b) with b/(1 + b) = 2β.
    beta = 2.0 * arrays["beta"].item()
    simulation = ns.Simulation(
        chain(arrays),
        rule=ns.LPOM(beta=beta / (1.0 - beta)),
        loss="squared_error",
        schedule=ns.schedules.Sweep("forward", 150),
        init="feedforward",
    )
    outcome = simulation.infer(tensor(arrays["x"]), tensor(arrays["y"]))
    layers = range(1, len(arrays["dense"]) + 1)
    yield "s", states(outcome.plus, arrays, "s", layers)
    yield "f(a)", states(outcome.minus, arrays, "fa", layers)


def dtp(arrays: Arrays, meta: dict[str, Any]) -> Found:
    model = chain(arrays, meta["file"].split("_")[2], **pooled(arrays))
    depth, steps, beta = (len(arrays["rates"]) + 1, *(arrays[k].item() for k in ("steps", "beta")))
    learning = range(2, depth + 1)
    named = {
        option: {f"p{k}": float(value) for k, value in zip(learning, arrays[key], strict=True)}
        for option, key in (("std", "stds"), ("rate", "rates"))
    }
    rule = ns.DifferenceTargetPropagation(
        beta=beta,
        jacobian=ns.LocalJacobian(steps=steps, momentum=arrays["momentum"].item(), **named),
    )
    schedule = ns.schedules.Sweep("backward", 1)
    simulation = ns.Simulation(model, rule=rule, loss="cross_entropy", schedule=schedule)
    x, y = tensor(arrays["x"]), one_hot(arrays["labels"], 7)
    simulation.infer(x, y)

    def drawn(seed: int, what: str, name: str, *moment: str) -> SimpleNamespace:
        kinds = ("epsilon", "eta")
        noise = iter([arrays[f"{e}_{name[1:]}_{j}"] for j in range(steps) for e in kinds])
        return SimpleNamespace(standard_normal=lambda shape: next(noise))

    with patch.object(feedback, "stream", drawn):
        feedback.learn_feedback(simulation.state, rule, Counts(), 0)
    learned = {f"p{k}": model.feedback(f"p{k}") for k in learning}
    yield "feedback weights", states(learned, arrays, "feedback_after", learning)
    simulation.infer(x, y)
    gradients = {name: beta * value for name, value in simulation.gradients().items()}
    yield "gradients, times β", worst(gradients, arrays, depth)


# ---- learning ------------------------------------------------------------------------------------


def learning_rates(arrays: Arrays, meta: dict[str, Any]) -> Found:
    cosine = ns.LearningRate.family["cosine"]
    published = {
        "dp24": cosine(10, 1e-3, 2e-6, end_epoch=120.0),
        "dp23": cosine(10, 5e-3, 0.0),
        "dp23_kp": cosine(15, 1e-4, 0.0),
    }
    for name, rate in published.items():
        ours = [rate.at(int(step), 0.025, 450, 130) for step in arrays["steps"]]
        yield f"rates of {name}", difference(tensor(ours), arrays[name])


def training(arrays: Arrays, meta: dict[str, Any]) -> Found:
    layers = [{"conv": size} | ({"pool": "max"} if pooled else {}) for size, pooled in meta["conv"]]
    layers += [{"dense": width} for width in meta["dense"]]
    layers = [layer | {"name": name} for layer, name in zip(layers, meta["names"], strict=True)]
    x = tensor(arrays["x_times_16"]) / 16.0
    network = ns.Network.from_dict({"input": list(x.shape[2:]), "layers": layers})
    model = ns.Model(network, dtype=torch.float64)
    model.load_state_dict(
        {key.removeprefix("init_"): tensor(arrays[key]) for key in arrays if key[:5] == "init_"}
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.025, momentum=0.9, weight_decay=5e-4)
    rate = ns.LearningRate.family["cosine"](1, 1e-3, 2e-6)
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(**meta["rule"]),
        loss="cross_entropy",
        schedule=ns.schedules.Sweep(meta["order"], meta["passes"]),
        init="feedforward",
    )
    loss = []
    for step, (images, labels) in enumerate(zip(x, arrays["labels"], strict=True)):
        optimizer.param_groups[0]["lr"] = rate.at(step, 0.025, len(x) // 2, 2)
        y = one_hot(labels, 10)
        with torch.no_grad():
            loss.append(float(simulation.loss.mean(simulation.predict(images), y)))
        simulation.infer(images, y)
        simulation.learn(optimizer)
    yield "losses of 56 steps", difference(tensor(loss), arrays["loss_theirs"])
