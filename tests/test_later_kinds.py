"""A kind that a later file or an override says leaves out what only the kind before had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import neurosim as ns

BELOW = """\
name: below
network:
  input: [1, 8, 8]
  layers: [{dense: 5, activation: {kind: leaky_relu, slope: 0.1}}, {dense: 10}]
data: {name: digits}
loss: {kind: cross_entropy, weights: [1, 1, 1, 1, 1, 1, 1, 1, 1, 2]}
schedule: {kind: parallel, ticks: 4}
channels: {mean: {delay: {kind: uniform, low: 0.0, high: 2.0}}}
"""


@pytest.fixture(name="below")
def _below(tmp_path: Path) -> Path:
    path = tmp_path / "below.yaml"
    path.write_text(BELOW)
    return path


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        (["loss.kind=squared_error"], r"^loss.kind=squared_error leaves out 'weights'"),
        (
            ["network.layers[0].activation.kind=tanh"],
            r"^network.layers\[0\].activation.kind=tanh leaves out 'slope'",
        ),
        (
            ["channels.mean.delay.kind=exponential", "channels.mean.delay.scale=1.0"],
            r"^channels.mean.delay.kind=exponential leaves out 'low'",
        ),
    ],
)
def test_of_a_kind_that_has_a_short_form(below: Path, changes: list[str], gone: str) -> None:
    with pytest.warns(ns.NeurosimWarning, match=gone):
        ns.Scenario.load(below, changes)


def test_a_key_that_is_wrong_in_two_ways(tmp_path: Path) -> None:
    """The padding of a grouped convolution is a number or two."""
    path = tmp_path / "conv.yaml"
    layers = "[{op: conv, shape: [4, 6, 6], padding: valid}, {dense: 10}]"
    path.write_text(BELOW.replace(BELOW[BELOW.index("[{dense") : BELOW.index("\ndata")], layers))
    with pytest.warns(ns.NeurosimWarning, match="leaves out 'padding'"):
        scenario = ns.Scenario.load(path, ["network.layers[0].op=grouped_conv"])
    assert "grouped_conv" in str(scenario.network.projections[0].operator.kind)


@pytest.mark.parametrize(
    ("one", "other"), [("name", "kind"), ("kind", "name"), ("kind", "kind"), ("name", "name")]
)
def test_the_data_of_the_later_file(below: Path, one: str, other: str) -> None:
    below.write_text(BELOW.replace("data: {name:", f"data: {{{one}:"))
    above = below.with_name("above.yaml")
    above.write_text(f"defaults: below.yaml\nname: above\ndata: {{{other}: xor}}\n")
    with pytest.raises(ns.DocumentError, match=f"above.yaml:3:.* data: unknown {other} 'xor'"):
        ns.Scenario.load(above)
    above.write_text(f"defaults: below.yaml\nname: above\ndata: {{{other}: wine}}\n")
    assert ns.Scenario.load(above).file.data.kind == "wine"


def test_an_objective_that_no_activation_says() -> None:
    """All else is measured."""
    network = ns.Network.from_dict({"input": 3, "activation": "silu", "layers": [{"dense": 4}] * 2})
    simulation = ns.Simulation(ns.Model(network), schedule=ns.schedules.Parallel(6))
    found = ns.measure_convergence(simulation, torch.rand(2, 3), torch.eye(4)[:2])
    assert all(record["objective_alpha"] is None for record in found.records)
    assert all(record["residual_mean"] is not None for record in found.records)


@pytest.mark.parametrize("how", ["file", "override"])
def test_a_slip_is_no_value_of_the_kind_before(below: Path, how: str) -> None:
    """What no kind takes is reported, though the kind above it is another one now."""
    below.write_text(BELOW.replace("name: digits}", "name: digits, batch_size: 2O}"))
    above = below.with_name("above.yaml")
    above.write_text("defaults: below.yaml\nname: above\ndata: {name: wine}\n")
    said = r"below.yaml:5:\d+: data.batch_size: expected a whole number, got '2O'"
    path, changes = (above, []) if how == "file" else (below, ["data.name=wine"])
    with pytest.raises(ns.DocumentError, match=said):
        ns.Scenario.load(path, changes)
