"""Run files: every kind of mistake gives one sentence naming file, table and key."""

import tomllib
from pathlib import Path

import pytest

from ostwald.app.jobs.md_schema import TABLES, page
from ostwald.app.runfile import RunFileError, dumps, load_toml, parse_duration, validate

GOOD = """
[job]
kind = "md"
walltime = "1h30m"
[structure]
lattice = "fcc"
a = 3.6
species = ["Cu"]
cells = [4, 4, 4]
[potential]
file = "zhou:Cu"
[[stage]]
ensemble = "nvt"
temperature = [300, 600]
steps = 10
"""


def check(text, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return validate(load_toml(path), TABLES, path)


def test_defaults_and_types(tmp_path):
    values = check(GOOD, tmp_path)
    assert values["job"]["walltime"] == 5400.0
    assert values["stage"][0]["temperature"] == (300.0, 600.0)
    assert values["series"]["every"] == 100
    assert values["structure"]["cells"] == [4, 4, 4]
    assert values["trajectory"]["every"] == 0


def test_resolved_file_means_the_same(tmp_path):
    values = check(GOOD, tmp_path)
    again = validate(tomllib.loads(dumps(values)), TABLES, tmp_path / "run.toml")
    assert again == values


MISTAKES = [
    ('kind = "md"', 'kind = "mdd"', ["[job] kind", "mdd", "did you mean 'md'"]),
    ("cells = [4, 4, 4]", "cels = [4, 4, 4]", ["[structure] cels", "did you mean 'cells'"]),
    ("cells = [4, 4, 4]", "cells = [4, 4]", ["[structure] cells", "3 entries"]),
    ("cells = [4, 4, 4]", "cells = [4, 4, 0]", ["cells", "at least 1"]),
    ("cells = [4, 4, 4]", "cells = [4, 4, 1.5]", ["cells", "integer"]),
    ("a = 3.6", "a = -3.6", ["[structure] a", "above 0", "Å"]),
    ("a = 3.6", 'a = "3.6 nm"', ["[structure] a", "number in Å"]),
    ("a = 3.6", "a = nan", ["[structure] a", "finite"]),
    ("a = 3.6", "", ["[structure] a", "required"]),
    ('lattice = "fcc"', 'lattice = "fccc"', ["[structure] lattice", "did you mean 'fcc'"]),
    ('lattice = "fcc"', 'lattice = "fcc"\nfile = "x.xyz"', ["[structure]", "either file or lattice"]),
    ('file = "zhou:Cu"', "", ["[potential] file", "required"]),
    ('file = "zhou:Cu"', "file = 3", ["[potential] file", "string"]),
    ("[potential]", "[potental]", ["unknown table [potental]", "did you mean 'potential'"]),
    ("steps = 10", "steps = 10\ntime = 1.0", ["[stage 1]", "either steps or time"]),
    ("steps = 10", "steps = -1", ["[stage 1] steps", "at least 0"]),
    ("steps = 10", "steps = true", ["[stage 1] steps", "integer"]),
    ("steps = 10", "steps = 10\ntimestep = 0", ["[stage 1] timestep", "above 0", "ps"]),
    ("steps = 10", "steps = 10\npressure = 1.0", ["[stage 1] pressure", "npt"]),
    ("temperature = [300, 600]", "", ["[stage 1] temperature", "required for nvt"]),
    ("temperature = [300, 600]", "temperature = [1, 2, 3]", ["[stage 1] temperature", "ramp"]),
    ("temperature = [300, 600]", "temprature = 300", ["[stage 1] temprature", "did you mean 'temperature'"]),
    ('ensemble = "nvt"', 'ensemble = "npt"', ["[stage 1] pressure", "required for npt"]),
    ('walltime = "1h30m"', 'walltime = "soon"', ["[job] walltime", "duration"]),
    ("steps = 10", "steps = 10\nforce_tolerance = 0.1", ["[stage 1] force_tolerance", "no effect"]),
    ("steps = 10", "steps = 10\naxes = [true, true, false]", ["[stage 1] axes", "no effect"]),
    ("[[stage]]", "[[stage]", ["not valid TOML", "line"]),
]


@pytest.mark.parametrize("old, new, words", MISTAKES, ids=[f"{m[1][:30]!r}" for m in MISTAKES])
def test_mistakes(old, new, words, tmp_path):
    assert old in GOOD
    with pytest.raises(RunFileError) as caught:
        check(GOOD.replace(old, new, 1), tmp_path)
    message = str(caught.value)
    assert "run.toml" in message and "\n" not in message
    for word in words:
        assert word in message, message


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(RunFileError, match="no such run file"):
        load_toml(tmp_path / "absent.toml")
    with pytest.raises(RunFileError, match="is a directory"):
        load_toml(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunFileError, match="not a text file"):
        load_toml(tmp_path / "b.toml")
    (tmp_path / "b.toml").write_bytes("# Å\n".encode("latin-1"))
    with pytest.raises(RunFileError, match="not a text file"):
        load_toml(tmp_path / "b.toml")


@pytest.mark.parametrize(
    "text, seconds", [("90s", 90), ("2h30m", 9000), ("1d", 86400), ("02:00:00", 7200), ("30:00", 1800), (12, 12)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "tomorrow", "1x"])
def test_bad_durations(text):
    with pytest.raises(ValueError):
        parse_duration(text)


def test_any_text_survives_the_resolved_file():
    title = 'tab\t bell\x07 del\x7f "quoted" back\\slash\nline é'
    assert tomllib.loads(dumps({"job": {"title": title}}))["job"]["title"] == title


def test_the_page_of_all_keys_is_of_these_keys():
    written = (Path(__file__).parents[2] / "docs/run-file.md").read_text(encoding="utf-8")
    assert written == page() + "\n", "python -m ostwald.app.jobs.md_schema > docs/run-file.md"


def test_every_key_says_what_it_means():
    assert [(table.name, name) for table in TABLES for name, key in table.keys.items() if not key.doc] == []
