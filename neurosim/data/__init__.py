"""Data sets and batches of them."""

from neurosim.data.batches import Augmentation, Batches
from neurosim.data.dataset import Dataset, Split, one_hot
from neurosim.data.idx import digits
from neurosim.data.remotes import Remote
from neurosim.data.source import DataSource
