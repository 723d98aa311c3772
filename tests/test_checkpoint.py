"""State files: whatever is saved comes back; whatever is damaged is refused."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neurosim.base import DataError, write_atomic
from neurosim.learning import checkpoint
from neurosim.learning.checkpoint import load_state, save_state

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
SHAPES = st.lists(st.integers(0, 3), max_size=4)
# 300 bits: the state of a PCG64 generator is a pair of whole numbers of 128 bits.
NUMBERS = st.integers(-(2**300), 2**300) | st.floats() | st.booleans() | st.none()
TEXT = st.text(st.characters(), max_size=8)  # any character, half surrogates too


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape, dtype = draw(SHAPES), draw(st.sampled_from(DTYPES))
    seed = draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(shape, generator=generator).mul(100).to(dtype)
    return value.transpose(0, 1) if len(shape) > 1 and draw(st.booleans()) else value


KEYS = TEXT | st.integers() | st.none() | st.booleans() | st.tuples(TEXT, st.integers())
TREES = st.recursive(
    NUMBERS | TEXT | tensors(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, with NaN equal to NaN, and dictionaries in order."""
    if type(one) is not type(other):
        return False
    match one:
        case Tensor():
            if (one.dtype, one.shape) != (other.dtype, other.shape):
                return False
            # Bits, not values: NaN is equal to itself and 0 is not −0.
            bits = [t.contiguous().view(-1).view(torch.uint8) for t in (one, other) if t.numel()]
            return not bits or torch.equal(*bits)
        case dict():
            return len(one) == len(other) and all(
                same(a, b)
                for pair in zip(one.items(), other.items(), strict=True)
                for a, b in zip(*pair, strict=True)
            )
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case float():
            return struct.pack("d", one) == struct.pack("d", other)
        case _:
            return bool(one == other)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@given(tree=TREES)
def test_whatever_is_saved_comes_back(folder: Path, tree: Any) -> None:
    path = folder / "tree.safetensors"
    save_state(path, tree)
    assert same(load_state(path), tree)


def test_single_values_of_any_stride(tmp_path: Path) -> None:
    """As the real part of a complex one is: torch calls it contiguous all the same."""
    tree = [torch.tensor([1.5 + 2.0j]).real, torch.arange(6.0).view(3, 2)[:1, 1:]]
    assert tree[0].stride() == (2,)
    save_state(tmp_path / "s", tree)
    found = load_state(tmp_path / "s")
    assert all(map(torch.equal, found, tree))


def test_what_training_saves_comes_back(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tree = {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict()}
    save_state(tmp_path / "s", tree)
    assert same(load_state(tmp_path / "s"), tree)


def test_a_tensor_that_occurs_twice_is_stored_once(tmp_path: Path) -> None:
    large = torch.arange(100_000, dtype=torch.float32)
    view = large[:10]  # shares memory, but is another tensor
    save_state(tmp_path / "s", {"a": large, "b": [large, (large,)], "c": view})
    assert (tmp_path / "s").stat().st_size < 1.1 * large.nbytes
    loaded = load_state(tmp_path / "s")
    assert loaded["a"] is loaded["b"][0] is loaded["b"][1][0]
    assert same(loaded["c"], large[:10].clone())


def test_saving_copies_no_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would need the memory of the whole state a second and a third time."""
    seen: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(checkpoint, "save_file", lambda tensors, path, about: seen.update(tensors))
    tree = {"a": torch.ones(1000), "b": [torch.zeros(2, 3)], "turned": torch.ones(3, 4).t()}
    save_state(tmp_path / "s", tree)
    assert [seen["t0"].data_ptr(), seen["t1"].data_ptr()] == [
        tree["a"].data_ptr(),  # type: ignore[attr-defined]
        tree["b"][0].data_ptr(),  # type: ignore[index]
    ]
    assert seen["t2"].is_contiguous()


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-folder"):
        save_state(tmp_path / "no-such-folder" / "s", {"a": torch.ones(3)})


def test_loading_makes_copies(tmp_path: Path) -> None:
    value = torch.ones(3, requires_grad=True)
    save_state(tmp_path / "s", [value])
    with torch.no_grad():
        value.zero_()
    (first,), (second,) = load_state(tmp_path / "s"), load_state(tmp_path / "s")
    first.fill_(5.0)
    assert second.tolist() == [1.0, 1.0, 1.0]
    assert not second.requires_grad


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 1j, torch.float32, Path("x")])
def test_refuses_what_a_state_cannot_hold(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=f"cannot hold a {type(value).__name__}"):
        save_state(tmp_path / "s", {"a": [value]})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    save_state(tmp_path / "s", {"a": 1})
    with pytest.raises(TypeError):
        save_state(tmp_path / "s", {"a": {1}})
    assert load_state(tmp_path / "s") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_file_has_the_permissions_that_the_process_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_state(tmp_path / "s", {"a": torch.ones(2)})
        write_atomic(tmp_path / "t", "text")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o640] * 2


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    save_state(tmp_path / "s", {"a": torch.zeros(10)})
    with (tmp_path / "s").open("rb") as reader:
        save_state(tmp_path / "s", {"a": torch.ones(1000)})
        before = reader.read()
    assert len(before) < 1000
    assert load_state(tmp_path / "s")["a"].sum() == 1000


# ---- files that are not states -----------------------------------------------------------------

TREE = {"step": 7, "model": {"h1.weight": torch.arange(6.0).view(2, 3)}, "rates": [1e-3, None]}


def saved(tmp_path: Path) -> bytes:
    save_state(tmp_path / "s", TREE)
    return (tmp_path / "s").read_bytes()


def header(content: bytes) -> Any:
    """The header of a safetensors file: its length in eight bytes, then JSON."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size])


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_state(path)
    message = str(caught.value)
    assert str(path) in message
    return message


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing")
    assert "is a folder" in refusal(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path)
    path = tmp_path / "cut"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        refusal(path)
    path.write_bytes(content + b"\0")
    refusal(path)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_flipped_byte_is_refused(tmp_path: Path, mask: int) -> None:
    """Also where it is in the data: training must not go on from a wrong weight."""
    content = saved(tmp_path)
    path = tmp_path / "flipped"
    for index in range(len(content)):
        damaged = bytearray(content)
        damaged[index] ^= mask
        path.write_bytes(damaged)
        try:
            loaded = load_state(path)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
        else:
            # An escape in the JSON may be written in two ways; the tree is what counts.
            assert same(loaded, TREE), f"byte {index} of {len(content)}"


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "damaged"),
        (b"hello", "damaged"),
        (b"\xff" * 100, "damaged"),
        (b"name: lazy\nseed: 0\n", "damaged"),
        (pickle.dumps({"a": 1}), "damaged"),
        (safetensors.torch.save({"w": torch.ones(2)}), "not a state of this program"),
        (safetensors.torch.save({"w": torch.ones(2)}, {"format": "pt"}), "not a state"),
    ],
)
def test_a_file_of_something_else(tmp_path: Path, content: bytes, fragment: str) -> None:
    path = tmp_path / "s"
    path.write_bytes(content)
    assert fragment in refusal(path)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "pickle").write_bytes(pickle.dumps(Evil()))
    torch.save({"a": Evil()}, tmp_path / "torch")
    for name in ("pickle", "torch"):
        refusal(tmp_path / name)
    assert not (tmp_path / "executed").exists()


