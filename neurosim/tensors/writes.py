"""What torch counts of the writes into a tensor, which its interface does not tell."""

from torch import Tensor


def versions(*tensors: Tensor | None) -> list[int]:
    """Returns how often each was written in place, by `torch.Tensor._version`; leaves out None."""
    return [tensor._version for tensor in tensors if tensor is not None]


class Writes:
    """Counts the writes into a tensor so far. Two of one tensor are equal unless it was written in
    place or given other ``data`` between them; in-place writes through ``.data`` do not show. The
    memory is kept meanwhile: no other data can lie where it was.
    """

    __slots__ = ("_kept", "_writes")

    def __init__(self, tensor: Tensor) -> None:
        self._kept, self._writes = tensor.detach(), versions(tensor)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Writes):
            return NotImplemented
        where = self._kept.data_ptr(), other._kept.data_ptr()
        return self._writes == other._writes and where[0] == where[1]

    __hash__ = None  # type: ignore[assignment]
