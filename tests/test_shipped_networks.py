"""The networks for 32×32 images: their sizes, what they compute, and that they can be trained."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
import torch
from shipped import narrow
from torch import Tensor, nn

import neurosim as ns
from neurosim.data import digits
from neurosim.maths.losses import Loss

NAMES = ["vgg16", "vgg16_dp23", "vgg16_dp24", "vgg11", "convnet", "resnet20"]
# Per network: dyads, weights without biases, biases, depth.
SIZES = {
    "vgg16": (190_986, 33_625_792, 4224 + 8202, 16),
    "vgg16_dp23": (315_914, 33_625_792, 4224 + 8202, 21),
    "vgg16_dp24": (190_986, 33_625_792, 4224 + 8202, 16),
    "vgg11": (66_058, 28_133_056, 2752 + 8202, 11),
    "convnet": (59_402, 3_857_792, 1408 + 10, 5),
    "resnet20": (188_490, 267_696 + 512 + 2048 + 640, 16 * 7 + 32 * 6 + 64 * 6 + 10, 21),
}


@pytest.mark.parametrize("name", NAMES)
def test_sizes(root: Path, name: str) -> None:
    network = ns.Network.from_yaml(root / f"networks/{name}.yaml")
    shapes = network.parameter_shapes()
    weights, biases = (
        sum(prod(shape) for key, shape in shapes.items() if key.endswith(kind))
        for kind in (".weight", ".bias")
    )
    assert (network.dyads, weights, biases, network.depth) == SIZES[name]
    assert network.initialization.kind == "lecun_normal"
    assert (network.input.shape, network.output.shape) == ((3, 32, 32), (10,))


# ---- what they compute -------------------------------------------------------------------------


def chain_module(widths: list[int | str], dense: list[int]) -> nn.Sequential:
    """Convolutions of 3×3 ("M": max-pool before the ReLU of the one before) and dense layers."""
    layers: list[nn.Module] = []
    before, side = 3, 32
    for width in widths:
        if isinstance(width, str):
            layers.insert(-1, nn.MaxPool2d(2))
            side //= 2
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    layers.append(nn.Flatten())
    before *= side * side
    for width in dense:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers[:-1])


CHAINS: dict[str, tuple[list[int | str], list[int]]] = {
    "vgg16": (
        [4, 4, "M", 8, 8, "M", 16, 16, 16, "M", 32, 32, 32, "M", 32, 32, 32, "M"],
        [256, 256, 10],
    ),
    "vgg11": ([4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M"], [256, 256, 10]),
    "convnet": ([8, "M", 16, "M", 32, "M", 32, "M"], [10]),
}
CHAINS["vgg16_dp23"] = CHAINS["vgg16_dp24"] = CHAINS["vgg16"]


@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_predicts_what_torch_does(root: Path, name: str) -> None:
    model = ns.Model(narrow(root, name, 16), dtype=torch.float64)
    module = chain_module(*CHAINS[name]).double()
    module.load_state_dict(dict(zip(module.state_dict(), model.state_dict().values(), strict=True)))
    x = images(3)
    torch.testing.assert_close(model(x), module(x))


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        changes = before != width
        self.inside = nn.Conv2d(before, width, 3, stride=2 if changes else 1, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.around = nn.Conv2d(before, width, 1, stride=2, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.around is None else self.around(x)
        return torch.relu(self.second(torch.relu(self.inside(x))) + around)


def test_the_residual_network_predicts_what_torch_does(root: Path) -> None:
    model = ns.Model(narrow(root, "resnet20", 4), dtype=torch.float64)
    widths = [4, 4, 4, 8, 8, 8, 16, 16, 16]
    blocks = [Block(a, b) for a, b in zip([4, *widths], widths, strict=False)]
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        *blocks,
        nn.AvgPool2d(8),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).double()
    values = model.state_dict()
    names = [f"{stage}{block}" for stage in "123" for block in "abc"]
    state = {"0": ("input->stem", "stem"), "13": ("average->output", "output")}
    before = "stem"
    for number, name in enumerate(names):
        state[f"{number + 2}.inside"] = (f"{before}->in{name}", f"in{name}")
        state[f"{number + 2}.second"] = (f"in{name}->block{name}", f"block{name}")
        if blocks[number].around is not None:
            state[f"{number + 2}.around"] = (f"{before}->block{name}", "")
        before = f"block{name}"
    loaded = {}
    for key, (projection, population) in state.items():
        loaded[f"{key}.weight"] = values.pop(f"{projection}.weight")
        if population:
            loaded[f"{key}.bias"] = values.pop(f"{population}.bias")
    assert values == {}
    module.load_state_dict(loaded)
    x = images(3)
    torch.testing.assert_close(model(x), module(x))


# ---- learning ----------------------------------------------------------------------------------


def images(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 32, 32, dtype=torch.float64, generator=generator)


def labels(count: int) -> Tensor:
    return torch.eye(10, dtype=torch.float64)[torch.arange(count) % 10]


@pytest.mark.parametrize("name", NAMES)
def test_gradients_at_a_small_nudge_are_those_of_autograd(root: Path, name: str) -> None:
    model = ns.Model(narrow(root, name, 8), dtype=torch.float64)
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.5, beta=1e-6, nudge="prediction"),
        loss="cross_entropy",
        schedule=ns.schedules.Sweep("backward"),
    )
    x, target = images(4), labels(4)
    simulation.infer(x, target)
    Loss.of("cross_entropy").mean(model(x), target).backward()
    for key, gradient in simulation.gradients().items():
        expected = model.get_parameter(key).grad
        assert expected is not None
        scale = expected.abs().max()
        assert scale > 0, key
        torch.testing.assert_close(gradient, expected, rtol=0, atol=float(1e-5 * scale))


@pytest.mark.parametrize("name", NAMES)
def test_the_initial_activity_neither_dies_nor_explodes(root: Path, name: str) -> None:
    model = ns.Model(narrow(root, name, 4), dtype=torch.float64)
    power = float(model(images(8)).detach().square().mean())
    assert 1e-5 < power < 1e3


@pytest.mark.parametrize(("name", "steps"), [("convnet", 20), ("resnet20", 52)])
def test_a_few_steps_reduce_the_loss(root: Path, name: str, steps: int) -> None:
    """On handwritten digits, enlarged: what a network learns is not only the mean of the labels."""
    model = ns.Model(narrow(root, name, 2 if name == "resnet20" else 4))
    simulation = ns.Simulation(
        model,
        rule=ns.DualPropagation(alpha=0.5, beta=0.1, nudge="prediction"),
        loss="cross_entropy",
        schedule=ns.schedules.Sweep("backward"),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = digits().train.limit(100)
    x = nn.functional.interpolate(data.images, scale_factor=4.0).expand(-1, 3, -1, -1)
    target = torch.eye(10)[data.labels]
    losses = []
    for step in range(steps):
        some = slice(step % 4 * 25, step % 4 * 25 + 25)
        outcome = simulation.infer((x[some] - 0.3) / 0.35, target[some])
        losses.append(float(simulation.loss.mean(outcome.prediction, target[some])))
        simulation.learn(optimizer)
    assert sum(losses[-4:]) < 0.6 * sum(losses[:4]), losses
