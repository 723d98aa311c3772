"""Evaluation: accuracy and loss on a split, by a prediction of the network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from neurosim.base import ConfigurationError, DataError, DivergenceError
from neurosim.data import Split, check_labels, split_of, targets
from neurosim.learning.distributed import Ranks
from neurosim.learning.metrics import Metric
from neurosim.maths import Loss
from neurosim.measures import fgsm, lipschitz_bound, metrics, spectral_norms
from neurosim.simulation import Prediction, Simulation

EVALUATION_BATCH = 500
_Watch = Callable[[int, int], None]  # is told how many samples are done, and of how many


class SoFar(NamedTuple):
    """How many samples are done, how many of them are right, their summed loss, and the sums of the
    other metrics by name."""

    samples: int
    correct: float
    loss: float
    sums: Mapping[str, Tensor] = {}  # never written to

    def plus(self, batch: Self) -> Self:
        """Returns the sum with what a batch comes to."""
        samples, correct, loss, sums = batch
        sums = {n: self.sums[n] + found if n in self.sums else found for n, found in sums.items()}
        return type(self)(self.samples + samples, self.correct + correct, self.loss + loss, sums)

    def told(self, ranks: Ranks) -> list[Self]:
        """Returns those of all processes, in their order."""
        parts = [sums.reshape(-1).double() for sums in self.sums.values()]
        numbers = torch.cat([torch.tensor(self[:3], dtype=torch.float64), *parts])
        found = []
        for row in ranks.gathered(numbers):
            samples, correct, loss = row[:3].tolist()
            parts = row[3:].split([len(part) for part in parts])
            own = zip(self.sums.items(), parts, strict=True)
            sums = {name: part.view(s.shape).to(s.dtype) for (name, s), part in own}
            found.append(type(self)(int(samples), correct, loss, sums))
        return found


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the network of ``simulation``.

    Every batch of a ``prediction`` that settles has a twin of its own: what is evaluated must not
    depend on the training under way. Raises ConfigurationError where the network has no such
    prediction.
    """

    simulation: Simulation
    prediction: Prediction = Prediction.of("feedforward")
    metrics: Sequence[Metric] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prediction", Prediction.of(self.prediction))  # or its name
        network = self.simulation.model.network
        self.prediction.check(network, self.simulation.rule)
        for metric in self.metrics:
            metric.check(network.output.size)

    def evaluate(
        self, split: Split, eps: float = 0.0, watch: _Watch | None = None
    ) -> tuple[float, float]:
        """Measures accuracy and mean loss on a split.

        With ``eps`` the samples are attacked by `fgsm` first, which follows the gradient of the
        feed-forward prediction. Raises DivergenceError where a prediction or its loss is not
        finite.
        """
        found = self.scores(split, eps, watch)
        return found["accuracy"], found["loss"]

    def scores(self, split: Split, eps: float = 0.0, watch: _Watch | None = None) -> dict[str, Any]:
        """Measures the same, and what else is to be measured, by name."""
        for so_far in self.batches(split, eps):
            if watch is not None:
                watch(so_far.samples, len(split))
        return self.of(so_far)

    def of(self, so_far: SoFar) -> dict[str, Any]:
        """Returns the scores of the samples that are done."""
        samples, correct, loss, sums = so_far
        found = {one.name: one.value(sums[one.name], samples) for one in self.metrics}
        return {"accuracy": correct / samples, "loss": loss / samples, **found}

    @torch.no_grad()
    def batches(
        self, split: Split, eps: float = 0.0, ranks: Ranks | None = None
    ) -> Iterator[SoFar]:
        """Yields what it has come to as often as somebody may want to look up or to stop.

        Of several ``ranks`` all evaluate the first batch, and compare: machines of different kinds
        may round differently. Then each does some, and tells the others: sums are the same.
        """
        so_far, count = SoFar(0, 0.0, 0.0), -(-len(split) // EVALUATION_BATCH)
        if ranks is None or ranks.size == 1:
            for number in range(count):
                for one in self._batch(split, eps, number):
                    if one is None:
                        yield so_far
                    else:
                        so_far = so_far.plus(one)
                        yield so_far
            return
        # Nobody looks up within a batch, which takes each its own time.
        told = _of_all(self._batch(split, eps, 0), ranks)
        ranks.check_same({"scores": repr(self.of(told[ranks.rank]))})
        yield (so_far := so_far.plus(told[0]))
        for first in range(1, count, ranks.size):
            # Who has none left does the last one too: what it tells does not count.
            batch = self._batch(split, eps, min(first + ranks.rank, count - 1))
            for one in _of_all(batch, ranks)[: count - first]:
                so_far = so_far.plus(one)
            yield so_far

    def _batch(self, split: Split, eps: float, number: int) -> Iterator[SoFar | None]:
        """Yields what a batch comes to last, and before that None as a prediction does."""
        model, measured, simulation = self.simulation.model, self.simulation.loss, self.simulation
        which = slice(number * EVALUATION_BATCH, (number + 1) * EVALUATION_BATCH)
        images = split.take(which).to(model.device, model.dtype)
        labels = split.labels[which].to(simulation.state.device)  # the output's
        target = targets(labels, model.network.output.shape, model.dtype)
        if eps:
            low, high = (bound.to(model.device, model.dtype) for bound in split.bounds)
            predict = partial(model.predict, damage=simulation.state.damage)
            images = fgsm(predict, measured, images, target, eps, low, high)
        if self.prediction.settles:
            simulation = simulation.twin(number)
        prediction = None
        for prediction in self.prediction.predict(simulation, images):
            if prediction is None:
                yield None
        if prediction is None:
            raise ConfigurationError(
                f"the prediction {self.prediction.kind!r} did not end with one: what its "
                "method predict yields last must be an array (B, *output)",
                "evaluation",
            )
        loss = float(measured.value(prediction, target).sum())
        if not (isfinite(loss) and prediction.isfinite().all()):
            output = model.network.output.name
            raise DivergenceError(
                f"with these weights the prediction at {output!r} is not finite, or its loss "
                f"({loss}); {simulation.rule.remedy}.",
                population=output,
            )
        sums = {}
        for one in self.metrics:
            shown = decided(prediction, labels, measured) if one.of_labels else prediction
            sums[one.name] = one.sums(shown.flatten(1), target.flatten(1)).cpu()
        right = metrics.accuracy(prediction, labels) * len(labels)
        yield SoFar(len(labels), right, loss, sums)

    def robustness(self, test: Split, eps: float, watch: _Watch | None = None) -> dict[str, Any]:
        """Measures spectral norms, the Lipschitz bound that they give, and accuracy and loss on the
        test samples after an attack of ``eps``."""
        model = self.simulation.model
        norms = spectral_norms(model, self.simulation.state.damage)
        accuracy, loss = self.evaluate(test, eps, watch)
        return {
            "attack_eps": eps,
            "attack_accuracy": accuracy,
            "attack_loss": loss,
            "lipschitz_bound": lipschitz_bound(model.network, norms),
            "spectral_norms": norms,
        }


def _of_all(batch: Iterator[SoFar | None], ranks: Ranks) -> list[SoFar]:
    """Evaluates a batch, and returns what those of all processes come to, in their order. Raises
    the first DivergenceError of these, in all of them."""
    one, error = None, None
    try:
        *_, one = batch
    except DivergenceError as raised:
        error = raised
    for told in ranks.raised(error):
        raise told
    assert one is not None
    return one.told(ranks)


def decided(prediction: Tensor, labels: Tensor, loss: Loss) -> Tensor:
    """Returns 1 for what a prediction says of each sample, its class or its labels, 0 elsewhere.

    A sample has a label whose output, or the probability that the loss makes of it, is above ½.
    """
    if labels.is_floating_point():
        return (prediction > (0.0 if loss.applies == "sigmoid" else 0.5)).to(prediction.dtype)
    flat = prediction.flatten(1)
    return torch.zeros_like(flat).scatter_(1, flat.argmax(1, keepdim=True), 1.0)


def split_for(data: Any, simulation: Simulation) -> Split:
    """Returns samples and labels as a split that fits the network and the loss of a
    simulation. Raises DataError or ConfigurationError where they do not."""
    network = simulation.model.network
    split = split_of(data).reshaped(network.input.shape)
    if split.labels.is_floating_point():
        targets(split.labels[:1], network.output.shape)
        shaped = split.labels.reshape(-1, *network.output.shape)
        simulation.loss.check_targets(shaped)
        return replace(split, labels=shaped)
    try:
        check_labels(split.labels, network.output.size, f"{network.output.size} outputs")
    except DataError as error:
        raise DataError(f"{error}; TorchData(…).read() numbers any labels") from None
    return split
