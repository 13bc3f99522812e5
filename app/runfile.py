"""Run files: TOML, checked against a declared schema before anything is computed.

A job kind declares its tables as `Table`s of `Key`s; `validate` returns the values with every default filled in, or
raises RunFileError with one sentence that names file, table and key. The declarations carry unit and meaning, so the
reference pages are made from them.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostwald.io.text import read_text

REQUIRED = object()


class RunFileError(ValueError):
    """A run file that cannot be run; the message is one sentence naming file, table and key."""


@dataclass(frozen=True)
class Key:
    """One key of a table.

    kind: "float", "int", "bool", "str", "path", "duration", or a list form "float*3", "int*3", "bool*3", "str*";
    "number|ramp" takes a number or two, "str|str*" and "float|float*" one or several. default: REQUIRED, or the value used when absent (None: absent).
    low, high: allowed range, inclusive (above: exclusive lower bound). unit, doc: for messages and the reference.
    """

    kind: str
    default: Any = REQUIRED
    doc: str = ""
    unit: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One table of a run file; many: an array of tables ([[name]])."""

    name: str
    keys: dict[str, Key]
    doc: str = ""
    many: bool = False
    required: bool = False
    check: Callable[[dict, Callable[[str, str], RunFileError]], None] | None = field(default=None, compare=False)


_DURATION = re.compile(r"^(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s)?$")


def parse_duration(text) -> float:
    """Seconds of "1d2h30m", "90s", "02:00:00" or a plain number of seconds. ValueError if it is none of these."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text)
    text = str(text).strip().replace(" ", "")
    if re.fullmatch(r"\d+(:\d{2}){1,2}", text):
        seconds = 0
        for part in text.split(":"):
            seconds = 60 * seconds + int(part)
        return float(seconds)
    match = _DURATION.match(text)
    if not text or not match or not any(match.groups()):
        raise ValueError(text)
    d, h, m, s = (float(g or 0) for g in match.groups())
    return 86400 * d + 3600 * h + 60 * m + s


def reference(tables: list[Table]) -> str:
    """The declared tables as Markdown: key, kind, unit, default, meaning."""
    lines = []
    for table in tables:
        title = f"[[{table.name}]]" if table.many else f"[{table.name}]"
        needed = " Required." if table.required else ""
        lines += [f"## {title}", "", f"{table.doc}{needed}", ""]
        lines += ["| key | value | unit | default | meaning |", "| --- | --- | --- | --- | --- |"]
        for name, key in table.keys.items():
            cells = (f"`{name}`", _values(key), key.unit, _default(key), key.doc)
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


_KINDS = {
    "float": "number",
    "int": "integer",
    "bool": "true, false",
    "str": "text",
    "str*": "list of texts",
    "str|str*": "text or list of texts",
    "int*": "list of integers",
    "float*": "list of numbers",
    "float|float*": "number or list of numbers",
    "number|ramp": "number or [start, end]",
    "table": "{ name = number }",
}


def _values(key: Key) -> str:
    """What a key takes, for people: its choices, or its kind and range."""
    if key.choices:
        return ("list of " if key.kind == "str*" else "") + ", ".join(f"`{choice}`" for choice in key.choices)
    kind, _, count = key.kind.partition("*")
    text = _KINDS.get(key.kind) or (f"{count} × {_KINDS[kind]}" if count else kind)
    limits = [
        f"{sign} {limit}" for sign, limit in ((">", key.above), ("≥", key.low), ("≤", key.high)) if limit is not None
    ]
    return ", ".join([text, *limits])


def _default(key: Key) -> str:
    if key.default is REQUIRED:
        return "required"
    if key.default is None:
        return ""
    if key.kind == "duration":
        return f"`{key.default / 60:g}m`"
    return f"`{json.dumps(key.default)}`"


def nearest(word, known) -> str:
    """ " (did you mean 'x'?)" or, with nothing near, the known ones."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.55)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(sorted(known))}"


def load_toml(path) -> dict:
    """The raw tables of a run file. RunFileError when it cannot be read or is not TOML."""
    path = Path(path)
    try:
        text = read_text(path)
        if "\ufffd" in text:
            raise RunFileError(f"{path}: not a text file (UTF-8)")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise RunFileError(f"{path}: no such run file") from None
    except IsADirectoryError:
        raise RunFileError(f"{path} is a directory, not a run file (to continue one: ostwald resume {path})") from None
    except OSError as error:
        raise RunFileError(f"{path}: cannot be read ({error.strerror})") from None
    except tomllib.TOMLDecodeError as error:
        raise RunFileError(f"{path}: not valid TOML: {error}") from None
    except RunFileError:
        raise
    except ValueError as error:  # not a text file, in a sentence that names it
        raise RunFileError(str(error)) from None


