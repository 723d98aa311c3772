"""Whatever a saved state holds, it is refused in words or gone on with: no error of Python's own.

A checksum finds what was damaged by chance. These states are wrong on purpose, value by value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import SCHEDULES, Case, phased_cases
from torch import Tensor

from neurosim.base import NeurosimError
from neurosim.conformance.simulations import Setup

# Every array, number and list of a state is replaced by each of these.
WRONG = ["x", [], {}, None, 1.5, 3, True, (1,), torch.zeros(2), torch.zeros(())]
UNITS = {"mlp": "neuron", "skip": "population", "conv": "tile"}
CASES = [
    Case(network, schedule, unit, init, None, learn, effects=effects)
    for network, unit in UNITS.items()
    for schedule in SCHEDULES
    for init, learn, effects in (("carry", 2, True), ("zero", None, False))
]
FEW = [case for turn, case in enumerate(CASES) if turn % 7 == 0]
FEW += phased_cases(0, 19)


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Everything below a node, with the way to it."""
    found = node.items() if isinstance(node, dict) else ()
    found = enumerate(node) if isinstance(node, list | tuple) else found
    for key, value in found:
        yield (*path, key), value
        yield from leaves(value, (*path, key))


def replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value in one place."""
    if not path:
        return value
    key, *rest = path
    if isinstance(node, dict):
        return node | {key: replaced(node[key], tuple(rest), value)}
    made = list(node)
    made[key] = replaced(node[key], tuple(rest), value)
    return tuple(made) if isinstance(node, tuple) else made


def wrong(value: Any) -> Iterator[Any]:
    """What is put in its place: of another kind, type, or shape."""
    yield from WRONG
    if isinstance(value, Tensor):
        for dtype in (torch.float32, torch.float64, torch.int64, torch.complex128, torch.bool):
            if dtype != value.dtype:
                yield value.to(dtype)
        yield from (value.flatten(), value[..., None], value[None])
        yield from (value[:1] if value.dim() else value, torch.full_like(value, 7))
        yield torch.full_like(value, 1)


def gone_on_with(case: Case, state: Any) -> None:
    """Loads a state, and runs the inference to its end."""
    setup = case.build()
    setup.simulation.load_state_dict(state, optimizer=setup.optimizer)
    setup.simulation.advance()
    setup.simulation.finish()
    setup.simulation.state_dict()


def under_way(case: Case) -> Setup:
    setup = case.build()
    setup.start(0)
    setup.simulation.advance(4)
    return setup


def kind(path: tuple[Any, ...]) -> str:
    """The place of a value, whatever its number in a list."""
    return ".".join("#" if isinstance(key, int) else str(key) for key in path)


@pytest.mark.slow
@pytest.mark.parametrize("case", FEW, ids=str)
def test_no_value_ends_in_an_error_of_python(case: Case) -> None:
    state = under_way(case).simulation.state_dict()
    gone_on_with(case, state)  # as it is
    tried, found = set[tuple[str, str]](), list[str]()
    for path, value in leaves(state):
        for number, other in enumerate(wrong(value)):
            if (place := (kind(path), f"{type(value)} {number}")) in tried:
                continue
            tried.add(place)
            try:
                gone_on_with(case, replaced(state, path, other))
            except NeurosimError:
                pass
            except Exception as error:
                found.append(f"{'.'.join(map(str, path))} = {other!r:.40}: {error!r:.80}")
    assert found == []
    assert len(tried) > 500