TREES = [
    '{"tensor": "t9"}',
    '{"tensor": ["t0"]}',
    '{"tensor": {}}',
    '{"dict": 5}',
    '{"dict": [5]}',
    '{"dict": [[1]]}',
    '{"dict": [[{"list": []}, 1]]}',
    '{"list": 3}',
    '{"list": null}',
    '{"tuple": 3}',
    '{"set": []}',
    '{"dict": [], "list": []}',
    "{}",
    "{",
    "",
    '{"list": [' * 100_000,
    '{"list": [' * 5_000 + "]}" * 5_000,
    '{"tensor": ["t0", 5]}',
    '{"tensor": ["t0", -1, 1]}',
    '{"tensor": ["t0", "x", 1]}',
    '{"tensor": ["t0", 4611686018427387904, 4611686018427387904]}',
    '{"tensor": ["t0", null, []]}',
    '{"complex": "t0"}',
    '{"complex": ["t0", 1, 2]}',
]


@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_a_tree_that_makes_no_sense(tmp_path: Path, tree: str) -> None:
    metadata = header(saved(tmp_path))["__metadata__"]
    path = tmp_path / "s"
    path.write_bytes(safetensors.torch.save({"t0": torch.ones(1)}, metadata | {"tree": tree}))
    assert "damaged" in refusal(path)
    del metadata["tree"]
    path.write_bytes(safetensors.torch.save({"t0": torch.ones(1)}, metadata))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_a_tree_whose_author_knows_checksums(tmp_path: Path, tree: str) -> None:
    """Anybody can compute one: what comes of such a file is a tree, or an error in words."""
    path, tensors = tmp_path / "s", {"t0": torch.ones(2, 3)}
    known = {"format": "neurosim-state-1", "tree": tree}
    known["sha256"] = checkpoint._digest(tree, tensors)
    path.write_bytes(safetensors.torch.save(tensors, known))
    if tree != '{"tensor": ["t0"]}':
        assert "damaged" in refusal(path)
    else:
        assert torch.equal(load_state(path), tensors["t0"])


def test_the_tree_is_json_in_the_metadata(tmp_path: Path) -> None:
    """A format that other programs can read, without this one."""
    metadata = header(saved(tmp_path))["__metadata__"]
    assert metadata["format"].startswith("neurosim-state-")
    assert json.loads(metadata["tree"])["dict"][0] == ["step", 7]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_tensors(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.complex(torch.randn(2, 3), torch.randn(2, 3)).to(dtype)
    save_state(tmp_path / "state.safetensors", {"a": values, "b": [values]})
    found = load_state(tmp_path / "state.safetensors")
    assert found["a"].dtype == dtype
    assert torch.equal(found["a"], values)
    assert found["b"][0] is found["a"] or torch.equal(found["b"][0], values)
