"""Modules of torch as networks, and networks as modules: values are those of torch itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import neurosim as ns

IMAGE = (2, 8, 6)
C, L, R, F_ = nn.Conv2d, nn.Linear, nn.ReLU, nn.Flatten


class Block(nn.Module):
    """A residual block, as torchvision has it."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = C(channels, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.conv2 = C(out, out, 3, 1, 1, bias=False)
        self.relu = R(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(
                C(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += skip
        return self.relu(out)


class Functional(nn.Module):
    """Written with functions, methods and a view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.h, self.out = C(2, 3, 3), L(18, 5), L(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = x.view(x.size(0), -1)
        h = torch.tanh(self.h(x))
        return self.out(F.dropout(h, 0.5, self.training))  # type: ignore[no-any-return]


class Sums(nn.Module):
    """Sums of what others read too: twice the same, two activations, the input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = L(4, 4), L(4, 4), L(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = torch.relu(a) + torch.tanh(a)  # of one potential
        return self.c(torch.sigmoid(self.b(b) + x) + (b + b))


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Sequential(C(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), R()),
        Block(4, 4),
        Block(4, 6, 2),
        nn.AdaptiveAvgPool2d(1),
        F_(),
        L(6, 3),
    )


BN, AVG, MAX = nn.BatchNorm2d, nn.AvgPool2d, nn.MaxPool2d
SEQUENTIALS: dict[str, tuple[list[nn.Module], tuple[int, ...]]] = {
    "grouped": ([C(2, 4, 3, groups=2, stride=2), R(), F_(), L(24, 3)], IMAGE),
    "depthwise": ([C(2, 4, 1), C(4, 4, 3, groups=4, bias=False), F_(), L(96, 2)], IMAGE),
    "dilated": ([C(2, 3, 3, dilation=(2, 1), padding=1), R(), F_(), L(108, 3)], IMAGE),
    "stride": ([C(2, 3, (3, 2), (2, 1), (1, 0)), R(), F_(), L(60, 3)], IMAGE),
    "nested": ([nn.Sequential(L(4, 5), R()), nn.Sequential(L(5, 3))], (4,)),
    "identity": ([nn.Identity(), L(4, 5), nn.Identity(), R(), L(5, 3)], (4,)),
    "input": ([nn.Tanh(), L(4, 5), R(), nn.Tanh(), L(5, 3)], (4,)),
    "no bias": ([L(4, 5, bias=False), R(), L(5, 3, bias=False)], (4,)),
    "norm": ([C(2, 3, 3), BN(3), R(), F_(), L(72, 5), nn.BatchNorm1d(5, affine=False)], IMAGE),
    "norm of an average": ([C(2, 3, 3), AVG(2), BN(3), R(), F_(), L(18, 3)], IMAGE),
    "adaptive average": ([C(2, 3, 3), R(), nn.AdaptiveAvgPool2d((3, None)), F_()], IMAGE),
    "adaptive maximum": ([C(2, 3, 3), R(), nn.AdaptiveMaxPool2d(1), F_(), L(3, 2)], IMAGE),
    "ceil that is none": ([C(2, 3, 3), MAX(2, ceil_mode=True), F_(), L(18, 3)], IMAGE),
    "average of relu": ([C(2, 3, 3), R(), AVG(2), F_(), L(18, 3)], IMAGE),
    "dropout": ([L(4, 5), R(), nn.Dropout(0.5), L(5, 3)], (4,)),
    "softmax": ([L(4, 5), R(), L(5, 3), nn.Softmax(1)], (4,)),
}
MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "one layer": (L(4, 3), (4,)),
    "resnet": (resnet(), IMAGE),
    "functional": (Functional(), IMAGE),
    "sums": (Sums(), (4,)),
}
MODULES |= {name: (nn.Sequential(*layers), shape) for name, (layers, shape) in SEQUENTIALS.items()}
for activation in (
    *(nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.GELU(), nn.ELU(0.7), nn.LeakyReLU(0.2)),
    *(nn.Softplus(2.0, 40), nn.Hardtanh(0, 1)),
):
    MODULES[str(activation)] = nn.Sequential(L(4, 5), activation, L(5, 3), activation), (4,)


def prepared(name: str) -> tuple[nn.Module, Tensor]:
    """A module in evaluation with weights and statistics that are drawn, and inputs."""
    module, shape = MODULES[name]
    draws = torch.Generator().manual_seed(0)
    module = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=draws, dtype=value.dtype))
                if key.endswith("running_var"):
                    value.abs_().add_(0.5)
    return module, torch.randn(5, *shape, generator=draws, dtype=torch.float64)


