"""Losses against torch.nn.functional, and their gradients against autograd."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neurosim.base.errors import ConfigurationError
from neurosim.maths.losses import CrossEntropy, Loss, SquaredError

LOSSES = [Loss.of(name) for name in Loss.family]
SHAPES = [(1,), (7,), (3, 2, 4), (1, 1, 1)]
TOLERANCE = {"rtol": 1e-13, "atol": 1e-13}


def random(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, dtype=torch.float64, generator=generator)


def distribution(shape: tuple[int, ...], seed: int) -> Tensor:
    """Positive targets that sum to 1 over all outputs of a sample."""
    return torch.softmax(random(shape, seed).flatten(1), 1).view(shape)


def test_losses_by_name() -> None:
    assert set(Loss.family) == {"squared_error", "cross_entropy", "binary_cross_entropy"}
    assert all(loss.kind == name for name, loss in Loss.family.items())
    assert isinstance(Loss.of("squared_error"), SquaredError)
    assert isinstance(Loss.of("cross_entropy"), CrossEntropy)


def test_squared_error_by_hand() -> None:
    loss = Loss.of("squared_error")
    prediction, target = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.0, 4.0], [0, 1]])
    assert loss.value(prediction, target).tolist() == [2.5, 2.0]
    assert loss.gradient(prediction, target).tolist() == [[1.0, -2.0], [0.0, -2.0]]
    assert loss.mean(prediction, target).item() == 2.25


@pytest.mark.parametrize("shape", SHAPES)
def test_squared_error_is_half_the_sum(shape: tuple[int, ...]) -> None:
    prediction, target = random((4, *shape), 1), random((4, *shape), 2)
    expected = 0.5 * F.mse_loss(prediction, target, reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(Loss.of("squared_error").value(prediction, target), expected)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 800.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_against_torch(shape: tuple[int, ...], scale: float) -> None:
    """One softmax over all outputs of a sample, also where these have the shape (C, H, W)."""
    loss, batch = Loss.of("cross_entropy"), 5
    prediction = random((batch, *shape), 3, scale)
    classes = prediction[0].numel()
    labels = torch.arange(batch) * 7 % classes
    one_hot = F.one_hot(labels, classes).double().view(batch, *shape)
    expected = F.cross_entropy(prediction.flatten(1), labels, reduction="none")
    torch.testing.assert_close(loss.value(prediction, one_hot), expected, **TOLERANCE)
    soft = distribution((batch, *shape), 4)
    expected = F.cross_entropy(prediction.flatten(1), soft.flatten(1), reduction="none")
    torch.testing.assert_close(loss.value(prediction, soft), expected, **TOLERANCE)
    mean = F.cross_entropy(prediction.flatten(1), labels)
    torch.testing.assert_close(loss.mean(prediction, one_hot), mean, **TOLERANCE)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 800.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_binary_cross_entropy_against_torch(shape: tuple[int, ...], scale: float) -> None:
    """Several labels of a sample, or none, or probabilities."""
    loss, prediction = Loss.of("binary_cross_entropy"), random((5, *shape), 3, scale)
    for target in ((random((5, *shape), 4) > 0).double(), torch.sigmoid(random((5, *shape), 4))):
        expected = F.binary_cross_entropy_with_logits(prediction, target, reduction="none")
        found = loss.value(prediction, target)
        torch.testing.assert_close(found, expected.flatten(1).sum(1), **TOLERANCE)


def test_binary_cross_entropy_is_continued_to_complex_outputs() -> None:
    """Cauchy-Riemann: the derivative is the same along the imaginary axis."""
    loss, y = Loss.of("binary_cross_entropy"), random((2, 3), 1).to(torch.complex128)
    target, step = (random((2, 3), 2) > 0).double(), 1e-6
    along, across = (
        (loss.gradient(y + h, target) - loss.gradient(y - h, target)) / (2 * h)
        for h in (step, step * 1j)
    )
    torch.testing.assert_close(along, across, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(loss.gradient(y, target).real, loss.gradient(y.real, target))


@pytest.mark.parametrize(
    ("name", "targets", "said"),
    [
        ("cross_entropy", [[1, 0], [1, 1]], r"target 1 .*sum 2; for several labels .* binary_cros"),
        ("cross_entropy", [[2, -1]], "not negative"),
        ("cross_entropy", [[0, 0]], "of sum 0"),
        ("binary_cross_entropy", [[1, 1], [0, 3]], "target 1 .* has others; take squared_error"),
        ("cross_entropy", [[0.25, 0.75]], ""),
        ("binary_cross_entropy", [[1, 0], [1, 1]], ""),
        ("squared_error", [[5, -1]], ""),
    ],
)
def test_targets_that_a_loss_takes(name: str, targets: list[list[float]], said: str) -> None:
    expected = pytest.raises(ConfigurationError, match=said) if said else nullcontext()
    with expected:
        Loss.of(name).check_targets(torch.tensor(targets))


@pytest.mark.parametrize("loss", LOSSES, ids=list(Loss.family))
@given(
    shape=st.sampled_from(SHAPES),
    batch=st.integers(1, 4),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.01, 1.0, 10.0]),
    kind=st.sampled_from(["distribution", "any", "zero"]),
)
def test_gradient_against_autograd(
    loss: Loss, shape: tuple[int, ...], batch: int, seed: int, scale: float, kind: str
) -> None:
    """Also for targets that do not sum to 1."""
    prediction = random((batch, *shape), seed, scale).requires_grad_()
    target = distribution((batch, *shape), seed + 1)
    if kind != "distribution":
        target = random((batch, *shape), seed + 1) if kind == "any" else torch.zeros_like(target)
    value = loss.value(prediction, target)
    assert value.shape == (batch,)
    (expected,) = torch.autograd.grad(value.sum(), prediction)
    found = loss.gradient(prediction.detach(), target)
    torch.testing.assert_close(found, expected, **TOLERANCE)


def test_a_local_loss_has_a_diagonal_hessian() -> None:
    """``local`` promises that ∂ℓ/∂ŷᵢ hangs on ŷᵢ alone."""
    prediction, target = random((1, 4), 5), distribution((1, 4), 6)
    for loss in LOSSES:
        hessian = torch.autograd.functional.hessian(
            lambda y, loss=loss: loss.value(y[None], target).sum(), prediction[0]
        )
        off_diagonal = hessian - hessian.diag().diag()
        assert (off_diagonal.abs().max().item() == 0.0) == loss.local


def test_samples_do_not_mix() -> None:
    prediction, target = random((3, 5), 7), distribution((3, 5), 8)
    for loss in LOSSES:
        for i in range(3):
            alone = prediction[i : i + 1], target[i : i + 1]
            assert torch.equal(loss.value(prediction, target)[i : i + 1], loss.value(*alone))
            assert torch.equal(loss.gradient(prediction, target)[i : i + 1], loss.gradient(*alone))


def test_class_weights_against_torch() -> None:
    weights = (0.5, 2.0, 0.0, 1.0)
    loss, prediction, labels = CrossEntropy(weights), random((6, 4), 9), torch.arange(6) % 4
    prediction.requires_grad_()
    expected = F.cross_entropy(
        prediction, labels, torch.tensor(weights, dtype=torch.float64), reduction="none"
    )
    target = F.one_hot(labels, 4).double()
    torch.testing.assert_close(loss.value(prediction, target), expected, **TOLERANCE)
    (gradient,) = torch.autograd.grad(expected.sum(), prediction)
    torch.testing.assert_close(loss.gradient(prediction, target), gradient, **TOLERANCE)
    with pytest.raises(ConfigurationError, match="4 weights of classes, but 5 outputs"):
        loss.check(5)
