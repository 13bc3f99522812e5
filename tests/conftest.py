"""What all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference_data():
    """The folder of reference data: $OSTWALD_DATA, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("OSTWALD_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} does not exist (set OSTWALD_DATA)")
    return folder


@pytest.fixture
def world():
    """All ranks."""
    from ostwald.parallel import World

    return World()


@pytest.fixture
def refused(tmp_path, capsys):
    """refused(text, word): `ostwald run` of this run file ends with status 1 and one sentence, which has the word, and writes
    nothing. commands: "run", "check", where not `ostwald run` alone.
    """

    def test(text, word, *commands):
        from ostwald.app.cli import main

        path, never = tmp_path / "refused.toml", tmp_path / "never"
        path.write_text(text)
        for command in commands or ("run",):
            capsys.readouterr()
            assert main([command, str(path), *(["-d", str(never)] if command == "run" else [])]) == 1
            said = capsys.readouterr().err.strip().splitlines()
            assert len(said) == 1 and word in said[0], said
            assert not never.exists()

    return test
