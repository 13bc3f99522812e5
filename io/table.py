"""Tables of numbers and words in text files: a million lines in less than a second."""

import numpy as np

from ostwald.app.kernels import _text


def parse_table(block: bytes, kinds: str, rows: int, where: str, first_line: int) -> list[np.ndarray]:
    """The columns of `rows` lines: one letter of `kinds` a column: i int64, f float64, s bytes, '-' to be skipped.

    Columns beyond `kinds` are ignored. `where` and `first_line` (the number of the block's first line in its file, from
    1) are for the message: ValueError names file and line of the first bad line. Blank lines are not allowed inside.
    """
    columns, problem = _text.parse_table(block, kinds, rows)
    if problem is None:
        return columns
    row, column, found, word = problem
    line = f"{where}, line {first_line + row}"
    if column == -2:
        raise ValueError(f"{line}: the file ends; {rows} lines expected, {row} found")
    if column == -1:
        lines = block.split(b"\n", row + 1)
        text = lines[row].decode(errors="replace").strip()
        raise ValueError(f"{line}: {len(kinds)} columns expected, {found} found: '{text[:60]}'")
    thing = "an integer" if kinds[column] == "i" else "a number"
    raise ValueError(f"{line}: column {column + 1} should be {thing}, not '{word.decode(errors='replace')[:40]}'")


def format_table(columns) -> bytes:
    """Lines of the columns, (rows,) or (rows, k), blanks between. Numbers have the digits that it takes to read the same
    number again, and no more."""
    arrays = []
    for column in columns:
        column = np.asarray(column)
        if column.dtype.kind == "U":
            column = np.char.encode(column, "utf-8")
        dtype = {"f": np.float64, "i": np.int64, "u": np.int64, "b": np.int64}.get(column.dtype.kind, "S")
        arrays.append(np.ascontiguousarray(column.reshape(len(column), -1), dtype))
    return _text.format_table(arrays)


class LineReader:
    """Reads a file line by line or thousands of lines as one block, in pieces of 16 MiB. `number` is that of the last
    line read, from 1."""

    def __init__(self, file):
        self.file = file
        self.number = 0
        self._take(b"")

    def _take(self, piece: bytes):
        self._piece, self._at = piece, 0
        self._breaks = np.flatnonzero(np.frombuffer(piece, np.uint8) == 10)
        self._next = 0  # line breaks before _at

    def line(self) -> str | None:
        """The next line without blanks around it; None at the end of the file."""
        block = self.lines(1)
        return None if block is None else block.decode(errors="replace").strip()

    def lines(self, rows: int) -> bytes | None:
        """The next `rows` lines; None where the file ends before. The last line of a file may lack its line break."""
        parts, need = [], rows
        while need:
            have = len(self._breaks) - self._next
            if have >= need:
                self._next += need
                end = int(self._breaks[self._next - 1]) + 1
                parts.append(self._piece[self._at : end])
                self._at = end
                break
            parts.append(self._piece[self._at :])
            need -= have
            self._take(self.file.read(1 << 24))
            if not self._piece:
                if need == 1 and parts[-1] and not parts[-1].endswith(b"\n"):
                    break
                return None
        self.number += rows
        return b"".join(parts)

    def at_end(self) -> bool:
        """Whether nothing but blanks follows."""
        while True:
            for at in range(self._at, len(self._piece), 4096):
                if self._piece[at : at + 4096].strip():
                    return False
            self._take(self.file.read(1 << 24))
            if not self._piece:
                return True
