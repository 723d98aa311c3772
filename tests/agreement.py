"""Compares neurosim with vectors that other people's code has made: the worst difference of each.

    python -m tests.agreement FOLDER [FOLDER ...] > docs/results/agreement.md

Each file is compared by the function below whose peer its name begins with. What the vectors are,
and how they were made, stands there in a sentence. A difference is relative to the largest value of
its array, or to 1.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import neurosim as ns

Arrays = Mapping[str, Any]
Found = Iterator[tuple[str, float]]  # what was compared, and the worst difference

ORDERS = {
    "fwK": "forward",
    "bwK": "backward",
    "fwbwK": "forward_backward",
    "oddeven": "odd_even",
    "evenodd": "even_odd",
}


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the arrays of a file, and its ``meta`` if it has one."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(bytes(arrays.pop("meta"))) if "meta" in arrays else {}
    return arrays, meta


def tensor(array: Any) -> Tensor:
    return torch.tensor(np.asarray(array), dtype=torch.float64)


def difference(actual: Tensor, expected: Any) -> float:
    """Returns the largest difference, relative to the largest value or 1."""
    wanted = torch.tensor(np.asarray(expected))
    assert actual.shape == wanted.shape
    return float((actual.detach() - wanted).abs().max() / max(1.0, float(wanted.abs().max())))


def built(network: ns.Network, arrays: Arrays) -> ns.Model:
    """Returns a model in float64 with the weights ``weight_k`` and ``bias_k``."""
    model = ns.Model(network, dtype=torch.float64)
    values = {}
    for k, projection in enumerate([p for p in network.projections if p.operator.weight_shape], 1):
        for kind in ("weight", "bias"):
            values[f"{projection.name}.{kind}"] = tensor(arrays[f"{kind}_{k}"])
    model.load_state_dict(values, strict=False)
    return model


def one_hot(labels: Any, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(np.asarray(labels)).long(), classes).double()


# ---- dual propagation ----------------------------------------------------------------------------


def dp24(arrays: Arrays, meta: dict[str, Any], **pooling: Any) -> Found:
    """Rasmuskh/dualprop_icml_2024 (Høier & Zach, ICML 2024): `infer_states_train`, `get_J`."""
    layers: list[dict[str, Any]] = []
    for channels, pooled in zip(meta["features"], meta["max_pool"], strict=True):
        layers.append({"conv": channels} | ({"pool": {"kind": "max", **pooling}} if pooled else {}))
    layers += [{"dense": width} for width in meta["dense"]]
    activation = meta.get("activation", "relu")
    for k, layer in enumerate(layers, 1):
        layer |= {"name": f"p{k}"} | ({"activation": activation} if k < len(layers) else {})
    network = ns.Network.from_dict({"input": list(arrays["plus_0"].shape[1:]), "layers": layers})
    model = built(network, arrays)
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
        schedule=ns.schedules.Sweep(ORDERS[meta["sequence"]], meta["passes"]),
        init="feedforward",
    )
    outcome = simulation.infer(tensor(arrays["plus_0"]), tensor(arrays["y"]))
    gradients = simulation.gradients()
    layers_of = range(1, len(layers) + 1)
    for side in ("plus", "minus"):
        states = getattr(outcome, side)
        yield (
            f"s {side}",
            max(difference(states[f"p{k}"], arrays[f"{side}_{k}"]) for k in layers_of),
        )
    yield (
        "gradients",
        max(
            difference(gradients[f"p{k}.{kind}"] * factor, arrays[f"grad_{kind}_{k}"])
            for k in layers_of
            for kind in ("weight", "bias")
        ),
    )
    if "objective" in arrays and factor == 1.0:
        yield "objective", abs(simulation.objective() - float(arrays["objective"]))


def dp23(arrays: Arrays, meta: dict[str, Any]) -> Found:
    """Rasmuskh/Dual-Propagation (Høier, Staudt & Zach, ICML 2023): pooling after the activation."""
    pool = {"pool": "max"}
    layers: list[dict[str, Any]] = [
        *({"conv": 6, "name": "p1"}, {"conv": 8, "name": "p2"}, pool | {"name": "pool2"}),
        *({"conv": 8, "name": "p3"}, pool | {"name": "pool3"}),
        *({"dense": 12, "name": "p4"}, {"dense": 7, "name": "p5"}),
    ]
    network = ns.Network.from_dict({"input": list(arrays["x"].shape[1:]), "layers": layers})
    model = built(network, arrays)
    labels = arrays["labels"]
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.5, beta=2.0 / len(labels), nudge="prediction"),
        loss="cross_entropy",
        schedule=ns.schedules.Sweep("backward", 1),
        init="feedforward",
    )
    simulation.infer(tensor(arrays["x"]), one_hot(labels, 7))
    gradients = simulation.gradients()
    for k in range(1, 6):
        for kind in ("weight", "bias"):
            name = f"grad_{kind}_{k}"
            yield name, difference(gradients[f"p{k}.{kind}"], arrays[name])


# ---- energy-based learning -----------------------------------------------------------------------


def ebl(arrays: Arrays, meta: dict[str, Any]) -> Found:
    """rain-neuromorphics/energy-based-learning: `EquilibriumProp`, `ContrastiveLearning`."""
    depth = sum(key.startswith("bias_") for key in arrays)
    layers: list[dict[str, Any]] = []
    for k in range(1, depth + 1):
        weight = arrays[f"weight_{k}"]
        layer = {"conv": len(weight), "pool": "max"} if weight.ndim == 4 else {"dense": len(weight)}
        layers.append(layer | {"name": f"p{k}", "activation": "hard_sigmoid"})
    layers[-1]["activation"] = "identity"
    network = ns.Network.from_dict({"input": list(arrays["x"].shape[1:]), "layers": layers})
    model = built(network, arrays)
    beta, free, nudged = (
        arrays[key].item() for key in ("nudging", "free_iterations", "nudged_iterations")
    )
    x, y = tensor(arrays["x"]), one_hot(arrays["labels"], 7)

    def contrast(rule: ns.Rule, target: Tensor = y) -> dict[str, Tensor]:
        schedule = (
            ns.schedules.Parallel(ticks=nudged)
            if meta.get("synchronous")
            else ns.schedules.Sweep("odd_even", nudged)
        )
        simulation = ns.Simulation(
            model, rule=rule, loss="squared_error", schedule=schedule, init="zero"
        )
        simulation.infer(x, target)
        return simulation.gradients()

    free_runs = free // nudged
    match meta["algorithm"]:
        case "cep":
            found = contrast(ns.EquilibriumPropagation(beta=beta, free=free_runs))
        case "nep":  # one-sided with -beta
            both = contrast(ns.EquilibriumPropagation(beta=beta, free=free_runs))
            one = contrast(
                ns.EquilibriumPropagation(beta=beta, variant="one_sided", free=free_runs)
            )
            found = {name: 2.0 * both[name] - one[name] for name in both}
        case "cl":
            found = contrast(ns.ContrastiveHebbian(discount=1.0, free=free_runs))
        case _:  # clamped to a point between the free output and the target
            sides = {"pcpl": (1.0,), "ccpl": (1.0, -1.0)}[meta["algorithm"]]
            settled = tensor(arrays[f"free_{depth}"])
            parts = []
            for side in sides:
                target = settled - side * beta * (settled - y)
                parts.append(contrast(ns.ContrastiveHebbian(discount=1.0, free=free_runs), target))
            found = {
                name: sum(side * part[name] for side, part in zip(sides, parts, strict=True))
                / (len(sides) * beta)
                for name in parts[0]
            }
    for kind in ("weight", "bias"):
        yield (
            f"gradients of {kind}",
            max(
                difference(found[f"p{k}.{kind}"], arrays[f"grad_{kind}_{k}"])
                for k in range(1, depth + 1)
            ),
        )


# ---- holomorphic equilibrium propagation ---------------------------------------------------------


def hep(arrays: Arrays, meta: dict[str, Any]) -> Found:
    """Laborieux-Axel/holomorphic_eqprop: `xp_mlp` with tanh, in complex numbers."""
    depth = len(arrays["sizes"]) - 1
    layers: list[dict[str, Any]] = [
        {"dense": int(size), "name": f"p{k}", "activation": "tanh"}
        for k, size in enumerate(arrays["sizes"][1:], 1)
    ]
    layers[-1]["activation"] = "identity"
    network = ns.Network.from_dict({"input": [int(arrays["sizes"][0])], "layers": layers})
    model = built(network, arrays)
    x, y = tensor(arrays["x"]), tensor(arrays["y"])

    def simulation(rule: ns.Rule, schedule: ns.Schedule | None = None) -> ns.Simulation:
        return ns.Simulation(
            model,
            rule=rule,
            loss="cross_entropy",
            schedule=schedule or ns.schedules.Sweep("odd_even", 60),
            init="zero",
        )

    settled = simulation(ns.EquilibriumPropagation(readout="static")).infer(x)
    hidden = range(1, depth)
    yield "free states", max(difference(settled.plus[f"p{k}"], arrays[f"free_{k}"]) for k in hidden)
    yield "logits", difference(settled.prediction, arrays["logits"])
    for key in sorted(
        {
            key.removesuffix("_weight_1")
            for key in arrays
            if key[0] == "N" and key.endswith("_weight_1")
        }
    ):
        points, beta = int(key.split("_")[0][1:]), float(key.split("_b")[1])
        rule: ns.Rule = (
            ns.EquilibriumPropagation(beta=beta, variant="one_sided", readout="static")
            if points == 1
            else ns.HolomorphicEP(beta=beta, points=points)
        )
        nudged = simulation(rule)
        nudged.infer(x, y)
        found = nudged.gradients()
        names = [(k, kind) for k in range(1, depth + 1) for kind in ("weight", "bias")]
        yield (
            f"gradients of N = {points}, β = {beta:g}",
            max(
                difference(found[f"p{k}.{kind}"], arrays[f"{key}_{kind}_{k}"]) for k, kind in names
            ),
        )


def lpom(arrays: Arrays, meta: dict[str, Any]) -> Found:
    """`cnn_LPOM_ff` of Rasmuskh/dualprop_icml_2024, which stands there commented out."""
    depth = len(arrays["dense"])
    layers: list[dict[str, Any]] = [
        {"dense": int(size), "name": f"p{k}"} for k, size in enumerate(arrays["dense"], 1)
    ]
    network = ns.Network.from_dict({"input": [arrays["x"].shape[1]], "layers": layers})
    model = built(network, arrays)
    # Their output a − 2β(a − y) is (a + by)/(1 + b) with b/(1 + b) = 2β.
    beta = 2.0 * arrays["beta"].item()
    simulation = ns.Simulation(
        model,
        rule=ns.LPOM(beta=beta / (1.0 - beta)),
        loss="squared_error",
        schedule=ns.schedules.Sweep("forward", 150),
        init="feedforward",
    )
    outcome = simulation.infer(tensor(arrays["x"]), tensor(arrays["y"]))
    for side, key in (("plus", "s"), ("minus", "fa")):
        states = getattr(outcome, side)
        yield (
            f"s {side}",
            max(difference(states[f"p{k}"], arrays[f"{key}_{k}"]) for k in range(1, depth + 1)),
        )


# ---- learning ------------------------------------------------------------------------------------


def learning_rates(arrays: Arrays, meta: dict[str, Any]) -> Found:
    """optax 0.1.7, `warmup_cosine_decay_schedule`, as the two repositories of Rasmuskh call it."""
    per_epoch, epochs = 450, 130
    cosine = ns.LearningRate.family["cosine"]
    published = {
        "dp24": cosine(10, 1e-3, 2e-6),
        "dp23": cosine(10, 5e-3, 0.0),
        "dp23_kp": cosine(15, 1e-4, 0.0),
    }
    for name, rate in published.items():
        ours = [rate.at(int(step), 0.025, per_epoch, epochs) for step in arrays["steps"]]
        yield f"{name}, of the peak", difference(tensor(ours) / 0.025, arrays[name] / 0.025)


def training(arrays: Arrays, meta: dict[str, Any]) -> Found:
    """Rasmuskh/dualprop_icml_2024: `create_train_state` and `train_step`, without augmentation."""
    layers: list[dict[str, Any]] = [
        {"conv": channels} | ({"pool": "max"} if pooled else {})
        for channels, pooled in meta["conv"]
    ]
    layers += [{"dense": width} for width in meta["dense"]]
    layers = [layer | {"name": name} for layer, name in zip(layers, meta["names"], strict=True)]
    x = tensor(arrays["x_times_16"]) / 16.0
    network = ns.Network.from_dict({"input": list(x.shape[2:]), "layers": layers})
    model = ns.Model(network, dtype=torch.float64)
    model.load_state_dict(
        {key.removeprefix("init_"): tensor(v) for key, v in arrays.items() if key[:5] == "init_"}
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
        outcome = simulation.infer(images, y)
        loss.append(float(simulation.loss.mean(outcome.prediction, y)))
        simulation.learn(optimizer)
    yield "loss", difference(tensor(loss), arrays["loss_theirs"])
