"""Street View House Numbers, whose files are MATLAB's (extra ``svhn``)."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurosim.base import DataError
from neurosim.data.dataset import Split
from neurosim.data.source import Remote, StoredImages, byte_split
from neurosim.families import register

_ADDRESS = "http://ufldl.stanford.edu/housenumbers/"


@register("svhn")
@dataclass(frozen=True)
class SVHN(StoredImages):
    """Reads the cropped digits of SVHN (Netzer et al. 2011): train_32x32.mat and test_32x32.mat.

    Images are (N, 3, 32, 32) in [0, 1], unless they are standardized; MATLAB's label 10 is the
    digit 0. Only the official files are taken, so that nothing is unpacked that nobody knows.
    """

    in_colour = True
    remotes = (
        Remote(
            f"{_ADDRESS}train_32x32.mat",
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            182_040_794,
        ),
        Remote(
            f"{_ADDRESS}test_32x32.mat",
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            64_275_384,
        ),
    )
    needs = "train_32x32.mat and test_32x32.mat of SVHN"

    def _splits(self, root: Path) -> Sequence[Split]:
        self._require(root, [remote.name for remote in self.remotes], root)
        return [_part(root / remote.name, remote) for remote in self.remotes]


def _part(path: Path, official: Remote) -> Split:
    try:
        from scipy.io import loadmat
    except ImportError:
        how = "pip install 'neurosim[svhn]'"
        raise DataError(f"{path}: reading it needs scipy, which is not installed: {how}") from None
    try:
        known = path.stat().st_size == official.size
        content = path.read_bytes() if known else b""
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != official.sha256:
        how = f"SHA-256 {official.sha256}; remove it and download it again"
        raise DataError(f"{path}: is not the official file, {official.size:,} bytes with {how}")
    found = loadmat(io.BytesIO(content), variable_names=["X", "y"])
    pixels = np.ascontiguousarray(found["X"].transpose(3, 2, 0, 1))  # of (height, width, RGB, N)
    return byte_split(pixels, found["y"].reshape(-1) % 10)
