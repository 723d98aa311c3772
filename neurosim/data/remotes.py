"""The files of data sets at their official addresses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Remote:
    """Describes a file at an address: ``size`` bytes with that SHA-256.

    With ``members`` it is a packed tar archive, of which those files are taken: their names in it
    and below the root, and their sizes. Without, the file itself is taken.
    """

    url: str
    sha256: str
    size: int
    members: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """What the file is called at its address."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> dict[str, int]:
        """The files below the root that come of it, with their sizes."""
        return dict(self.members or [(self.name, self.size)])


# The checksums are those that torchvision (MNIST) and TensorFlow Datasets (CIFAR) publish.
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST_FILES = (
    Remote(
        f"{_MNIST}/train-images-idx3-ubyte.gz",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        9_912_422,
    ),
    Remote(
        f"{_MNIST}/train-labels-idx1-ubyte.gz",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        28_881,
    ),
    Remote(
        f"{_MNIST}/t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        1_648_877,
    ),
    Remote(
        f"{_MNIST}/t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        4_542,
    ),
)
_CIFAR = "https://www.cs.toronto.edu/~kriz"
CIFAR10_FILES = (
    Remote(
        f"{_CIFAR}/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
        tuple(
            (f"cifar-10-batches-bin/{name}.bin", 30_730_000)
            for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
        ),
    ),
)
CIFAR100_FILES = (
    Remote(
        f"{_CIFAR}/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168_513_733,
        (("cifar-100-binary/train.bin", 153_700_000), ("cifar-100-binary/test.bin", 30_740_000)),
    ),
)
