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