def double(network: ns.Network) -> ns.Model:
    return ns.Model(network, dtype=torch.float64)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_a_network_and_back(name: str) -> None:
    module, x = prepared(name)
    network = ns.Network.from_torch(module, MODULES[name][1])
    model = double(network)
    expected = module(x)
    torch.testing.assert_close(model(x).flatten(1), expected.flatten(1), rtol=1e-12, atol=1e-12)

    back = model.to_torch()
    torch.testing.assert_close(back(x).flatten(1), expected.flatten(1), rtol=1e-12, atol=1e-12)
    again = double(ns.Network.from_torch(back, MODULES[name][1]))
    assert torch.equal(again.to_torch()(x), back(x))
    if isinstance(back, nn.Sequential):
        for key, value in model.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key
    if not any("norm" in type(m).__name__.lower() for m in module.modules()) and name != "sums":
        assert torch.equal(back(x).flatten(1), expected.flatten(1))
    # A copy: what happens to one is not seen by the other.
    for parameter in back.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(model(x).flatten(1), expected.flatten(1), rtol=1e-12, atol=1e-12)


def test_the_parts_of_a_residual_network() -> None:
    """As a network of it would be written: no population more than its sums and activations."""
    network = ns.Network.from_torch(prepared("resnet")[0], IMAGE)
    assert [len(network.incoming(p.name)) for p in network.dyadic] == [1, 1, 2, 1, 2, 1, 1]
    assert [p.operator.kind for p in network.projections].count("identity") == 1
    sim = ns.Simulation(double(network), schedule="sweep")
    sim.infer(torch.rand(2, *IMAGE), torch.tensor([0, 2]))
    assert all(g.isfinite().all() for g in sim.gradients().values())


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([L(4, 5), nn.Dropout(0.5), L(5, 3)], r"layer '1' \(Dropout\) is left out"),
        ([L(4, 5), nn.BatchNorm1d(5), L(5, 3)], r"layer '1' \(BatchNorm1d\) is folded"),
    ],
)
def test_what_differs_in_training_is_told(layers: list[nn.Module], said: str) -> None:
    with pytest.warns(ns.NeurosimWarning, match=said):
        ns.Network.from_torch(nn.Sequential(*layers))


def test_a_small_variance_is_there_in_half_precision() -> None:
    """What it is folded from is smaller than what half precision can say of it."""
    half = nn.Sequential(L(4, 3), nn.BatchNorm1d(3, eps=1e-7)).half().eval()
    half[1].running_var.fill_(3e-7)
    parameters = ns.Network.from_torch(half).parameters
    exact = copy.deepcopy(half).double()
    (weight,) = (p for name, p in parameters.items() if name.endswith("weight"))
    scale = (exact[1].running_var + 1e-7).rsqrt()
    torch.testing.assert_close(weight.double(), exact[0].weight * scale[:, None], rtol=1e-3, atol=0)


CONV = C(2, 3, 3)


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([L(2, 3, dtype=torch.complex64)], None, "its weights are complex"),
        ([L(2, 3), nn.ReLU6(), L(3, 1)], None, r"layer '1' \(ReLU6\): cannot be taken over: only"),
        ([L(2, 3), nn.Softplus(), L(3, 1)], None, "layer '1' .Softplus.: is cut off at 20"),
        ([L(2, 3), nn.GELU("tanh"), L(3, 1)], None, "approximate"),
        ([L(2, 3), nn.Hardtanh(), L(3, 1)], None, "from 0 to 1"),
        ([L(2, 3), nn.Softmax(1), L(3, 1)], None, "softmax is possible at the output alone"),
        ([nn.BatchNorm1d(2), L(2, 3)], (2,), "right before it, and there is none"),
        ([CONV, nn.MaxPool2d(2), nn.BatchNorm2d(3)], IMAGE, "layer '2' .BatchNorm2d.: is folded"),
        ([CONV, nn.BatchNorm2d(3, track_running_stats=False)], IMAGE, "no running statistics"),
        (
            [CONV, nn.AdaptiveAvgPool2d(4)],
            IMAGE,
            r"makes \[4, 4\] of \[6, 4\] by windows of several",
        ),
        ([C(2, 2, 3, padding=1, padding_mode="reflect")], IMAGE, "padding modes"),
        ([C(2, 2, (3, 2), padding="same")], IMAGE, r"odd kernel, not \[3, 2\]"),
        ([C(2, 2, 3, padding="same", dilation=2)], IMAGE, "in numbers"),
        ([CONV, nn.MaxPool2d(4, ceil_mode=True)], IMAGE, "layer '1' .MaxPool2d.: ceil_mode"),
        ([CONV, nn.MaxPool2d(2, dilation=2)], IMAGE, "dilation"),
        ([CONV, nn.MaxPool2d(2, return_indices=True)], IMAGE, "return_indices"),
        ([CONV, nn.AvgPool2d(2, divisor_override=3)], IMAGE, "divisor_override"),
        ([CONV, nn.AvgPool2d(3, padding=1, count_include_pad=False)], IMAGE, "count_include_pad"),
        ([CONV, nn.MaxPool2d(8)], IMAGE, r"pool kernel \[8, 8\] does not fit"),
        ([L(2, 3), L(4, 1)], None, r"\[1, 4\] does not fit 'layer1' before it"),
        ([CONV, L(4, 1)], IMAGE, r"weight \[1, 4\] does not fit 'layer1'.*\[3, 6, 4\]"),
        ([L(4, 4), C(1, 1, 1)], None, r"needs an input of shape \[C, H, W\]"),
        ([CONV, F_(), CONV], IMAGE, "used twice"),
        ([CONV, F_(), C(3, 1, 1)], IMAGE, "a convolution of what was flattened"),
        ([CONV, F_(), nn.MaxPool2d(2)], IMAGE, "pools what was flattened"),
        ([CONV, F_(2)], IMAGE, "flattens something else"),
        ([CONV], None, "give input_shape"),
        ([CONV], (2.0, 8.0, 6.0), "whole numbers"),
        ([], None, "give input_shape"),
        ([F_()], IMAGE, "no layer with weights"),
        ([L(2, 3)], (2, 2), r"\[2, 2\]; it must be \[N\] or \[C, H, W\]"),
    ],
)
def test_refuses(layers: list[nn.Module], shape: Any, message: str) -> None:
    with pytest.raises(ns.NetworkError, match=message):
        ns.Network.from_torch(nn.Sequential(*layers), shape)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = L(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) * x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Branches(), "Branches cannot be followed through its forward"),
        (Product(), "'mul' .mul.: is not possible; a network adds"),
        ("Linear", "expected a torch.nn.Module, not str"),
    ],
)
def test_refuses_a_module(module: Any, message: str) -> None:
    with pytest.raises(ns.NetworkError, match=message):
        ns.Network.from_torch(module, (4,))


