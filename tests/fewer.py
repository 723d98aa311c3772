"""What the fast suite takes of many cases; the slow one takes all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature, signature
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy


def randomly(
    few: int, many: int, *drawn: SearchStrategy[Any], **options: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test of a function whose last arguments are ``drawn``: of few examples, each of which
    is slow, and of many where slow tests are run. Options are hypothesis's settings."""

    def test_of(function: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.slow)])
        def test(count: int, **others: Any) -> None:
            settings(max_examples=count, **options)(given(*drawn)(function))(**others)

        others = list(signature(function).parameters.values())[: -len(drawn)]
        taken = [Parameter("count", Parameter.POSITIONAL_OR_KEYWORD), *others]
        test.__signature__ = Signature(taken)  # type: ignore[attr-defined]
        test.__doc__ = function.__doc__
        return test

    return test_of


def covering(
    cases: Iterable[Any], values: Callable[[Any], Iterable[Any]] = tuple, of: int = 2
) -> list[Any]:
    """Returns cases as parameters of a test: a few with which each pair of their values occurs that
    occurs in all of them (chosen greedily, always the same ones), or each combination ``of`` so
    many. The others are slow."""
    found, bits = list(cases), dict[Any, int]()
    pairs = [combinations(enumerate(values(case)), of) for case in found]
    masks = [sum(bits.setdefault(pair, 1 << len(bits)) for pair in own) for own in pairs]
    left, kept = (1 << len(bits)) - 1, set[int]()
    while left:
        most = max(range(len(found)), key=lambda number: (masks[number] & left).bit_count())
        left &= ~masks[most]
        kept.add(most)
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if number in kept else pytest.mark.slow,
        )
        for number, case in enumerate(found)
    ]
