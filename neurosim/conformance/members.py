"""Checks of members by themselves: activations, losses and operators, in float64 against autograd
and literal matrices; data sets, optimizers, learning rates and listeners."""

import json
from contextlib import suppress
from functools import partial
from math import isfinite, prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from neurosim.base import ConfigurationError
from neurosim.conformance.checks import CLOSE, RESUMED, TWICE, Named, require, same
from neurosim.data import Augmentation, Dataset, DataSource, Standardization
from neurosim.learning import (
    ListenerChoice,
    Listeners,
    Metric,
    load_optimizer,
    load_state,
    save_state,
)
from neurosim.maths import Activation, LearningRate, Loss, Operator, OptimizerChoice, derivative
from neurosim.network import Initialization
from neurosim.tensors import Selection, Shape

_CLOSED = "Leave the closed form out, or mend it"


def _drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def of_activation(f: Activation) -> Named:
    yield "shape and dtype stay, and each value is for itself", partial(_values, f)
    yield "difference is f(u + Δ) − f(u)", partial(_difference, f)
    yield "backward is f'(a) Δ", partial(_backward, f)
    yield "no slope is larger than largest_slope", partial(_slope, f)
    if f.ceiling is not None:
        yield "it is a, clipped between 0 and its ceiling", partial(_clipped, f, f.ceiling)
    if f.bounded:
        yield "no state and no difference is beyond ±2", partial(_bounded, f)
    if f.holomorphic:
        yield "complex potentials continue the real ones", partial(_holomorphic, f)


def _values(f: Activation) -> None:
    for dtype in (torch.float32, torch.float64):
        potential = (3.0 * _drawn(4, 5)).to(dtype)
        before = potential.clone()
        state = f(potential)
        alone = torch.cat([f(potential[n : n + 1]) for n in range(4)])
        if not f.lateral:
            alone = torch.stack([f(column[:, None])[:, 0] for column in potential.T], 1)
        same(state, alone, "f(a) of some values is not that of all", "Act on each alone", 1e-6)
        kept = state.dtype == dtype and bool(state.isfinite().all())
        require(kept, f"f(a) of {dtype} is {state.dtype}, or not finite", "Keep the dtype")
        same(potential, before, "f changes the potential", "Only in_place may write over it")
        same(f.in_place(before), state, "in_place gives another f(a)", _CLOSED)


def _difference(f: Activation) -> None:
    potential = 2.0 * _drawn(2, 100)
    for scale in (1e-4, 1.0):
        apical = scale * _drawn(2, 100, seed=1)
        plus, minus = f(potential + apical), f(potential)
        found, what = f.difference(plus, minus, apical), f"for Δ of about {scale:g} it is not"
        same(found, plus - minus, what, _CLOSED, CLOSE)


def _backward(f: Activation) -> None:
    potential, apical = 2.0 * _drawn(2, 100), _drawn(2, 100, seed=1)
    expected = derivative(f, potential, apical)
    for given, how in ((potential, "it is not"), (None, "it is not, without the potential")):
        with suppress(ConfigurationError):  # it says that it cannot be
            same(f.backward(given, f(potential), apical), expected, how, _CLOSED, CLOSE)


def _slope(f: Activation) -> None:
    slope = float(derivative(f, 3.0 * _drawn(2, 500), torch.ones(2, 500).double()).abs().max())
    said = f.largest_slope
    what = f"f' of {slope:g} was found, but largest_slope is {said}"
    require(said is None or slope <= said + CLOSE, what, "Say the largest |f'(a)|, or leave it out")


def _clipped(f: Activation, ceiling: float) -> None:
    potential, apical = (3.0 * _drawn(2, 100, seed=seed) for seed in range(2))
    plus, minus = (potential + apical).clamp(0.0, ceiling), potential.clamp(0.0, ceiling)
    how = "Leave the ceiling out: of what has one, f and difference are not asked"
    same(f(potential), minus, "f(a) is not min(max(a, 0), ceiling)", how)
    same(f.difference(plus, minus, apical), plus - minus, "δ is not the clipped Δ", how, CLOSE)


