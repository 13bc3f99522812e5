"""The run files of examples/ have the tables and keys of the jobs that they are for."""

from importlib import import_module
from pathlib import Path

import pytest

from ostwald.app.jobs.sequences_schema import Plan
from ostwald.app.runfile import load_toml, validate

FOLDER = Path(__file__).parents[2] / "examples"
RUN_FILES = sorted(FOLDER.glob("*/*.toml"))
SCHEMAS = {"train-surrogate": "train_surrogate", "evaluate-surrogate": "evaluation"}
"""Of kinds whose schema has another name than they."""


def test_there_are_run_files():
    assert len(RUN_FILES) > 30


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_run_file_is_valid(path):
    raw = load_toml(path)
    kind = raw["job"]["kind"]
    if kind == "sequences":
        assert Plan(raw, path).count > 0
    else:
        tables = import_module(f"ostwald.app.jobs.{SCHEMAS.get(kind, kind)}_schema").TABLES
        assert validate(raw, tables, path)["job"]["kind"] == kind
