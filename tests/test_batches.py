"""Batches: their order, their position, and random crops and flips of training images alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cifar import small_cifar10, write_cifar10

from neurosim.base.errors import ConfigurationError, DataError, StateError
from neurosim.base.random import stream
from neurosim.cli.main import main
from neurosim.data.batches import Batches, crop_flip
from neurosim.data.dataset import Split
from neurosim.data.source import CIFAR10
from neurosim.scenario.scenario import Scenario

SCENARIO = """
name: tiny
network: {input: [3, 32, 32], layers: [{conv: 4, pool: {kind: max, kernel: 8}}, {dense: 10}]}
data: {name: cifar10, root: ., batch_size: 3, augment: crop_flip}
rule: {kind: dual_propagation, nudge: prediction}
loss: cross_entropy
schedule: {kind: sweep, order: backward}
training: {epochs: 2, validation: 4}
device: cpu
"""


def some_bytes(count: int, height: int = 6, width: int = 5) -> torch.Tensor:
    values = np.random.default_rng(3).integers(1, 256, (count, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


def split(count: int) -> Split:
    return Split(some_bytes(count), torch.arange(count), CIFAR10.standard)


def numbered(count: int) -> Split:
    """Images (N, 1, 2) that can be told apart, labelled by their index."""
    index = torch.arange(count)
    return Split((2 * index).reshape(-1, 1, 1).expand(-1, 1, 2) + torch.tensor([0.0, 0.5]), index)


# ---- order and position ------------------------------------------------------------------------


def test_an_epoch_takes_every_image_once_but_the_remainder() -> None:
    split = numbered(23)
    batches = Batches(split, 5, np.random.default_rng(0))
    assert len(batches) == 4
    orders = []
    for epoch in range(3):
        labels = []
        for position in range(1, 5):
            x, y = batches.next()
            assert x.equal(split.images[y])
            assert x.shape == (5, 1, 2)
            assert (batches.epoch, batches.position) == (epoch, position)
            labels += y.tolist()
        assert len(set(labels)) == 20
        orders.append(labels)
    assert orders[0] != orders[1] != orders[2]


def test_the_order_is_the_generators() -> None:
    batches = Batches(numbered(6), 6, np.random.default_rng(7))
    same = np.random.default_rng(7)
    for _ in range(3):
        assert batches.next()[1].tolist() == same.permutation(6).tolist()


def test_without_shuffling_nothing_is_drawn() -> None:
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    batches = Batches(numbered(7), 3, generator, shuffle=False)
    taken = [batches.next()[1].tolist() for _ in range(4)]
    assert taken == [[0, 1, 2], [3, 4, 5]] * 2
    assert generator.bit_generator.state == before


def test_batches_are_copies() -> None:
    split = numbered(4)
    batches = Batches(split, 4, np.random.default_rng(0), shuffle=False)
    before = split.images.clone()
    x, y = batches.next()
    x.zero_()
    y.zero_()
    assert split.images.equal(before)
    assert split.labels.tolist() == [0, 1, 2, 3]


@settings(deadline=None)
@given(
    taken=st.integers(0, 9),
    size=st.integers(1, 11),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_resumed_batches_are_identical(taken: int, size: int, shuffle: bool, seed: int) -> None:
    split = numbered(11)
    batches = Batches(split, size, np.random.default_rng(seed), shuffle)
    for _ in range(taken):
        batches.next()
    state = batches.state_dict()
    order = state.pop("order")
    # Plain data: numbers survive JSON, the permutation is an int64 tensor.
    state = {**json.loads(json.dumps(state)), "order": order}
    assert order.dtype == torch.int64
    expected = [batches.next() for _ in range(25)]

    resumed = Batches(split, size, np.random.default_rng(seed + 1), shuffle)
    resumed.load_state_dict(state)
    for x, y in expected:
        again_x, again_y = resumed.next()
        assert again_x.equal(x)
        assert again_y.equal(y)
    assert (resumed.epoch, resumed.position) == (batches.epoch, batches.position)


def test_state_survives_torch_save() -> None:
    batches = Batches(numbered(5), 2, np.random.default_rng(0))
    file = io.BytesIO()
    torch.save(batches.state_dict(), file)
    file.seek(0)
    expected = batches.next()[1]
    other = Batches(numbered(5), 2, np.random.default_rng(1))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.next()[1].equal(expected)


def test_a_loaded_state_is_not_shared() -> None:
    batches = Batches(numbered(5), 5, np.random.default_rng(0))
    state = batches.state_dict()
    batches.load_state_dict(state)
    expected = state["order"].tolist()
    state["order"].zero_()
    assert batches.next()[1].tolist() == expected


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"batch_size": 3}, "batch_size 3, these have 2"),
        ({"shuffle": False}, "shuffle False, these have True"),
        ({"order": torch.arange(6)}, "no permutation of these 5 images"),
        ({"order": torch.tensor([0, 1, 2, 3, 3])}, "no permutation"),
        ({"order": torch.arange(5.0)}, "no permutation"),
        ({"position": 3}, r"position 3 of epoch 0 is not in 0 … 2"),
        ({"epoch": -1}, "epoch -1"),
        ({"generator": np.random.MT19937(0).state}, "another kind of generator"),
        ({"generator": {"bit_generator": "PCG64", "state": {"state": 1}}}, "another kind"),
    ],
)
def test_a_foreign_state_is_refused(changed: dict[str, object], problem: str) -> None:
    batches = Batches(numbered(5), 2, np.random.default_rng(0))
    before = batches.state_dict()
    with pytest.raises(StateError, match=problem):
        batches.load_state_dict({**before, **changed})
    after = batches.state_dict()
    assert after.pop("order").equal(before.pop("order"))
    assert after == before


def test_an_incomplete_state_is_refused() -> None:
    batches = Batches(numbered(5), 2, np.random.default_rng(0))
    with pytest.raises(StateError, match="lack batch_size, generator, order, position, shuffle"):
        batches.load_state_dict({"epoch": 0})


def test_batch_size() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"batch_size 6 .* 5 images"):
        Batches(numbered(5), 6, generator)
    with pytest.raises(ConfigurationError, match="not 0"):
        Batches(numbered(5), 0, generator)


# ---- crops and flips ---------------------------------------------------------------------------


def test_every_image_is_a_crop_of_its_own() -> None:
    images = some_bytes(300)
    found = crop_flip(images, stream(0, "augmentation"))
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4))
    seen: set[tuple[int, int, bool]] = set()
    for before, after in zip(padded, found, strict=True):
        matches = [
            (top, left, mirrored)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            if after.equal(crop(before, top, left, mirrored))
        ]
        assert len(matches) == 1
        seen.update(matches)
    for number, values in enumerate((range(9), range(9), (False, True))):
        assert {match[number] for match in seen} == set(values)


def crop(padded: torch.Tensor, top: int, left: int, mirrored: bool) -> torch.Tensor:
    found = padded[:, top : top + 6, left : left + 5]
    return found.flip(2) if mirrored else found


def test_the_draws_are_a_stream_of_their_own() -> None:
    """Cropping does not change which images a batch has; padding is black, so before numbers."""
    plain = Batches(split(9), 4, stream(0, "batches"))
    cropped = Batches(split(9), 4, stream(0, "batches"), crops=stream(0, "augmentation"))
    same = stream(0, "augmentation")
    for _ in range(5):
        (x, labels), (y, others) = plain.next(), cropped.next()
        assert labels.equal(others)
        assert y.equal(CIFAR10.standard.of(crop_flip(some_bytes(9)[labels], same)))
        assert not y.equal(x)


def test_crops_can_be_continued() -> None:
    batches = Batches(split(9), 4, stream(0, "batches"), crops=stream(0, "augmentation"))
    for _ in range(3):
        batches.next()
    state = batches.state_dict()
    expected = [batches.next()[0] for _ in range(4)]
    again = Batches(split(9), 4, stream(7, "batches"), crops=stream(7, "augmentation"))
    again.load_state_dict(state)
    assert all(again.next()[0].equal(images) for images in expected)


def test_states_with_and_without_crops() -> None:
    plain = Batches(split(9), 4, stream(0, "batches"))
    cropped = Batches(split(9), 4, stream(0, "batches"), crops=stream(0, "augmentation"))
    with pytest.raises(StateError, match="lack crops"):
        cropped.load_state_dict(plain.state_dict())
    with pytest.raises(StateError, match="saved batches are cropped, these are not"):
        plain.load_state_dict(cropped.state_dict())
    before = cropped.state_dict()
    with pytest.raises(StateError, match="another kind of generator"):
        cropped.load_state_dict(before | {"crops": np.random.MT19937(0).state})
    assert cropped.state_dict()["crops"] == before["crops"]


def test_flat_images_cannot_be_cropped() -> None:
    flat = Split(torch.zeros(4, 9), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(DataError, match=r"\(9,\) cannot be cropped; that needs \(C, H, W\)"):
        Batches(flat, 2, stream(0, "batches"), crops=stream(0, "augmentation"))


# ---- in a scenario -----------------------------------------------------------------------------


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_cifar10(monkeypatch)
    write_cifar10(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SCENARIO)
    return tmp_path / "tiny.yaml"


def test_only_training_images_are_cropped(scenario: Path) -> None:
    loaded = Scenario.load(scenario)
    one, other = (loaded.trainer(loaded.data()) for _ in range(2))
    (images, labels), (same, _) = one.batches.next(), other.batches.next()
    assert images.equal(same)
    plain = Scenario.load(scenario, ["data.augment=null"])
    bare, numbers = plain.trainer(plain.data()).batches.next()
    assert labels.equal(numbers)
    assert not images.equal(bare)
    assert one.validation is not None
    for part in (one.test, one.validation):
        assert one.evaluate(part) == other.evaluate(part)
        assert part.take(slice(4)).equal(CIFAR10.standard.of(part.images[:4]))


def test_an_interrupted_training_goes_on_bit_for_bit(scenario: Path) -> None:
    loaded = Scenario.load(scenario)
    whole = loaded.trainer(loaded.data())
    expected = list(whole.events())
    first, second = (loaded.trainer(loaded.data()) for _ in range(2))
    stops = iter([False] * 12 + [True] * 9)
    events = list(first.events(lambda: next(stops)))
    assert 0 < first.step < first.steps
    second.load_state_dict(first.state_dict())
    events += list(second.events())
    assert events == expected
    for key, value in whole.model.state_dict().items():
        assert second.model.state_dict()[key].equal(value)


def test_a_run(scenario: Path, tmp_path: Path) -> None:
    arguments = ["run", str(scenario), "--out", str(tmp_path / "out"), "--id", "it"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    resolved = (tmp_path / "out/tiny/it/scenario.yaml").read_text()
    assert "augment: crop_flip" in resolved
    assert f"root: {tmp_path}" in resolved


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{name: digits, augment: crop_flip}", "unknown key 'augment'"),
        ("{name: cifar10, root: ., augment: flip}", "data.augment"),
        ("{name: cifar10}", "needs the key 'root'"),
        ("{name: cifar10, root: nowhere}", "nowhere: no such folder; give the one that has"),
        ("{name: cifar100, root: .}", "no train.bin, test.bin; put CIFAR-100's binary files"),
        ("{name: imagenet32, root: .}", "no train_data_batch_1.npz, "),
        ("{name: cifar10, root: ., batch_size: 17}", "20 training images, 4 of them held out"),
        ("{name: cifar10, root: ., limit: 2}", "no batch of 50 is left"),
    ],
)
def test_what_a_scenario_cannot_say(scenario: Path, data: str, said: str) -> None:
    text = SCENARIO.splitlines()
    assert text[3].startswith("data: ")
    scenario.write_text("\n".join([*text[:3], f"data: {data}", *text[4:]]))
    result = CliRunner().invoke(main, ["validate", str(scenario)])
    assert result.exit_code == 2, (result.output, result.exception)
    (line,) = result.stderr.splitlines()
    assert line.startswith((f"error: {scenario}:4:", f"error: {scenario}:8:"))
    assert said in line
