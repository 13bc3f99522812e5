"""Reading tables of numbers from text, so that an error can say on which line."""

import math

import numpy as np

from .base import PotentialError


def number(word: str) -> float:
    """A number, in Fortran's notation too (1.5D-03)."""
    try:
        return float(word)
    except ValueError:
        return float(word.replace("D", "E").replace("d", "e"))


class Lines:
    """The lines of a file, read on and on. PotentialError names the line."""

    def __init__(self, path, text: str):
        self.path = path
        self.lines = text.splitlines()
        self.at = 0  # lines consumed
        self._rest: list[str] = []  # words of the last consumed line that nobody took yet

    def fail(self, message: str, line: int | None = None):
        raise PotentialError(message, self.path, self.at if line is None else line)

    def skip(self, count: int):
        self.at += count
        if self.at > len(self.lines):
            self.fail("the file ends in its header", len(self.lines))

    def next_line(self) -> bool:
        """Moves to the next line that is not blank; False at the end of the file."""
        while self.at < len(self.lines):
            self._rest = self.lines[self.at].split()
            self.at += 1
            if self._rest:
                return True
        return False

    def words_left(self) -> int:
        return len(self._rest) + sum(len(line.split()) for line in self.lines[self.at :])

    def words(self, what: str) -> list[str]:
        """The words of the next line."""
        if self._rest:
            self.fail(f"unexpected {self._rest[0]!r} where {what} should start on a new line")
        if not self.next_line():
            self.fail(f"the file ends where {what} should be", len(self.lines))
        words, self._rest = self._rest, []
        return words

    def record(self, what: str, *kinds):
        """One line of values of these kinds (int, float or str); further words are ignored, a missing last is ''."""
        words = self.words(what)
        if len(words) == len(kinds) - 1 and kinds[-1] is str:
            words.append("")
        if len(words) < len(kinds):
            self.fail(f"expected {what}")
        return [self._convert(kind, word, what) for kind, word in zip(kinds, words)]

    def _convert(self, kind, word, what):
        if kind is str:
            return word
        try:
            value = int(word) if kind is int else number(word)
        except ValueError:
            self.fail(f"{word!r} is not {'a whole number' if kind is int else 'a number'} (in {what})")
        if not math.isfinite(value):
            self.fail(f"{word!r} is not finite (in {what})")
        return value

    def floats(self, count: int, what: str) -> np.ndarray:
        """The next `count` numbers, over as many lines as they take."""
        words: list[str] = []
        first = self.at
        while len(words) < count:
            if not self._rest and not self.next_line():
                self.fail(f"the file ends inside {what}: {len(words)} of {count} numbers", len(self.lines))
            take = min(count - len(words), len(self._rest))
            words.extend(self._rest[:take])
            self._rest = self._rest[take:]
        try:
            values = np.array(words, dtype=float)
            if np.isfinite(values).all():
                return values
        except ValueError:
            pass
        return self._one_by_one(words, what, max(first, 1))

    def _one_by_one(self, words, what, line) -> np.ndarray:
        """The same numbers, slowly: to read Fortran's exponents or to find the line of a wrong one."""
        values = []
        for word in words:
            try:
                values.append(number(word))
            except ValueError:
                self.fail(f"{word!r} is not a number (in {what})", self._line_of(word, line))
            if not math.isfinite(values[-1]):
                self.fail(f"{word!r} is not finite (in {what})", self._line_of(word, line))
        return np.array(values)

    def _line_of(self, word, first) -> int:
        for k in range(first - 1, self.at):
            if word in self.lines[k].split():
                return k + 1
        return self.at