def test_what_torch_has_no_layer_for() -> None:
    hidden = {"name": "h", "dense": 3, "activation": "holotanh"}
    with pytest.raises(ns.NetworkError, match="no layer for the activation 'holotanh"):
        ns.Model(ns.Network.from_dict({"input": 4, "layers": [hidden, {"dense": 2}]})).to_torch()
    soft = {"input": [1, 4, 4], "layers": [{"conv": 2, "pool": "softmax"}, {"dense": 2}]}
    with pytest.raises(ns.NetworkError, match="no layer that pools by softmax"):
        ns.Model(ns.Network.from_dict(soft)).to_torch()
    ends = ("input", "output"), ("output", "output")
    cyclic = {
        "populations": {role: {"shape": [3], "role": role} for role in ("input", "output")},
        "projections": [{"from": a, "to": b, "op": "dense", "name": f"{a}_"} for a, b in ends],
    }
    with pytest.raises(ns.NetworkError, match="cycle"):
        ns.Model(ns.Network.from_dict(cyclic)).to_torch()


def test_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    module, x = prepared("resnet")
    model = double(ns.Network.from_torch(module, IMAGE))
    model.to_onnx(tmp_path / "net.onnx")
    onnx.checker.check_model(tmp_path / "net.onnx")
    with pytest.raises(FileNotFoundError, match=r"none.net\.onnx"):
        model.to_onnx(tmp_path / "none/net.onnx")
    (found,) = reference.ReferenceEvaluator(str(tmp_path / "net.onnx")).run(
        None, {"input": x.numpy()}
    )
    torch.testing.assert_close(torch.from_numpy(found), model(x).detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("changed", ["before", "after", "activation"])
def test_hooks_that_change_values_are_refused(changed: str) -> None:
    """A layer with one is another layer."""
    linear, tanh = nn.Linear(4, 4), nn.Tanh()
    if changed == "before":
        linear.register_forward_pre_hook(lambda _, given: (2 * given[0],))
    else:
        layer: nn.Module = linear if changed == "after" else tanh
        layer.register_forward_hook(lambda _, given, found: found + 1)
    module = nn.Sequential(linear, tanh, nn.Linear(4, 3))
    with pytest.raises(ns.NetworkError, match=r"layer '[01]' .* has a hook that changes"):
        ns.Network.from_torch(module, input_shape=(4,))


def test_hooks_that_look_may_stay() -> None:
    seen: list[object] = []
    module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 3)).eval()
    module[0].register_forward_hook(lambda *given: seen.append(given))
    x = torch.rand(5, 4)
    assert torch.allclose(ns.Model(ns.Network.from_torch(module))(x), module(x))


def test_a_module_ends_at_the_output() -> None:
    """Whatever hangs behind it."""
    populations = {
        "input": {"shape": [4], "role": "input"},
        "output": {"shape": [3], "role": "output"},
        "extra": {"shape": [3]},
    }
    ways = [{"from": "input", "to": "output"}, {"from": "output", "to": "extra"}]
    model = ns.Model(ns.Network.from_dict({"populations": populations, "projections": ways}))
    x = torch.rand(5, 4)
    torch.testing.assert_close(model.to_torch()(x), model(x))
