"""What torch counts of the writes into a tensor, which its interface does not tell."""

from torch import Tensor


def versions(*tensors: Tensor | None) -> list[int]:
    """Returns how often each was written in place, by `torch.Tensor._version`; leaves out None."""
    return [tensor._version for tensor in tensors if tensor is not None]


class Writes:
    """Counts the writes into tensors so far: in place, or by giving one other ``data``; in-place
    writes through ``.data`` do not show. The memory is kept meanwhile: no other data can lie where
    it was. None is left out.
    """

    __slots__ = ("_kept", "_writes")

    def __init__(self, *tensors: Tensor | None) -> None:
        self._kept = [tensor.detach() for tensor in tensors if tensor is not None]
        self._writes = versions(*tensors)

    def none_since(self, *tensors: Tensor | None) -> bool:
        """Says if these are the tensors that it counts for, and none was written since."""
        now = [tensor for tensor in tensors if tensor is not None]
        if self._writes != versions(*now):
            return False
        return all(a.data_ptr() == b.data_ptr() for a, b in zip(self._kept, now, strict=True))
