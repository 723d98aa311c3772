"""What torch counts of the writes into a tensor, which its interface does not tell."""

from torch import Tensor


def versions(*tensors: Tensor | None) -> list[int]:
    """Returns how often each was written in place, by `torch.Tensor._version`; leaves out None."""
    return [tensor._version for tensor in tensors if tensor is not None]


class Writes:
    """Counts the writes into a tensor so far: in place, or by giving it other ``data``; in-place
    writes through ``.data`` do not show. The memory is kept meanwhile: no other data can lie where
    it was.
    """

    __slots__ = ("_kept", "_writes")

    def __init__(self, tensor: Tensor) -> None:
        self._kept, self._writes = tensor.detach(), versions(tensor)

    def none_since(self, tensor: Tensor) -> bool:
        """Says if a tensor is the one that this counts for, and was not written since."""
        alike = self._writes == versions(tensor)
        return alike and self._kept.data_ptr() == tensor.data_ptr()
