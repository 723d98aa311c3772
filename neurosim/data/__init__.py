"""Data sets and batches of them."""

from neurosim.data.batches import Augmentation, Batches
from neurosim.data.dataset import Dataset, Split, one_hot
from neurosim.data.source import DataSource, Remote, digits
from neurosim.families import gather

gather(__name__)
