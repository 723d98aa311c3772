"""What passes between the host and tensors, and is another in every inference: tapes take note."""

from collections.abc import Callable

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary


def read(numbers: Tensor) -> list[int]:
    """Returns whole numbers (n,) of a device, for which the host waits: a replay once, at its
    end."""
    if has_torch_function_unary(numbers):
        of_tape: list[int] = handle_torch_function(read, (numbers,), numbers)
        return of_tape
    found: list[int] = numbers.cpu().tolist()
    return found


def drawn(draw: Callable[[int, int], Tensor], *when: int) -> Tensor:
    """Returns what is drawn for the inference of this number, from this sample of its batch on; a
    replay draws for its own."""
    if has_torch_function_unary(when):
        of_tape: Tensor = handle_torch_function(drawn, when, draw, *when)
        return of_tape
    return draw(*when)
