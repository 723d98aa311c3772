"""The reference vectors of arXiv 2402.08573, through the public interface, to 1e-12 in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosim as ns

FILES = sorted((Path(__file__).parent / "data").glob("*.npz"))
ORDERS = {
    "fwK": "forward",
    "bwK": "backward",
    "fwbwK": "forward_backward",
    "oddeven": "odd_even",
    "evenodd": "even_odd",
}
TOLERANCE = 1e-12


def build(arrays: Any, meta: dict[str, Any]) -> tuple[ns.Network, ns.Model]:
    shape = meta["input_shape"]
    layers: list[dict[str, Any]] = []
    for channels, pooled in zip(meta["features"], meta["max_pool"], strict=True):
        layers.append({"conv": channels} | ({"pool": "max"} if pooled else {}))
    layers += [{"dense": width} for width in meta["dense"]]
    for k, layer in enumerate(layers, 1):
        layer["name"] = f"p{k}"
    network = ns.Network.from_dict({"input": shape, "layers": layers})
    model = ns.Model(network, dtype=torch.float64)
    values = {}
    for k in range(1, len(layers) + 1):
        values[f"p{k}.weight"] = torch.from_numpy(arrays[f"weight_{k}"])
        values[f"p{k}.bias"] = torch.from_numpy(arrays[f"bias_{k}"])
    model.load_state_dict(values)
    return network, model


def close(actual: torch.Tensor, expected: Any) -> float:
    expected = torch.from_numpy(np.asarray(expected))
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("compute", ["auto", "dense"])
@pytest.mark.parametrize("processes", ["population", "neuron"])
@pytest.mark.parametrize("unit", ["population", "neuron"])
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden(path: Path, unit: Any, processes: Any, compute: Any) -> None:
    arrays = np.load(path, allow_pickle=False)
    meta = json.loads(bytes(arrays["meta"]))
    network, model = build(arrays, meta)
    depth = len(network.projections)
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(
            alpha=meta["alpha"],
            beta=meta["beta"],
            variant=meta["variant"],
            nudge="prediction" if meta["variant"] == "lagrangian" else "potential",
        ),
        loss="cross_entropy",
        schedule=ns.schedules.Sweep(ORDERS[meta["sequence"]], meta["passes"], unit=unit),
        init="feedforward",
        processes=processes,
        compute=compute,
    )
    outcome = simulation.infer(torch.from_numpy(arrays["plus_0"]), torch.from_numpy(arrays["y"]))
    gradients = simulation.gradients()
    for k in range(1, depth + 1):
        assert close(outcome.plus[f"p{k}"], arrays[f"plus_{k}"]) <= TOLERANCE
        assert close(outcome.minus[f"p{k}"], arrays[f"minus_{k}"]) <= TOLERANCE
        assert close(gradients[f"p{k}.weight"], arrays[f"grad_weight_{k}"]) <= TOLERANCE
        assert close(gradients[f"p{k}.bias"], arrays[f"grad_bias_{k}"]) <= TOLERANCE
    assert abs(simulation.objective() - float(arrays["objective"])) <= TOLERANCE


def test_there_are_golden_files() -> None:
    assert len(FILES) >= 14
