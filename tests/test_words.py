"""Numbers and values of documents as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from neurosim.base.words import plus_minus, spoken


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((38.2, 41.1), "39.7 ± 2.1"),
        ((1.0e-4, 1.6e-4), "(1.30 ± 0.42)·10⁻⁴"),
        ((9.0e-7, 10.0e-7), "(9.50 ± 0.71)·10⁻⁷"),
        ((-3.0e-9, 3.0e-9), "(0.0 ± 4.2)·10⁻⁹"),
        ((0.25, 0.25), "0.25 ± 0"),
        ((2.0e300, 1.0e300), "1.5e+300 ± 7.1e+299"),
    ],
)
def test_mean_and_deviation_have_one_power_of_ten(values: tuple[float, ...], said: str) -> None:
    assert plus_minus(values, len(values)).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (True, "true"),
        ([], "none"),
        ({"ticks": 8, "kind": "parallel"}, "parallel, ticks: 8"),
        ({"jitter": {"kind": "uniform", "low": 0}}, "jitter: (uniform, low: 0)"),
        ([{"kind": "loss", "every": 2}, "wakes"], "loss, every: 2; wakes"),
        ({"states": {"h1": [0, 5]}}, "states: h1: (0, 5)"),
        ("a: b", "a: b"),
    ],
)
def test_values_of_documents(value: Any, said: str) -> None:
    assert spoken(value) == said