def _bounded(f: Activation) -> None:
    potential, apical = (1e4 * _drawn(2, 100, seed=seed) for seed in range(2))
    plus, minus = f(potential + apical), f(potential)
    largest = max(float(a.abs().max()) for a in (plus, minus, f.difference(plus, minus, apical)))
    require(largest <= 2.0, f"a value of {largest:g} was found", "Leave out that it is bounded")


def _holomorphic(f: Activation) -> None:
    potential, step = _drawn(200), 1e-30
    state = f(torch.complex(potential, torch.full_like(potential, step)))
    slope = derivative(f, potential, torch.ones_like(potential))
    expected = torch.complex(f(potential), slope * step)
    same(state.real, expected.real, "f(a + 0i) is not f(a)", "Set holomorphic = False", CLOSE)
    same(state.imag / step, slope, "it has no complex derivative", "Set holomorphic = False", CLOSE)


def of_metric(metric: Metric) -> Named:
    yield "the sums of parts are those of the whole, and give a number", partial(_metric, metric)


def _metric(metric: Metric) -> None:
    target = torch.eye(6, dtype=torch.float64)[torch.arange(10) % 6]
    prediction = _drawn(10, 6)
    pieces = slice(0, 3), slice(3, 6), slice(6, 10)
    parts = [metric.sums(prediction[piece], target[piece]) for piece in pieces]
    total = sum(parts[1:], parts[0])
    what = "the sums of three batches are not that of all samples"
    same(total, metric.sums(prediction, target), what, "Add over samples alone", CLOSE)
    value = metric.value(total, 10)
    kept = _of_numbers(value) and json.loads(json.dumps(value)) == value
    require(kept, f"value is {value!r}", "Return a number, or lists of numbers")


