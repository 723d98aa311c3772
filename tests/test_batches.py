"""Batches: their order, their position, and random crops and flips of training images alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cifar import small_cifar10, write_cifar10

from neurosim.base.errors import ConfigurationError, DataError, StateError
from neurosim.base.random import stream
from neurosim.cli.main import main
from neurosim.data.augmentation import Augmentation, Crop, CropFlip, Flip, Padding
from neurosim.data.batches import Batches
from neurosim.data.dataset import Split
from neurosim.data.standardization import Standard
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


PAPERS = Standard((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def some_bytes(count: int, height: int = 6, width: int = 5) -> torch.Tensor:
    values = np.random.default_rng(3).integers(1, 256, (count, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(values)


def split(count: int) -> Split:
    return Split(some_bytes(count), torch.arange(count), PAPERS)


def augmented(count: int, augmentation: Augmentation | None = None, seed: int = 0) -> Batches:
    how = augmentation or CropFlip()
    draws = stream(seed, "augmentation")
    return Batches(split(count), 4, stream(seed, "batches"), augmentation=how, draws=draws)


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
        ({"order": torch.arange(6)}, "no permutation of these 5 samples"),
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
    with pytest.raises(DataError, match=r"batch_size 6 .* 5 samples"):
        Batches(numbered(5), 6, generator)
    with pytest.raises(ConfigurationError, match="not 0"):
        Batches(numbered(5), 0, generator)


# ---- crops and flips ---------------------------------------------------------------------------


def test_every_image_is_a_crop_of_its_own() -> None:
    images = some_bytes(300)
    found = CropFlip()(images, stream(0, "augmentation"))
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


def crop(padded: torch.Tensor, top: int, left: int, mirrored: Any) -> torch.Tensor:
    found = padded[:, top : top + 6, left : left + 5]
    return found.flip(2) if mirrored else found


def test_the_draws_are_a_stream_of_their_own() -> None:
    """Cropping does not change which images a batch has; padding is black, so before numbers."""
    plain = Batches(split(9), 4, stream(0, "batches"))
    cropped = augmented(9)
    same = stream(0, "augmentation")
    for _ in range(5):
        (x, labels), (y, others) = plain.next(), cropped.next()
        assert labels.equal(others)
        assert y.equal(PAPERS.of(CropFlip()(some_bytes(9)[labels], same)))
        assert not y.equal(x)


def test_crops_can_be_continued() -> None:
    batches = augmented(9)
    for _ in range(3):
        batches.next()
    state = batches.state_dict()
    expected = [batches.next()[0] for _ in range(4)]
    again = augmented(9, seed=7)
    again.load_state_dict(state)
    assert all(again.next()[0].equal(images) for images in expected)


def test_states_with_and_without_crops() -> None:
    plain = Batches(split(9), 4, stream(0, "batches"))
    cropped = augmented(9)
    with pytest.raises(StateError, match="lack crops"):
        cropped.load_state_dict(plain.state_dict())
    with pytest.raises(StateError, match="saved batches are augmented, these are not"):
        plain.load_state_dict(cropped.state_dict())
    before = cropped.state_dict()
    with pytest.raises(StateError, match="another kind of generator"):
        cropped.load_state_dict(before | {"crops": np.random.MT19937(0).state})
    assert cropped.state_dict()["crops"] == before["crops"]


REFLECT = {"black": "constant", "zero": "constant", "edge": "edge", "reflect": "reflect"}


@pytest.mark.parametrize("pad", [1, 4])
@pytest.mark.parametrize("padding", ["black", "zero", "edge", "reflect"])
@pytest.mark.parametrize("kind", [Crop, CropFlip])
def test_paddings(kind: type[Crop], padding: Padding, pad: int) -> None:
    """Against numpy's, image by image; `zero` pads images that are standardized already."""
    images = some_bytes(40)
    numbers = PAPERS.of(images) if padding == "zero" else images
    edges = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    padded = torch.from_numpy(np.pad(numbers.numpy(), edges, mode=REFLECT[padding]))  # type: ignore[call-overload]
    draws = stream(0, "augmentation")
    top, left = draws.integers(0, 2 * pad + 1, (2, 40))
    mirrored = draws.integers(0, 2, 40) if kind is CropFlip else np.zeros(40)
    rows = zip(padded, top, left, mirrored, strict=True)
    expected = torch.stack([crop(image, t, edge, m) for image, t, edge, m in rows])
    source = Split(images, torch.arange(40), PAPERS)
    options = {"augmentation": kind(pad, padding), "draws": stream(0, "augmentation")}
    found, _ = Batches(source, 40, stream(0, "batches"), shuffle=False, **options).next()  # type: ignore[arg-type]
    assert found.equal(expected if padding == "zero" else PAPERS.of(expected))


def test_flips_alone() -> None:
    images = some_bytes(50)
    mirrored = stream(0, "augmentation").integers(0, 2, 50) == 1
    found = Flip()(images, stream(0, "augmentation"))
    assert 10 < mirrored.sum() < 40
    for before, after, turned in zip(images, found, mirrored, strict=True):
        assert after.equal(before.flip(2) if turned else before)


def test_what_cannot_be_augmented() -> None:
    flat = Split(torch.zeros(4, 9), torch.zeros(4, dtype=torch.int64))
    draws = stream(0, "augmentation")
    with pytest.raises(DataError, match=r"\(9,\) cannot be augmented; that needs \(C, H, W\)"):
        Batches(flat, 2, stream(0, "batches"), augmentation=Flip(), draws=draws)
    with pytest.raises(DataError, match="pad is 5; images of 6×5 pixels can be reflected by 4"):
        augmented(9, Crop(5, "reflect"))
    with pytest.raises(ConfigurationError, match="an augmentation needs draws"):
        Batches(flat, 2, stream(0, "batches"), augmentation=Flip())


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
        assert part.take(slice(4)).equal(PAPERS.of(part.images[:4]))


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
    assert "augment:\n    kind: crop_flip\n    pad: 4\n    padding: black\n" in resolved
    assert f"root: {tmp_path}" in resolved


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{name: cifar10, root: ., augment: flop}", "data.augment"),
        ("{name: cifar10, root: ., augment: {kind: crop, padding: white}}", "data.augment.padding"),
        ("{name: cifar10, root: ., augment: {kind: crop, pad: 32, padding: reflect}}", "by 31 at"),
        ("{name: cifar10}", "needs the key 'root'"),
        ("{name: cifar10, root: nowhere}", "nowhere: no such folder; give the one that has"),
        ("{name: cifar100, root: .}", "no train.bin, test.bin; put CIFAR-100's binary files"),
        ("{name: imagenet32, root: .}", "no train_data_batch_1.npz, "),
        ("{name: cifar10, root: ., batch_size: 17}", "20 training samples, 4 of them held out"),
        (
            "{name: cifar10, root: ., limit: 2}",
            "is left; choose a smaller training.validation, or a",
        ),
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
