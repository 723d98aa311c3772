"""Answers that are guessed before a device is waited for."""

from collections.abc import Sequence

from torch import Tensor

from neurosim.tensors.devices import gathered
from neurosim.tensors.host import read
from neurosim.tensors.sums import Sum

Told = list[list[int]]  # one list for each time that numbers were read


class Guess(Sum):
    """A number that nobody knows yet, taken to be zero or not: it notes if anybody went by that.
    Sums of guesses are for counting, and note nothing."""

    asked = False

    def __bool__(self) -> bool:
        self.asked = True
        return int(self) != 0


class Guesses:
    """Answers at once what a device is asked, and says later if that was right.

    ``told`` are the answers that are known. What is asked after these is guessed if there are
    ``chances`` left, and waited for if not. Guessed is that a number is other than zero, unless it
    was zero in all inferences ``before``, of which there are answers, too.
    """

    def __init__(self, told: Told, chances: int, before: Sequence[Told] = ()) -> None:
        self.told, self.chances, self._before = told, chances, before
        self.told_before = len(told)
        self._reads = 0
        self._waiting: list[Tensor] = []
        self._guesses: list[Guess] = []
        self._answers: list[int] = []

    def __call__(self, numbers: Tensor) -> list[int]:
        """Answers what numbers (n,) these are, as `read` does."""
        place, count, first = self._reads, numbers.numel(), len(self._guesses)
        self._reads += 1
        if place < self.told_before:
            return self.told[place]
        if not self.chances:
            self.told.append(read(numbers))
            return self.told[place]
        likely = self._likely(place, count)
        guesses = [Guess.of(value, number=first + n) for n, value in enumerate(likely)]
        self._guesses += guesses
        self._waiting.append(numbers)
        return [*guesses]

    def _likely(self, place: int, count: int) -> list[int]:
        known = [told[place] for told in self._before if place < len(told)]
        if not known or any(len(answers) != count for answers in known):
            return [1] * count
        return [int(any(answers)) for answers in zip(*known, strict=True)]

    def right(self) -> bool:
        """Reads what it has guessed, in one wait. Says if all of it that anybody went by is so: if
        not, it is told up to there."""
        if not self._waiting:
            return True
        self._answers = read(gathered(self._waiting))
        pairs = iter(zip(self._guesses, self._answers, strict=True))
        for numbers in self._waiting:
            of_one = [next(pairs) for _ in range(numbers.numel())]
            self.told.append([answer for _, answer in of_one])
            if any(guess.asked and (int(guess) != 0) != (answer != 0) for guess, answer in of_one):
                return False
        return True

    def answer(self, total: Sum) -> int:
        """Returns what a guess, or a sum of such, is by the answers that were read."""
        known = ((times, self._answers[n] - int(self._guesses[n])) for n, times in total.terms)
        return int(total) + sum(times * more for times, more in known)