def _of_numbers(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_of_numbers, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def of_initialization(member: Initialization) -> Named:
    yield "weights and biases of any shape, by the generator alone", partial(_draws, member)


def _draws(member: Initialization) -> None:
    for shape, fans in (((4, 3), (3, 4)), ((5, 2, 3, 1), (6, 15))):
        for draw, size in ((member.weight, shape), (member.bias, shape[:1])):
            found, again = (draw(size, fans, np.random.default_rng(0)) for _ in range(2))
            what = f"{draw.__name__} gives {found.dtype} {found.shape} for {size}"
            require(found.dtype == np.float64 and found.shape == size, what, "Draw float64")
            kept = bool(np.isfinite(found).all()) and np.array_equal(found, again)
            require(kept, f"{draw.__name__} is not finite, or another at the next draw", TWICE)


def of_loss(loss: Loss) -> Named:
    yield "a value for each sample, and its gradient", partial(_loss, loss, (3,))
    yield "the same of conv outputs", partial(_loss, loss, (2, 3, 2))
    yield "local: a gradient depends on its own output alone", partial(_local, loss)


def _loss(loss: Loss, shape: Shape) -> None:
    y = 2.0 * _drawn(3, *shape)
    target = torch.eye(prod(shape), dtype=torch.float64)[:3].view(y.shape)
    value = loss.value(y, target)
    alone = [loss.value(y[n : n + 1], target[n : n + 1]) for n in range(3)]
    what = "value is not (B,), or a sample's loss depends on the others"
    same(value, torch.cat(alone), what, "Sum over the outputs of each sample, not the batch", CLOSE)
    expected = derivative(lambda y: loss.value(y, target), y, torch.ones_like(value))
    same(loss.gradient(y, target), expected, "gradient is not that of value", _CLOSED, CLOSE)


def _local(loss: Loss) -> None:
    y, one = _drawn(1, 4), torch.eye(4, dtype=torch.float64)
    moved = torch.cat([loss.gradient(y + step, one[:1]) for step in one])
    others = (moved - loss.gradient(y, one[:1]))[~one.bool()].abs().max()
    require(not loss.local or bool(others < CLOSE), "it is not", "Set local = False")


def of_operator(operator: Operator) -> Named:
    """Yields the checks of an operator: values and errors cross it in all the ways that there are.

    A pooling by maximum or softmax is linear near these means alone.
    """
    shape = operator.weight_shape
    weight = None if shape is None else _drawn(*shape, seed=2)
    bias, mean = _drawn(operator.post[0], seed=3), _drawn(3, *operator.pre)
    error = _drawn(3, *operator.post, seed=1)

    def shapes() -> None:
        values, winners = operator.basal(mean, weight, bias, None)
        back = operator.apical(error, weight, winners, None)
        same(values.shape, error.shape, f"forward gives {tuple(values.shape)}", "Map pre to post")
        same(back.shape, mean.shape, f"adjoint gives {tuple(back.shape)}", "Map post to pre")
        said = operator.output_shape
        same(said, operator.post, f"output_shape is {said}", "Say the shape of what forward gives")

    def transposed() -> None:
        values, winners = operator.basal(mean, weight, None, None)
        back = operator.apical(error, weight, winners, None)
        if winners is not None:
            at_mean = derivative(lambda m: operator.basal(m, weight, None, None)[0], mean, error)
            same(back, at_mean, "it is not, near these means", _CLOSED, CLOSE)
            return
        found, expected = (mean * back).sum(), (values * error).sum()
        same(found, expected, "it is not", "Let adjoint be the transpose of forward", CLOSE)

    def weighted() -> None:
        assert weight is not None
        winners = operator.basal(mean, weight, None, None)[1]
        expected = derivative(lambda w: operator.basal(mean, w, None, None)[0], weight, error)
        found = operator.weight_gradient(error, mean, winners)
        same(found, expected, "it is not", _CLOSED, CLOSE)

    def some() -> None:
        values, winners = operator.basal(mean, weight, bias, None)
        back = operator.apical(error, weight, winners, None)
        for post in selections(operator.post):
            found, won = operator.basal(mean, weight, bias, post)
            what = f"forward of some {post.whole or 'neurons'} is not"
            same(found, post.take(values), what, _CLOSED, CLOSE)
            same(won, None if winners is None else post.take(winners), what, _CLOSED, CLOSE)
        for pre in selections(operator.pre):
            found = operator.apical(error, weight, winners, pre)
            what = f"adjoint for some {pre.whole or 'neurons'} is not"
            same(found, pre.take(back), what, _CLOSED, CLOSE)

    def synapses() -> None:
        matrix, below = _matrix(operator, weight), _matrix(operator.unpooled, weight)
        pre, post = (torch.arange(size) % 3 == 1 for size in matrix.shape)
        found = operator.forward_reach(pre.view(operator.pre)).flatten()
        same(found, matrix[pre].any(0), "forward_reach is wrong", _CLOSED)
        found = operator.backward_reach(post.view(operator.post)).flatten()
        same(found, matrix[:, post].any(1), "backward_reach is wrong", _CLOSED)
        found = torch.as_tensor(operator.forward_fan_out()).expand(operator.pre).flatten()
        same(found, below.sum(1), "forward_fan_out is wrong", _CLOSED)
        if operator.unpooled is operator:
            found = torch.as_tensor(operator.backward_fan_out()).expand(operator.post).flatten()
            same(found, below.sum(0), "backward_fan_out is wrong", _CLOSED)

    yield "shapes", shapes
    yield "adjoint is the transpose of forward", transposed
    if weight is not None:
        yield "weight_gradient is that of forward", weighted
    yield "what some dyads receive is what they receive among all", some
    yield "reach and fan-out follow from its matrix", synapses


def _matrix(operator: Operator, weight: Tensor | None) -> Tensor:
    """(pre, post): which dyads have a synapse, one mark after the other."""
    positive = None if weight is None else weight.abs() + 0.1
    marks = torch.eye(prod(operator.pre), dtype=torch.float64).view(-1, *operator.pre)
    return operator.basal(marks, positive, None, None)[0].flatten(1).abs() > 1e-9


def selections(shape: Shape) -> list[Selection]:
    """Selects every third dyad, and of a conv population a channel and some positions."""
    flat, device = np.arange(prod(shape)).reshape(shape[0], -1), torch.device("cpu")
    found = [Selection(shape, flat.reshape(-1)[::3], device)]
    if len(shape) == 3:
        found.append(Selection(shape, flat[0], device, "channels"))
        found.append(Selection(shape, flat[:, 1::3].reshape(-1), device, "positions"))
    return found


def of_data(source: DataSource) -> Named:
    """Yields the checks of a data set; labels and shapes are checked as it is made."""
    yield "reads the same images twice", partial(_reads, source)


def _reads(source: DataSource) -> None:
    one, other = source.read(Path()), source.read(Path())
    require(isinstance(one, Dataset), f"read returns {one!r}", "Return a neurosim.data.Dataset")
    for name in ("train", "test"):
        found, again = getattr(one, name), getattr(other, name)
        read, then = ((split.take(slice(100)), split.labels) for split in (found, again))
        same(read, then, f"the {name} split differs", "Draw from a generator with a fixed seed")
        require(bool(read[0].isfinite().all()), "an image is not finite", "Repair it, or leave it")


def of_augmentation(how: Augmentation) -> Named:
    yield "changes images alone, and by its draws alone", partial(_augments, how)


def _augments(how: Augmentation) -> None:
    for images in ([] if how.standardized else [_bytes()]) + [3.0 * _drawn(20, 2, 8, 6)]:
        before = images.clone()
        found, again = (how(images, np.random.default_rng(0)) for _ in range(2))
        same(found, again, "the same draws give other images", "Draw from the generator alone")
        kept = found.shape == images.shape and found.dtype == images.dtype
        require(kept, "it gives another shape or dtype", "Return images as they came")
        same(images, before, "it changes the images that it is given", "Return new ones")


def of_standardization(how: Standardization) -> Named:
    yield "finite numbers of every byte", partial(_standardizes, how)


def _standardizes(how: Standardization) -> None:
    standard = how.fit(_bytes(), 255)
    fits = standard.fits((2, 8, 6))
    require(fits, "it does not fit the images", "Give numbers, (C,) or (C, H, W)")
    finite = bool(standard.of(_bytes(1)).isfinite().all())
    require(finite, "a number is not finite", "Divide by a std above 0")


def _bytes(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (20, 2, 8, 6), np.uint8))


