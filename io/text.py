"""Whole text files: read with a clear error, written so that a reader never sees half of one."""

import gzip
import os
from pathlib import Path


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
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
