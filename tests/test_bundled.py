"""The small tables of scikit-learn: the same numbers, split as other data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn import datasets

import neurosim as ns
from neurosim.base import DataError
from neurosim.data import DataSource

CLASSES = {"iris": 3, "wine": 3, "breast_cancer": 2, "diabetes": None, "linnerud": None}


@pytest.mark.parametrize("name", CLASSES)
def test_the_numbers_are_those_of_scikit_learn(name: str) -> None:
    data = DataSource.family[name](split="ordered", test=0.25).read(Path())
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    parts = [part.take(slice(None)).flatten(1).numpy() for part in (data.train, data.test)]
    np.testing.assert_array_equal(np.concatenate(parts), x.astype(np.float32))
    learned = np.concatenate([part.labels.numpy() for part in (data.train, data.test)])
    np.testing.assert_array_equal(learned, y.astype(learned.dtype))
    assert data.classes == CLASSES[name]
    assert len(data.test) == round(len(x) / 4)


def test_a_run_learns_from_one(tmp_path: Path) -> None:
    scenario = tmp_path / "wine.yaml"
    scenario.write_text(
        "name: wine\nnetwork: {input: [13], layers: [{dense: 3}]}\n"
        "data: {kind: wine, split: stratified, standardize: channel, batch_size: 12}\n"
        "schedule: {kind: sweep}\nplasticity: {optimizer: {kind: adam, lr: 0.03}}\n"
        "training: {epochs: 8}\n"
    )
    run = ns.run(scenario, out=tmp_path / "runs")
    assert run.summary["test_accuracy"] >= 0.9


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"iris: comes with .*pip install 'neurosim\[sklearn\]'"):
        DataSource.of("iris").read(Path())