def of_optimizer(choice: OptimizerChoice) -> Named:
    yield "goes on from its state as it would have gone on", partial(_goes_on, choice)


def _goes_on(choice: OptimizerChoice) -> None:
    start = torch.linspace(-1.0, 2.0, 8, dtype=torch.float64).view(2, 4)

    def steps(saving: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(start.clone())
        optimizer = choice.make([weight])
        for size in (2.0, -0.5, 1.0, -3.0, 0.25, -1.0):  # what it remembers has to matter
            weight.grad = size * (weight.detach() + size).cos()
            optimizer.step()
            if saving:
                save_state(file, optimizer.state_dict())
                optimizer = choice.make([weight])
                load_optimizer(optimizer, load_state(file))
        return weight.detach()

    with TemporaryDirectory() as folder:
        file = Path(folder) / "state"
        found, expected = steps(True), steps(False)
    same(found, expected, "a step after a pause is another", RESUMED)
    moved = bool(expected.isfinite().all()) and not torch.equal(expected, start)
    require(moved, "weights are not finite, or do not move", "Use the gradients")


def of_rate(rate: LearningRate) -> Named:
    yield "finite and not negative at every step, and by that alone", partial(_rates, rate)


def _rates(rate: LearningRate) -> None:
    steps, mend = range(40), "Let `at` return a number that follows from its arguments"
    found = [rate.at(step, 0.1, 10, 4) for step in steps]
    require(all(isfinite(r) and r >= 0 for r in found), "it is not", mend)
    again = [rate.at(step, 0.1, 10, 4) for step in reversed(steps)]
    same(again[::-1], found, "it depends on what was asked before", mend)


def of_listener(choice: ListenerChoice) -> Named:
    """Yields the checks of a listener; that it hears something is checked as it is told."""
    yield "hears something, and takes its state back", partial(_listens, choice)


def _listens(choice: ListenerChoice) -> None:
    with TemporaryDirectory() as folder:
        one, other = (Listeners([choice.make(Path(folder))]) for _ in range(2))
        file = Path(folder) / "state"
        save_state(file, one.state_dict())
        other.load_state_dict(load_state(file))
    same(other.state_dict(), one.state_dict(), "it has another state than was saved", RESUMED)
