"""A module is taken over only where the network computes what the module does."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

import neurosim as ns


class Made(nn.Module):
    """A module with three layers and a forward of its own."""

    def __init__(self, compute: Callable[[Made, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.three = (nn.Linear(4, 4) for _ in range(3))
        self.relu, self.compute = nn.ReLU(inplace=True), compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def before(m: Made, x: Tensor) -> Tensor:
    x = m.one(x)
    return m.three(m.two(m.relu(x))) + x


def added(m: Made, x: Tensor) -> Tensor:
    first = h = m.one(x)
    h += m.two(x)
    return h + first


def functional(m: Made, x: Tensor) -> Tensor:
    h = m.one(x)
    return m.two(F.relu(h, inplace=True)) + h


def alone(m: Made, x: Tensor) -> Tensor:
    return m.three(m.relu(m.two(F.relu(m.one(x), inplace=True)))) + x


def by_name(m: Made, x: Tensor) -> Tensor:
    return m.two(m.one(torch.flatten(x, start_dim=1)).flatten(start_dim=1))


def in_training(m: Made, x: Tensor) -> Tensor:
    return m.one(x) if m.training else m.one(x) + m.two(x)


def dropped(m: Made, x: Tensor) -> Tensor:
    return m.one(F.dropout(x, 0.5))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def hooked() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    module.register_forward_hook(lambda _, given, found: 2 * found)
    return module


def patched() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    module[0].forward = lambda x: 2 * x
    return module


def parametrized() -> nn.Module:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "bias", Doubled())
    return layer


def pruned() -> nn.Module:
    return prune.random_unstructured(nn.Linear(4, 4), "bias", 0.5)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Made(before), "Made computes something else .* in place"),
        (lambda: Made(added), "Made computes something else"),
        (lambda: Made(functional), "Made computes something else"),
        (hooked, "Sequential computes something else .* remove the hook"),
        (patched, "Sequential computes something else .* a forward of its own"),
        (parametrized, r"layer '0' .* its bias is made of other parameters"),
        (pruned, r"layer '0' .* its bias is made of other parameters"),
    ],
)
def test_what_computes_something_else_is_refused(made: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(ns.NetworkError, match=said):
        ns.Network.from_torch(made(), 4)


@pytest.mark.parametrize("compute", [alone, by_name, in_training])
def test_what_computes_the_same_is_taken_over(compute: Callable[[Made, Tensor], Tensor]) -> None:
    module, x = Made(compute), torch.randn(5, 4)
    found = ns.Model(ns.Network.from_torch(module, 4))(x)
    assert module.training
    torch.testing.assert_close(found, module.eval()(x))


def test_dropout_that_is_always_there_is_left_out() -> None:
    with pytest.warns(ns.NeurosimWarning, match="no dropout"):
        network = ns.Network.from_torch(module := Made(dropped), 4)
    x = torch.randn(5, 4)
    torch.testing.assert_close(ns.Model(network)(x), module.one(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)
    assert ns.Network.from_torch(module).output.shape == (2,)


def test_where_others_compute_in_half_precision() -> None:
    """A folded layer rounds there in another way."""
    module = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2))
    module(torch.randn(50, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ns.Network.from_torch(module.eval()).output.shape == (2,)


def test_a_softmax_over_something_else() -> None:
    """Over the channels of a map, at each position."""
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Softmax(dim=1))
    with pytest.raises(ns.NetworkError, match="over all outputs"):
        ns.Network.from_torch(module, (2, 5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ns.Network.from_torch(module, (2, 3, 3)).output.shape == (3, 1, 1)


def test_a_module_that_fails() -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm1d(3))
    with pytest.raises(ns.NetworkError, match=r"fails on samples of shape \[2, 5, 5\]: expected"):
        ns.Network.from_torch(module.eval(), (2, 5, 5))
