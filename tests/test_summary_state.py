"""What a checkpoint says of itself and of the summary is of its kind, or refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from forged import WRONG, leaves, replaced

from neurosim.base import StateError
from neurosim.learning import events, save_state
from neurosim.runs.listeners.files import VERSION, RunSummary, last_checkpoint
from neurosim.tensors import complete

ANGLE = {"total_angle": 12.0, "total_norm_ratio": 1.0}


def used() -> RunSummary:
    """That of a run with an epoch and a probe."""
    summary = RunSummary()
    summary.on_epoch(events.EpochEvent(1, 10, 0.5, 0.9, {}, metrics={"test_top_5": 0.95}))
    summary.on_trace(events.TraceEvent(1, 10, "gradient_angle", {"tick": 3, **ANGLE}))
    return summary


def test_it_comes_back() -> None:
    one, other = used(), RunSummary()
    other.load_state_dict(one.state_dict())
    assert other.numbers() == one.numbers()
    assert other.times()["epoch_seconds"] == one.times()["epoch_seconds"]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_what_is_forged(value: Any) -> None:
    """It is refused, or is as good as what was there: a summary can be written of it."""
    state = used().state_dict()
    for way, _ in leaves(state):
        summary = RunSummary()
        try:
            with complete("summary"):
                summary.load_state_dict(replaced(state, way, value))
        except StateError:
            continue
        assert json.dumps(summary.numbers() | summary.times())
        summary.on_trace(events.TraceEvent(1, 20, "gradient_angle", {"tick": 0, **ANGLE}))


@pytest.mark.parametrize("value", [torch.zeros(2), "5", None, [5]], ids=repr)
def test_the_version_is_a_number(value: Any, tmp_path: Any) -> None:
    (tmp_path / "checkpoints").mkdir()
    about = {"scenario": "", "data": "", "trainer": {}, "listeners": []}
    path = tmp_path / "checkpoints/last.safetensors"
    save_state(path, {**about, "version": value})
    with pytest.raises(StateError, match="should be"):
        last_checkpoint(tmp_path)
    save_state(path, {**about, "version": VERSION - 1})
    with pytest.raises(StateError, match="another version"):
        last_checkpoint(tmp_path)
