"""What a network file must not say, and how that is told: both ends, and the place in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import neurosim as ns

HEAD = """\
populations:
  image: {shape: [1, 6, 6], role: input}
  h1: {shape: [4, 6, 6]}
  out: {shape: [3], role: output}
projections:
  - {from: image, to: h1, op: conv}
"""


def graph(**changes: Any) -> dict[str, Any]:
    """A graph that is right but for the changes, of populations by name or of ``projections``."""
    populations: dict[str, Any] = {
        "image": {"shape": [1, 6, 6], "role": "input"},
        "h1": {"shape": [4, 6, 6]},
        "out": {"shape": [3], "role": "output"},
    }
    projections = changes.pop("projections", None)
    for name, spec in changes.items():
        populations[name] = populations.get(name, {}) | spec
    if projections is None:
        projections = [
            {"from": "image", "to": "h1", "op": "conv"},
            {"from": "h1", "to": "out", "op": "dense"},
        ]
    return {"populations": populations, "projections": projections}


def chain(*layers: dict[str, Any], shape: Any = (1, 6, 6)) -> dict[str, Any]:
    size = shape if isinstance(shape, int) else list(shape)
    return {"input": size, "layers": [*layers, {"name": "out", "dense": 3}]}


def edges(*first: dict[str, Any]) -> list[dict[str, Any]]:
    return [*first, {"from": "h1", "to": "out", "op": "dense"}]


CONV = {"from": "image", "to": "h1", "op": "conv"}
BOTH_ENDS = "'image->h1' from 'image' [1, 6, 6] to 'h1' [4, 6, 6]"

REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "conv makes another shape": (
        graph(projections=edges(CONV | {"padding": "valid"})),
        [BOTH_ENDS, "conv makes [4, 4, 4]"],
    ),
    "conv into a flat population": (
        graph(h1={"shape": 4}),
        ["'image->h1' from 'image' [1, 6, 6] to 'h1' [4]", "[4, 6, 6]"],
    ),
    "conv from a flat population": (
        graph(image={"shape": 36}),
        ["'image->h1' from 'image' [36] to 'h1' [4, 6, 6]", "needs an input of shape [C, H, W]"],
    ),
    "identity between other shapes": (
        graph(projections=edges({"from": "image", "to": "h1", "op": "identity"})),
        [BOTH_ENDS, "identity makes [1, 6, 6]"],
    ),
    "pool makes another shape": (
        graph(projections=edges({"from": "image", "to": "h1", "op": "pool", "pool": "max"})),
        [BOTH_ENDS, "pool makes [1, 3, 3]"],
    ),
    "even kernel with same padding": (
        graph(projections=edges(CONV | {"kernel": [3, 4]})),
        [BOTH_ENDS, "padding 'same' needs an odd kernel, not [3, 4]"],
    ),
    "pool too large": (
        graph(projections=edges(CONV | {"pool": {"kind": "max", "kernel": 7}})),
        [BOTH_ENDS, "pool kernel [7, 7] does not fit the input [4, 6, 6]"],
    ),
    "pool padding too large": (
        graph(projections=edges(CONV | {"pool": {"kind": "max", "kernel": 2, "padding": 2}})),
        [BOTH_ENDS, "pool padding [2, 2] is over half of the kernel [2, 2]"],
    ),
    "winners of an average": (
        graph(projections=edges(CONV | {"pool": {"kind": "avg", "winners": "plus"}})),
        ["projections[0].pool", "winners is 'plus'", "'avg' has no winners", "pool by max"],
    ),
    "gain of a maximum": (
        graph(projections=edges(CONV | {"pool": {"kind": "max", "gain": 2.0}})),
        ["projections[0].pool", "gain is 2.0", "'max' has none", "pool by softmax"],
    ),
    "winners of a softmax": (
        graph(projections=edges(CONV | {"pool": {"kind": "softmax", "winners": "plus"}})),
        ["projections[0].pool", "winners is 'plus'", "'softmax' has no winners", "pool by max"],
    ),
    "winners of another state": (
        graph(projections=edges(CONV | {"pool": {"kind": "max", "winners": "minus"}})),
        ["projections[0].pool", "winners", "'minus'", "'mean' or 'plus'"],
    ),
    "kernel too large": (
        graph(projections=edges(CONV | {"kernel": 7, "padding": "valid"})),
        [BOTH_ENDS, "conv kernel [7, 7] does not fit the input [1, 6, 6] with padding [0, 0]"],
    ),
    "chain: even kernel": (
        chain({"name": "h1", "conv": 4, "kernel": 2}),
        ["layers[0]", "from 'image'".replace("image", "input"), "to 'h1'", "odd kernel"],
    ),
    "chain: pool too large": (
        chain({"name": "h1", "conv": 4}, {"name": "h2", "pool": {"kind": "avg", "kernel": 8}}),
        ["layers[1]", "from 'h1' [4, 6, 6] to 'h2'", "pool kernel [8, 8] does not fit"],
    ),
    "chain: conv after dense": (
        chain({"name": "h1", "dense": 4}, {"name": "h2", "conv": 4}),
        ["layers[1]", "from 'h1' [4] to 'h2'", "needs an input of shape [C, H, W]"],
    ),
    "unknown population": (
        graph(projections=edges(CONV | {"from": "imgae"})),
        ["projections[0].from", "unknown population 'imgae'; did you mean 'image'?"],
    ),
    "unknown population with nothing like it": (
        graph(projections=edges(CONV | {"from": "zzz"})),
        ["projections[0].from", "unknown population 'zzz'; it is one of image, h1, out"],
    ),
    "two outputs": (
        graph(out2={"shape": 2, "role": "output"}),
        ["exactly one population of role output, not 'out', 'out2'"],
    ),
    "no output": (
        graph(out={"role": "hidden"}),
        ["exactly one population of role output, not none"],
    ),
    "two inputs": (
        graph(x={"shape": 2, "role": "input"}),
        ["exactly one population of role input, not 'image', 'x'"],
    ),
    "no input": (graph(image={"role": "hidden"}), ["exactly one population of role input"]),
    "input with an activation": (
        graph(image={"activation": "relu"}),
        ["populations.image", "input population 'image' has activation 'relu'"],
    ),
    "chain: a softmax below the output": (
        {"input": 2, "layers": [{"dense": 3, "activation": "softmax"}, {"dense": 3}]},
        ["layers[0]", "hidden population 'layer1' has activation 'softmax'"],
    ),
    "input with a bias": (
        graph(image={"bias": True}),
        ["populations.image", "input population 'image' cannot have a bias"],
    ),
    "projection into the input": (
        graph(projections=[*edges(CONV), {"from": "h1", "to": "image", "op": "dense"}]),
        ["'h1->image' from 'h1' [4, 6, 6] to 'image' [1, 6, 6]", "input cannot receive"],
    ),
    "population that nothing reaches": (
        graph(h2={"shape": 2}),
        ["no projection reaches the population 'h2'"],
    ),
    "output that cannot be reached": (
        graph(
            h2={"shape": 2},
            projections=[CONV, {"from": "h2", "to": "h2"}, {"from": "h2", "to": "out"}],
        ),
        ["there is no path from 'image' to 'out'"],
    ),
    "two projections of one name": (
        graph(projections=[CONV, *edges(CONV)]),
        ["two projections are named 'image->h1'", "parallel projections"],
    ),
    "two layers of one name": (
        chain({"name": "h1", "dense": 4}, {"name": "h1", "dense": 4}),
        ["two populations are named 'h1'"],
    ),
    "a layer named input": (
        chain({"name": "input", "dense": 4}),
        ["two populations are named 'input'"],
    ),
    "shape of two sizes": (
        graph(h1={"shape": [4, 6]}),
        ["populations.h1", "shape [4, 6] must be [N] or [C, H, W]"],
    ),
    "chain: shape of two sizes": (chain(shape=(6, 6)), ["input", "shape [6, 6] must be"]),
    "empty population": (graph(h1={"shape": [0, 6, 6]}), ["populations.h1.shape[0]", "at least 1"]),
    "both dense and conv": (chain({"dense": 2, "conv": 2}), ["layers[0]", "one of them"]),
    "neither": (chain({"name": "h1"}), ["layers[0]", "needs one of 'dense', 'conv' or 'pool'"]),
    "dense with pool": (chain({"dense": 2, "pool": "max"}), ["layers[0]", "dense layer cannot"]),
    "dense with kernel": (chain({"dense": 2, "kernel": 3}), ["layers[0]", "'kernel' belongs to"]),
    "graph: dense with stride": (
        graph(projections=edges(CONV | {"op": "dense", "stride": 2})),
        ["projections[0]", "'stride' belongs to 'op: conv'"],
    ),
    "graph: identity with pool": (
        graph(projections=edges(CONV | {"op": "identity", "pool": "max"})),
        ["projections[0]", "'pool' belongs to 'op: conv' or 'op: pool'"],
    ),
    "graph: pool without pool": (
        graph(projections=edges(CONV | {"op": "pool"})),
        ["projections[0]", "needs the key 'pool'"],
    ),
    "unknown activation": (chain({"dense": 2, "activation": "rely"}), ["did you mean 'relu'"]),
    "unknown key": (chain({"dens": 2}), ["layers[0]", "dens", "did you mean 'dense'"]),
    "unknown initialization": (
        chain() | {"initialization": "he"},
        ["initialization", "'he_normal'"],
    ),
    "no layers": ({"input": 3, "layers": []}, ["layers", "at least 1"]),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name: str) -> None:
    description, fragments = REFUSED[name]
    with pytest.raises(ns.NetworkError) as caught:
        ns.Network.from_dict(description)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_the_description_that_they_vary_is_right() -> None:
    assert ns.Network.from_dict(graph()).dyads == 4 * 36 + 3
    assert ns.Network.from_dict(chain()).dyads == 3


def test_lookups_suggest_a_name() -> None:
    network = ns.Network.from_dict(graph())
    with pytest.raises(ns.NetworkError, match="unknown population 'ot'; did you mean 'out'"):
        network["ot"]
    with pytest.raises(ns.NetworkError, match="projection 'h1->oui'; did you mean 'h1->out'"):
        network.projection("h1->oui")


# ---- the place in the file ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        (HEAD + "  - {from: h1, to: ou, op: dense}\n", 7, 20, "unknown population 'ou'; did you"),
        (HEAD + "  - {from: h7, to: out}\n", 7, 12, "unknown population 'h7'"),
        (HEAD + "  - {from: h1, to: out, op: conv}\n", 7, 5, "from 'h1' [4, 6, 6] to 'out' [3]"),
        (HEAD + "  - {from: h1, to: out, op: dens}\n", 7, 29, "did you mean 'dense'"),
        (HEAD + "  - {from: h1, to: out, oops: 1}\n", 7, 25, "oops"),
        (HEAD.replace("[4, 6, 6]", "[4, 6]"), 3, 7, "shape [4, 6] must be"),
        (HEAD.replace("[4, 6, 6]", "[4, 6, 6], activation: softmax"), 3, 7, "'h1' has activation"),
        (HEAD.replace("[3]", "[x]"), 4, 17, "whole number"),
        (HEAD, 4, 8, "no projection reaches the population 'out'"),
        ("input: 4\nlayers:\n  - {dense: 5}\n  - dense: 0\n", 4, 12, "at least 1"),
        (
            "input: 4\nlayers:\n  - {dense: 5}\n  -  conv: 3\n",
            4,
            6,
            "from 'layer1' [5] to 'output'",
        ),
        ("input: [4, 4]\nlayers: [{dense: 5}]\n", 1, 8, "shape [4, 4] must be"),
        ("input: 4\n", 1, 1, "layers"),
        ("input: 4\nlayers: [{dense: 5}\n", 3, 1, ""),
    ],
)
def test_positions(tmp_path: Path, text: str, line: int, column: int, message: str) -> None:
    path = tmp_path / "network.yaml"
    path.write_text(text)
    with pytest.raises(ns.DocumentError) as caught:
        ns.Network.from_yaml(path)
    problem = caught.value.problems[0]
    assert (problem.file, problem.line, problem.column) == (str(path), line, column)
    assert message in problem.message
    assert str(caught.value).startswith(f"{path}:{line}:{column}: ")


def test_every_problem_of_a_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "network.yaml"
    path.write_text(
        dedent("""\
        input: [1, 0, 4]
        layers:
          - {name: c, conv: 2, kernel: -1}
          - {name: o, dense: two}
        """)
    )
    with pytest.raises(ns.DocumentError) as caught:
        ns.Network.from_yaml(path)
    assert [(p.line, p.column) for p in caught.value.problems] == [(1, 12), (3, 32), (4, 22)]


def test_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "mlp.yaml").write_text("input: 2\nlayers: [{dense: 1}]\n")
    with pytest.raises(ns.DocumentError, match=r"mpl\.yaml:1:1: .*did you mean 'mlp\.yaml'"):
        ns.Network.from_yaml(tmp_path / "mpl.yaml")


# ---- from torch --------------------------------------------------------------------------------


def _layers(change: Callable[[nn.Linear, nn.Linear], object]) -> list[nn.Module]:
    first, last = nn.Linear(3, 3), nn.Linear(3, 3)
    change(first, last)
    return [first, nn.ReLU(), last]


def _tie(kind: str, transposed: bool = False) -> Callable[[nn.Linear, nn.Linear], None]:
    """Gives the last layer a parameter of the first one, or another with its memory."""

    def change(first: nn.Linear, last: nn.Linear) -> None:
        own = getattr(first, kind)
        setattr(last, kind, nn.Parameter(own.detach().T) if transposed else own)

    return change


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [SQUARE := nn.Linear(3, 3), nn.ReLU(), SQUARE],
            "layer '0' .Linear.: is used twice",
        ),
        (_layers(_tie("weight")), "layers '0' and '2' share a weight: proj"),
        (_layers(_tie("weight", transposed=True)), "layers '0' and '2' share a weight: proj"),
        (_layers(_tie("bias")), "layers '0' and '2' share a bias"),
        (_layers(lambda _, last: weight_norm(last)), "layer '2' .Param.*made of other parameters"),
        ([nn.Linear(3, 3), nn.ReLU(), nn.LazyLinear(3)], "layer '2' has no shape yet"),
    ],
)
def test_layers_without_weights_of_their_own(layers: list[nn.Module], message: str) -> None:
    with pytest.raises(ns.NetworkError, match=message):
        ns.Network.from_torch(nn.Sequential(*layers))
