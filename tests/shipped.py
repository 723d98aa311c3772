"""The shipped scenarios, those that anyone can run and those that need data from elsewhere, and the
shipped networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import neurosim as ns

ROOT = Path(__file__).parents[1]
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))
DIGITS = [path for path in SCENARIOS if "data: {name: digits" in path.read_text()]
MNIST = [path for path in SCENARIOS if "data: {name: mnist" in path.read_text()]
STREAMS = [path for path in SCENARIOS if "defaults: stream_digits.yaml" in path.read_text()]
CIFAR10 = [path for path in SCENARIOS if "data: {name: cifar10" in path.read_text()]


def description(root: Path, name: str) -> dict[str, Any]:
    found = yaml.safe_load((root / f"networks/{name}.yaml").read_text())
    assert isinstance(found, dict)
    return found


def narrow_description(root: Path, name: str, by: int) -> dict[str, Any]:
    """A fraction of the conv channels and dense dyads."""
    value = description(root, name)
    for layer in value.get("layers", ())[:-1]:
        for kind in layer.keys() & {"conv", "dense"}:
            layer[kind] //= by
    for population in value.get("populations", {}).values():
        if population.get("role", "hidden") == "hidden":
            population["shape"][0] //= by
    return value


def narrow(root: Path, name: str, by: int) -> ns.Network:
    return ns.Network.from_dict(narrow_description(root, name, by))
