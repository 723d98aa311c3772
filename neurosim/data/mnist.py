"""MNIST, and data sets of the same form."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from neurosim.base import DataError, NeurosimWarning
from neurosim.data.dataset import Dataset, Split, check_labels
from neurosim.data.formats import read_idx
from neurosim.data.lazy import IN_MEMORY
from neurosim.data.source import Remote, StoredImages, byte_split
from neurosim.data.standardization import InMargin
from neurosim.families import Whole, register


def _idx(address: str, folder: str, *files: tuple[str, int]) -> tuple[Remote, ...]:
    """The four packed IDX files at an address: SHA-256 and size of the images and the labels for
    training, then for the test."""
    kinds = ("images-idx3", "labels-idx1")
    names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in kinds]
    return tuple(
        Remote(f"{address}{name}-ubyte.gz", *said, folder=folder)
        for name, said in zip(names, files, strict=True)
    )


# The checksums here and below are those that torchvision (MNIST) and TensorFlow Datasets (all
# others) publish.
@register("mnist")
@dataclass(frozen=True)
class MNIST(StoredImages):
    """Reads MNIST's IDX files, packed or not.

    Images are (N, 1, 28, 28) in [0, 1]: pixels are divided by 255, the papers' setting. The files
    are called ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``, with ``.gz`` or not, and
    are in the folder ``root``, or in MNIST/raw there, where torchvision has them.
    """

    remotes = _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "",
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    )
    unpacked: ClassVar[dict[int, str]] = {  # their SHA-256, by the size
        47_040_016: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        60_008: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        7_840_016: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        10_008: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    needs = "MNIST's four IDX files"
    elsewhere = "MNIST/raw"

    pad: Annotated[
        Whole, Field(description="pixels that are added on each side; 2: 32×32 pixels")
    ] = field(default=0, kw_only=True)
    padding: Annotated[
        Literal["black", "zero"], Field(description="of these; zero: 0 after standardization")
    ] = field(default="black", kw_only=True)

    def read(self, folder: Path) -> Dataset:
        if self.padding == "zero" and self.pad:
            inside = InMargin(self.standardize, self.pad)
            return replace(self, standardize=inside, padding="black").read(folder)
        return super().read(folder)

    def _splits(self, root: Path) -> Sequence[Split]:
        return [self._part(root, part) for part in ("train", "t10k")]

    def _part(self, root: Path, part: str) -> Split:
        image_file = self._find(root, f"{part}-images", 3)
        label_file = self._find(root, f"{part}-labels", 1)
        pixels, labels = read_idx(image_file, 3), read_idx(label_file, 1)
        if pixels.shape[1:] != (28, 28):
            raise DataError(f"{image_file}: images are {pixels.shape[1:]}, not (28, 28)")
        if len(pixels) != len(labels):
            raise DataError(
                f"{image_file} holds {len(pixels)} images but {label_file} {len(labels)} labels; "
                "take both from the same source"
            )
        for file in (image_file, label_file):
            self._warn_of_others(file)
        size = len(pixels) * (28 + 2 * self.pad) ** 2
        if size > IN_MEMORY:
            said = f"{len(pixels)} images take {size:,} bytes with pad {self.pad}; take less"
            raise DataError(f"{image_file}: {said}")
        # Here and not only in Dataset, because here the file can be named.
        check_labels(torch.tensor(labels), 10, str(label_file))
        around = (self.pad, self.pad)
        return byte_split(np.pad(pixels, ((0, 0), around, around))[:, None], labels)

    def _find(self, root: Path, stem: str, ndim: int) -> Path:
        names = [f"{stem}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
        for place in self._places(root):
            for name in names:
                if (place / name).is_file():
                    return place / name
        raise self._absent(root, f"none of {', '.join(names)}", root / self.inner)

    def _warn_of_others(self, path: Path) -> None:
        """Says so where a file is as long as an official one, and not that."""
        known = self.unpacked | {remote.size: remote.sha256 for remote in self.remotes}
        official = known.get(path.stat().st_size)
        with path.open("rb") as file:
            if official and hashlib.file_digest(file, "sha256").hexdigest() != official:
                said = f"is not the official file of {self.kind} (SHA-256 {official})"
                said = f"{path}: {said}: it is damaged, or of another data set in the same form"
                warnings.warn(NeurosimWarning(said), stacklevel=2)


@register("fashion_mnist")
@dataclass(frozen=True)
class FashionMNIST(MNIST):
    """Reads the IDX files of Fashion-MNIST (Xiao et al. 2017) in the folder fashion-mnist there, or
    in torchvision's FashionMNIST/raw.

    They are called as MNIST's, which is why they have a folder of their own.
    """

    inner = "fashion-mnist/"
    unpacked: ClassVar[dict[int, str]] = {}  # not published: only the packed files are known
    remotes = _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        inner,
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    )
    needs = "Fashion-MNIST's four IDX files"
    elsewhere = "FashionMNIST/raw"


@register("kmnist")
@dataclass(frozen=True)
class KMNIST(MNIST):
    """Reads the IDX files of Kuzushiji-MNIST (Clanuwat et al. 2018) in the folder kmnist there, or
    in torchvision's KMNIST/raw."""

    inner = "kmnist/"
    unpacked: ClassVar[dict[int, str]] = {}
    remotes = _idx(
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        inner,
        ("51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", 18_165_135),
        ("e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", 29_497),
        ("edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", 3_041_136),
        ("20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", 5_120),
    )
    needs = "Kuzushiji-MNIST's four IDX files"
    elsewhere = "KMNIST/raw"
