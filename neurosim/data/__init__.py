"""Data sets and batches of them."""

from neurosim.data.augmentation import Augmentation
from neurosim.data.batches import Batches, Remainder
from neurosim.data.colour import CIFAR10, CIFAR100, ImageNet32
from neurosim.data.dataset import Dataset, Split, check_labels, digest_of, one_hot, targets
from neurosim.data.given import TorchData, batch_of, split_of
from neurosim.data.mnist import KMNIST, MNIST, FashionMNIST
from neurosim.data.source import DataSource, Remote, digits
from neurosim.data.standardization import Standardization
from neurosim.data.streams import (
    Drift,
    Sample,
    Samples,
    Source,
    Target,
    Timing,
    drifting,
    samples_of,
)
from neurosim.data.svhn import SVHN
from neurosim.families import gather

gather(__name__)
