"""What is written when somebody asks for it: values of a slot, and marks of who is up to date."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neurosim.tensors import Selection, Slot, Stale

pytest.importorskip("numba")  # of which `Slot.put_numbers` is

CPU = torch.device("cpu")
MEMBERS = st.lists(st.integers(0, 5), min_size=1, unique=True).map(sorted)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "next", "numbers", "all", "pass", "set", "read", "taken"]),
        MEMBERS,
        st.integers(1, 1000),
    ),
    max_size=12,
)


@given(steps=STEPS, empty=st.booleans())
def test_values_that_are_written_late_are_those(
    steps: list[tuple[str, list[int], int]], empty: bool
) -> None:
    """Whoever asks in between, and whoever writes them."""
    slot, known = Slot((6,)), torch.zeros(2, 6)
    if not empty:
        slot.set(known.clone())
    held: list[tuple[Tensor, Tensor]] = []  # arrays given out, and what was in them
    for kind, members, number in steps:
        chosen = Selection((6,), np.array(members), CPU)
        values = torch.full((2, len(members)), float(number))
        match kind:
            case "put" | "next" | "pass" | "taken":
                late = kind == "pass" or number % 2 == 0
                slot.put(chosen, values, taken_next=kind != "put", late=late)
                known = known.clone()
                known[:, members] = values
                if kind == "taken":
                    assert torch.equal(slot.some(chosen), values)
                if kind == "pass" and (rows := slot.late_numbers(chosen)) is not None:
                    rows[:, members] = values.numpy()
            case "numbers":
                if slot.numbers() is not None:
                    slot.put_numbers(chosen, values.numpy())
                    known = known.clone()
                    known[:, members] = values
            case "set":
                known = known + number
                slot.set(known)
            case "all":
                if (array := slot.take(None)) is not None:
                    held.append((array, array.clone()))
            case "read":
                assert (slot.take(chosen) is None) == (slot.tensor is None)
    array = slot.tensor
    assert torch.equal(torch.zeros(2, 6) if array is None else array, known)
    assert all(torch.equal(one, other) for one, other in held)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["touch", "clear", "look", "part", "all", "none", "saved"]), MEMBERS
        ),
        max_size=12,
    )
)
def test_what_is_out_of_date_is_known_late(steps: list[tuple[str, list[int]]]) -> None:
    """Whoever asks in between."""
    stale, known = Stale((6,)), np.ones(6, dtype=bool)
    for kind, members in steps:
        chosen = Selection((6,), np.array(members), CPU)
        match kind:
            case "touch" | "clear":
                getattr(stale, kind)(chosen)
                known[members] = kind == "touch"
            case "look":
                assert stale.look(chosen) == known[members].any()
                known[members] = False
            case "part":
                part, due = stale.part(chosen, CPU), [m for m in members if known[m]]
                assert (part.dyads.tolist() if part else []) == due
            case "all" | "none":
                (stale.touch if kind == "all" else stale.clear)(None)
                known[:] = kind == "all"
            case "saved":
                again = Stale((6,))
                again.load(stale.save(lambda array: array), lambda array: array)
                stale = again
    assert np.array_equal(np.broadcast_to(np.asarray(stale.mask), 6), known)
