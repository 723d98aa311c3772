"""The winners of max-pools, as a link keeps them."""

import torch
from torch import Tensor

from neurosim.dynamics.link import Link
from neurosim.tensors import Selection


def put_winners(link: Link, selection: Selection | None, winners: Tensor) -> None:
    """Writes the winners of the selected dyads above; None for all.

    Where there are none yet, those of the others are found as of zeros: a winner that stands for
    nothing would be a place in somebody else's window, where their differences would go.
    """
    if selection is not None and link.winners.tensor is None:
        link.winners.set(link.winners_among(torch.zeros_like(link.pre.plus.value)))
    link.winners.put(selection, winners)