def validate(raw: dict, tables: list[Table], path) -> dict:
    """Values of all tables, defaults filled in; paths are made absolute, relative to the run file."""
    path = Path(path)
    known = {t.name: t for t in tables}
    for name in raw:
        if name not in known:
            raise RunFileError(f"{path}: unknown table [{name}]{nearest(name, known)}")
    result = {}
    for table in tables:
        given = raw.get(table.name)
        if given is None:
            if table.required:
                shape = f"[[{table.name}]]" if table.many else f"[{table.name}]"
                raise RunFileError(f"{path}: the table {shape} is missing")
            result[table.name] = [] if table.many else _fill(table, {}, table.name, path, absent=True)
            continue
        if table.many:
            given = given if isinstance(given, list) else [given]
            if not all(isinstance(g, dict) for g in given):
                raise RunFileError(f"{path}: {table.name} must be an array of tables, [[{table.name}]]")
            result[table.name] = [_fill(table, g, f"{table.name} {i}", path) for i, g in enumerate(given, 1)]
        else:
            if not isinstance(given, dict):
                raise RunFileError(f"{path}: {table.name} must be a table, [{table.name}]")
            result[table.name] = _fill(table, given, table.name, path)
    return result


def _fill(table: Table, given: dict, label: str, path: Path, absent=False) -> dict:
    def error(key, why):
        return RunFileError(f"{path}: [{label}] {key}: {why}" if key else f"{path}: [{label}]: {why}")

    for name in given:
        if name not in table.keys:
            raise error(name, "unknown key" + nearest(name, table.keys))
    values = {}
    for name, key in table.keys.items():
        if name in given:
            values[name] = _convert(given[name], key, lambda why, name=name: error(name, why), path)
        elif key.default is REQUIRED:
            if not absent:
                raise error(name, "is required" + (f" ({key.doc})" if key.doc else ""))
            values[name] = None
        else:
            values[name] = key.default
    if table.check and not absent:
        table.check(values, error)
    return values


def _number(value, key: Key, fail, integer=False):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise fail(
            f"must be a{'n integer' if integer else ' number'}{f' in {key.unit}' if key.unit else ''}, got {value!r}"
        )
    if integer and value != int(value):
        raise fail(f"must be an integer, got {value!r}")
    unit = f" {key.unit}" if key.unit else ""
    if value != value or value in (float("inf"), float("-inf")):
        raise fail(f"must be finite, got {value!r}")
    if key.low is not None and value < key.low:
        raise fail(f"must be at least {key.low:g}{unit}, got {value!r}")
    if key.above is not None and value <= key.above:
        raise fail(f"must be above {key.above:g}{unit}, got {value!r}")
    if key.high is not None and value > key.high:
        raise fail(f"must be at most {key.high:g}{unit}, got {value!r}")
    return int(value) if integer else float(value)


def _convert(value, key: Key, fail, path: Path):
    kind = key.kind
    if kind in ("str|str*", "float|float*"):
        kind = kind.partition("|")[2 if isinstance(value, list) else 0]
    if kind in ("float", "int"):
        return _number(value, key, fail, kind == "int")
    if kind == "number|ramp":
        if isinstance(value, list):
            if len(value) != 2:
                raise fail(f"takes one number or two (start and end of a ramp), got {value!r}")
            return tuple(_number(v, key, fail) for v in value)
        return _number(value, key, fail)
    if kind == "bool":
        if not isinstance(value, bool):
            raise fail(f"must be true or false, got {value!r}")
        return value
    if kind == "duration":
        try:
            seconds = parse_duration(value)
        except ValueError:
            raise fail(f"must be a duration such as '90s', '30m', '2h30m' or '02:30:00', got {value!r}") from None
        if seconds <= 0:
            raise fail("must be above zero")
        return seconds
    if kind in ("str", "path"):
        if not isinstance(value, str) or not value:
            raise fail(f"must be a non-empty string, got {value!r}")
        if key.choices and value not in key.choices:
            raise fail(f"'{value}' is not known" + nearest(value, key.choices))
        if kind == "path":
            full = (path.parent / Path(value).expanduser()).resolve()
            return str(full)
        return value
    if kind == "table":
        if not isinstance(value, dict):
            raise fail(f"must be a table such as {{ Al = 0.5 }}, got {value!r}")
        return {str(k): _number(v, key, fail) for k, v in value.items()}
    base, _, count = kind.partition("*")
    if not isinstance(value, list):
        raise fail(f"must be a list{f' of {count}' if count else ''}, got {value!r}")
    if count and len(value) != int(count):
        raise fail(f"must have {count} entries, got {len(value)}")
    item = Key(base, unit=key.unit, low=key.low, above=key.above, high=key.high, choices=key.choices)
    return [_convert(v, item, fail, path) for v in value]


def dumps(values: dict) -> str:
    """TOML of validated values: the resolved run file that a run directory keeps. None is left out."""

    def scalar(v):
        if isinstance(v, bool):
            return "true" if v else "false"
        if isinstance(v, (int, float)):
            return repr(v)
        if isinstance(v, str):
            return json.dumps(v, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML has JSON's escapes
        if isinstance(v, (list, tuple)):
            return "[" + ", ".join(scalar(x) for x in v) + "]"
        if isinstance(v, dict):
            return "{ " + ", ".join(f"{scalar(str(k))} = {scalar(x)}" for k, x in v.items()) + " }"
        raise TypeError(f"no TOML form of {type(v)}")

    lines = []
    for name, table in values.items():
        for entry in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{k} = {scalar(v)}" for k, v in entry.items() if v is not None]
            lines.append("")
    return "\n".join(lines)
