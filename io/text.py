"""Whole text files: read with a clear error, written so that a reader never sees half of one."""

import gzip
from pathlib import Path

from ostwald.io.shared import replace_file


def read_text(path) -> str:
    """The text of a file (gzip by suffix .gz). OSError where it cannot be read, ValueError where it is not text."""
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except EOFError as error:
        raise ValueError(f"{path}: the gzip file is truncated") from error
    if b"\0" in raw[:4096]:
        raise ValueError(f"{path}: not a text file")
    return raw.decode("utf-8", errors="replace")


def write_text(path, text: str) -> None:
    """Writes the file beside its place, flushes and renames it."""
    replace_file(path, text.encode())
