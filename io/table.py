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


def line_offsets(data: bytes) -> np.ndarray:
    """Where each line begins, and the end: line k (from 0) is data[offsets[k]:offsets[k + 1]]."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    offsets = np.concatenate(([0], ends))
    return offsets if offsets[-1] == len(data) else np.append(offsets, len(data))
