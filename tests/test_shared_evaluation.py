"""Evaluations that processes share: here threads take their parts, and tell by a barrier."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import make
from torch import Tensor

import neurosim as ns
from neurosim.data import Split
from neurosim.learning import evaluation
from neurosim.learning.distributed import Ranks
from neurosim.learning.metrics import ConfusionMatrix, MeanSquaredError
from neurosim.learning.trainer import Trainer, TrainingPlan

BATCH, BATCHES = 7, 5  # of 30 samples


class Meeting:
    """Where so many threads tell each other what they have."""

    def __init__(self, size: int) -> None:
        self.barrier, self.parts = threading.Barrier(size, timeout=30), [Any] * size

    def exchange(self, rank: int, part: Any) -> list[Any]:
        self.parts[rank] = part
        self.barrier.wait()
        found = list(self.parts)
        self.barrier.wait()
        return found


class Threads(Ranks):
    """A thread in the place of a process."""

    def __init__(self, rank: int, size: int, meeting: Meeting) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.size, self._meeting = rank, size, meeting

    def total(self, numbers: Tensor) -> Tensor:
        return torch.stack(self._meeting.exchange(self.rank, numbers)).sum(0)

    def told(self, text: str = "", by: int = 0) -> str:
        return str(self._meeting.exchange(self.rank, text)[by])


def trainer(prediction: Any = "feedforward") -> Trainer:
    metrics = ConfusionMatrix(), MeanSquaredError()
    return make(TrainingPlan(epochs=1, batch_size=10, evaluation=prediction, metrics=metrics))


def together(size: int, of: Callable[[Ranks, Trainer], Any], prediction: Any) -> list[Any]:
    """Returns what each of so many threads comes to: the error where it raises one."""
    meeting = Meeting(size)

    def one(rank: int) -> Any:
        try:
            return of(Threads(rank, size, meeting), trainers[rank])
        except ns.NeurosimError as error:
            return error

    trainers = [trainer(prediction) for _ in range(size)]
    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "EVALUATION_BATCH", BATCH)


@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("prediction", ["feedforward", "settled"])
def test_sums_are_those_of_one_process(size: int, prediction: str) -> None:
    """To the bit, after the first batch in as many rounds as it takes if each does one in each."""

    def of(ranks: Ranks, trainer: Trainer) -> Any:
        evaluator = trainer.evaluator
        every = list(evaluator.batches(trainer.test, ranks=ranks))
        return evaluator.of(every[-1]), [so_far.samples for so_far in every]

    whole = trainer(prediction)
    expected = whole.evaluator.scores(whole.test)
    found = together(size, of, prediction)
    ends = [7, *(min(30, 7 * (n + size)) for n in range(1, BATCHES, size))]
    assert found == [(expected, ends)] * size
    assert len(expected["confusion_matrix"]) == 10


def test_machines_that_round_differently_are_found() -> None:
    def of(ranks: Ranks, trainer: Trainer) -> Any:
        if ranks.rank == 1:
            with torch.no_grad():
                next(iter(trainer.model.parameters())).mul_(1.0 + 1e-12)
        return list(trainer.evaluator.batches(trainer.test, ranks=ranks))

    said = "scores: process 1 of the training has another than process 0"
    for error in together(2, of, "feedforward"):
        assert isinstance(error, ns.ConfigurationError)
        assert said in str(error)


def test_processes_that_are_not_alike_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They compare before the first step what they read, and what they compute with."""

    def of(ranks: Ranks, trainer: Trainer) -> Any:
        ranks.check_same(compared | {"version of torch": f"2.{ranks.rank}"})

    compared = dict[str, str]()
    monkeypatch.setattr(Ranks, "check_same", lambda _, what: compared.update(what))
    ns.run(trainer(), out=tmp_path, progress=False)
    assert compared.keys() >= {"scenario", "content of its data", "version of torch"}
    assert compared["version of torch"] == torch.__version__
    monkeypatch.undo()
    for error in together(2, of, "feedforward"):
        assert isinstance(error, ns.ConfigurationError)
        assert "version of torch: process 1 of the training has another" in str(error)


@pytest.mark.parametrize("prediction", ["feedforward", "settled"])
def test_all_raise_the_error_of_the_first_batch_that_has_one(prediction: str) -> None:
    """Though another process has seen another."""

    def of(ranks: Ranks | None, trainer: Trainer) -> Any:
        images, labels = trainer.test.take(slice(None)).clone(), trainer.test.labels
        for sample, size in ((12, 1e308), (19, 1.5e308)):
            images[sample] = size
        return list(trainer.evaluator.batches(Split(images, labels), ranks=ranks))

    with pytest.raises(ns.DivergenceError) as caught:
        of(None, trainer(prediction))
    for error in together(3, of, prediction):
        assert isinstance(error, ns.DivergenceError)
        assert (str(error), vars(error)) == (str(caught.value), vars(caught.value))
