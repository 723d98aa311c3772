"""Folders of images: a folder for each class."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from neurosim.base import DataError, plain
from neurosim.data.lazy import IN_MEMORY, Lazy
from neurosim.data.own import Found, OwnData, says
from neurosim.families import Count, Portion, register

_SUFFIXES = {
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
}
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_PARTS = ("test", "val", "valid", "validation")  # besides train
_PIXELS = 2**26  # of one image


@register("images")
@dataclass(frozen=True)
class ImageFolder(OwnData):
    """Reads images from a folder with a folder for each class, as torchvision's ImageFolder does.

    The classes are in the order of the names of their folders. What has no name of an image is
    left out. Of an image with several frames the first counts.
    """

    paths = ("root", "test")

    root: Annotated[str, says("the folder, seen from the scenario")]
    test: Annotated[
        str | Portion, says("a folder of the same form for the test, or the part that is for it")
    ] = 0.2
    size: Annotated[
        tuple[Count, Count] | None,
        says("height and width that all are resized to; default: they are alike"),
    ] = None
    color: Annotated[Literal["rgb", "grey"], says("3 channels or 1")] = "rgb"

    def _found(self, folder: Path, test: bool) -> Found | None:
        if test and not isinstance(self.test, str):
            return None
        root = folder / Path(str(self.test) if test else self.root).expanduser()
        files, names = _images(root)
        shape = (3 if self.color == "rgb" else 1, *self._size(files))
        images = Lazy(
            lambda which: torch.stack([self._pixels(files[i], shape) for i in which.tolist()]),
            shape,
            torch.uint8,
            torch.arange(len(files)),
        )
        return images[:] if len(files) * prod(shape) <= IN_MEMORY else images, np.array(names)

    def _size(self, files: Sequence[Path]) -> tuple[int, ...]:
        """Returns the height and width of all images, after a look at the header of each."""
        sizes = {}
        for file in files:
            with _opened(file) as image:
                if image.width * image.height > _PIXELS:
                    raise DataError(f"{file}: has {image.width}×{image.height} pixels, too many")
                if image.mode.startswith(("I", "F")):
                    raise DataError(f"{file}: has more than 8 bits a value; save it with 8")
                sizes[image.height, image.width] = file
        if self.size is not None:
            return self.size
        if len(sizes) > 1:
            (one, first), (other, second), *_ = sizes.items()
            said = f"{one[0]}×{one[1]} pixels but {second} has {other[0]}×{other[1]}"
            raise DataError(f"{first}: has {said}; say a size: [height, width]")
        return next(iter(sizes))

    def _pixels(self, file: Path, shape: tuple[int, ...]) -> Tensor:
        """Reads an image (C, H, W)."""
        with _opened(file) as image:
            try:
                found = image.convert("RGB" if self.color == "rgb" else "L")
                if found.size != shape[:0:-1]:
                    found = found.resize(shape[:0:-1], 2)  # bilinear, over what a pixel covers
            except (OSError, ValueError, SyntaxError, EOFError) as error:
                raise _unreadable(file, error) from None
        return torch.from_numpy(np.array(found)).view(*shape[1:], shape[0]).movedim(2, 0)


def _images(root: Path) -> tuple[list[Path], list[str]]:
    """Returns the files of all images and the names of their classes, both in order of names."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give one with a folder of images for each class")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if not folders:
        raise DataError(f"{root}: has no folders; it needs one for each class")
    tests = [path for path in folders if path.name in _PARTS]
    train = root / "train"
    parted = train in folders and len(tests) == len(folders) - 1
    if parted and any(path.is_dir() for path in train.iterdir()):
        said = f"root: {train}" + "".join(f", test: {path}" for path in tests[:1])
        raise DataError(f"{root}: has no classes in it but parts; say {said}")
    found = []
    for folder in folders:
        files = [path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES]
        if not files:
            raise DataError(f"{folder}: has no images ({', '.join(sorted(_SUFFIXES))})")
        found += [(path, folder.name) for path in sorted(files)]
    return [path for path, _ in found], [name for _, name in found]


def _opened(file: Path) -> Any:
    from PIL import Image  # which matplotlib brings

    large = Image.DecompressionBombError, Image.DecompressionBombWarning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(plain(file), formats=_FORMATS)
    except (OSError, ValueError, SyntaxError, *large) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"{file}: not an intact image ({error}); save it again, or remove it")
