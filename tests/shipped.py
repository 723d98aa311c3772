"""The shipped scenarios: those that anyone can run, and those that need data from elsewhere."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))
DIGITS = [path for path in SCENARIOS if "data: {name: digits" in path.read_text()]
MNIST = [path for path in SCENARIOS if "data: {name: mnist" in path.read_text()]
CIFAR10 = [path for path in SCENARIOS if "data: {name: cifar10" in path.read_text()]
