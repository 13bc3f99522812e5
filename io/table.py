"""Tables of numbers and words in text files, parsed and formatted as whole columns: a million lines in seconds."""

import numpy as np

_BLANK = np.zeros(256, bool)
_BLANK[[9, 10, 11, 12, 13, 32]] = True


def parse_table(block: bytes, kinds: str, rows: int, where: str, first_line: int) -> list[np.ndarray]:
    """The columns of `rows` lines: one letter of `kinds` a column: i int64, f float64, s text, '-' to be skipped.

    Columns beyond `kinds` are ignored. `where` and `first_line` (the number of the block's first line in its file, from
    1) are for the message: ValueError names file and line of the first bad line. Blank lines are not allowed inside.
    """
    if rows == 0:
        return [
            np.empty(0, object if kind == "s" else np.int64 if kind == "i" else float) for kind in kinds if kind != "-"
        ]
    try:
        columns = _parse_fast(block, kinds, rows)
    except ValueError:
        columns = None
    if columns is None:
        _complain(block, kinds, rows, where, first_line)
        columns = _parse_words(block, kinds, rows)
    return columns


def _parse_fast(block, kinds, rows):
    """Cuts the words out with their positions, then parses what is left, numbers only, in one go. None if irregular."""
    text = np.frombuffer(block, np.uint8)
    blank = _BLANK[text]
    starts = np.flatnonzero(~blank & np.concatenate(([True], blank[:-1])))
    width, odd = divmod(len(starts), rows)
    if odd or width < len(kinds):
        return None
    lines = np.count_nonzero(text == 10) + (not block.endswith(b"\n"))
    if lines != rows:
        return None
    starts = starts.reshape(rows, width)
    if rows > 1:  # the first word of a line is the first after a line break: every line has the same number of words
        breaks = np.flatnonzero(text == 10)[: rows - 1]
        if not (np.all(breaks < starts[1:, 0]) and np.all(breaks > starts[:-1, -1])):
            return None
    words = [c for c in range(width) if c >= len(kinds) or kinds[c] in "s-"]
    out = {}
    if words:
        text = text.copy()
        ends = np.flatnonzero(blank & np.concatenate(([False], ~blank[:-1])))
        if len(ends) < rows * width:
            ends = np.append(ends, len(text))
        ends = ends.reshape(rows, width)
        for c in words:
            lengths = ends[:, c] - starts[:, c]
            longest = int(lengths.max())
            letters = np.zeros((rows, longest), np.uint8)
            for k in range(longest):
                here = np.flatnonzero(lengths > k)
                at = starts[here, c] + k
                letters[here, k] = text[at]
                text[at] = 32
            if c < len(kinds) and kinds[c] == "s":
                out[c] = letters.view(f"S{longest}").ravel()
    numbers = [c for c in range(min(width, len(kinds))) if kinds[c] in "if"]
    if numbers:
        values = np.fromstring(text.tobytes(), sep=" ")
        if len(values) != rows * len(numbers):
            return None
        values = values.reshape(rows, len(numbers))
        for k, c in enumerate(numbers):
            column = values[:, k]
            if kinds[c] == "i":
                whole = column.astype(np.int64)
                if not np.array_equal(whole, column):
                    return None
                column = whole
            out[c] = np.ascontiguousarray(column)
    return [out[c] for c in range(len(kinds)) if kinds[c] != "-"]


def _parse_words(block, kinds, rows):
    """The slow way, for blocks whose lines differ in length but are good."""
    lines = [line.split() for line in block.splitlines()[:rows]]
    out = []
    for c, kind in enumerate(kinds):
        if kind != "-":
            words = [line[c] for line in lines]
            out.append(
                np.array([int(w) for w in words]) if kind == "i" else np.array(words, float if kind == "f" else None)
            )
    return out


def _complain(block, kinds, rows, where, first_line):
    names = {"i": int, "f": float}
    lines = block.splitlines()
    for number, line in enumerate(lines[:rows], first_line):
        words = line.split()
        if len(words) < len(kinds):
            text = line.decode(errors="replace").strip()
            raise ValueError(
                f"{where}, line {number}: {len(kinds)} columns expected, {len(words)} found: '{text[:60]}'"
            )
        for column, (kind, word) in enumerate(zip(kinds, words), 1):
            try:
                names.get(kind, bytes)(word)
            except ValueError:
                thing = "an integer" if kind == "i" else "a number"
                text = word.decode(errors="replace")
                raise ValueError(
                    f"{where}, line {number}: column {column} should be {thing}, not '{text[:40]}'"
                ) from None
    if len(lines) < rows:
        raise ValueError(
            f"{where}, line {first_line + len(lines)}: the file ends; {rows} lines expected, {len(lines)} found"
        )


def format_table(columns, formats) -> bytes:
    """Lines of the columns, each with its % format, blanks between; a 2-D column uses its format throughout."""
    flat = []
    line = []
    for column, style in zip(columns, formats):
        column = np.asarray(column)
        parts = [column] if column.ndim == 1 else list(column.reshape(len(column), -1).T)
        flat += parts
        line += [style] * len(parts)
    rows = len(flat[0])
    template = " ".join(line) + "\n"
    out = []
    block = 4096
    for lo in range(0, rows, block):
        hi = min(rows, lo + block)
        items = [None] * ((hi - lo) * len(flat))
        for k, part in enumerate(flat):
            items[k :: len(flat)] = part[lo:hi].tolist()
        out.append((template * (hi - lo) % tuple(items)).encode())
    return b"".join(out)


def line_offsets(data: bytes) -> np.ndarray:
    """Where each line begins, and the end: line k (from 0) is data[offsets[k]:offsets[k + 1]]."""
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
    offsets = np.concatenate(([0], ends))
    return offsets if offsets[-1] == len(data) else np.append(offsets, len(data))
