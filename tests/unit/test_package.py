"""The three import roots, what they load, and the command."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(code):
    """Runs code in a fresh interpreter and returns what it printed, as JSON."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd="/")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_roots_are_importable_and_leave_io_alone():
    for name in ("app", "parallel", "io"):
        spec = importlib.util.find_spec(f"ostwald.{name}")
        assert Path(spec.origin) == ROOT / name / "__init__.py"
    assert Path(io.__file__).parent == Path(os.__file__).parent
    assert importlib.util.find_spec("ostwald").origin is None, "ostwald is a namespace without code of its own"


def test_every_kernel_is_built_from_its_source():
    for source in (ROOT / "app/kernels").glob("*.cpp"):
        module = importlib.import_module(f"ostwald.app.kernels._{source.stem}")
        assert Path(module.__file__).parent == ROOT / "app/kernels"
        assert module.__file__.endswith(sysconfig.get_config_var("EXT_SUFFIX"))


def test_every_package_is_listed_in_setup_cfg():
    import configparser

    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    listed = set(parser["options"]["packages"].split())
    found = {
        "ostwald." + ".".join(file.parent.relative_to(ROOT).parts)
        for root in ("app", "parallel", "io")
        for file in (ROOT / root).rglob("__init__.py")
    }
    assert found == listed


TRAINING = (
    "app/potentials/hdnnp/network.py",
    "app/jobs/learning_rate.py",
    "app/jobs/bench_training.py",
    *(
        str(file.relative_to(ROOT))
        for file in (ROOT / "app/jobs").glob("train*.py")
        if not file.stem.endswith("schema")
    ),
)
"""Modules that need torch; nothing else may load them on its own."""


def test_molecular_dynamics_loads_no_torch_horovod_or_petsc():
    modules = [
        "ostwald." + ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for root in ("app/atoms", "app/potentials", "app/dynamics", "app/analysis", "app/jobs", "parallel", "io")
        for file in sorted((ROOT / root).rglob("*.py"))
        if file.name != "__init__.py" and str(file.relative_to(ROOT)) not in TRAINING
    ]
    code = f"""
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))"""
    loaded = set(python(code))
    assert "numpy" in loaded
    assert not loaded & {"torch", "horovod", "petsc4py"}


@pytest.mark.skipif(importlib.util.find_spec("ostwald.app.cli") is None, reason="there is no command line yet")
def test_help_loads_nothing_heavy():
    code = """
import contextlib, io, json, sys
from ostwald.app.cli import main
text = io.StringIO()
try:
    with contextlib.redirect_stdout(text):
        main(["--help"])
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([text.getvalue(), sorted({name.partition(".")[0] for name in sys.modules})]))"""
    text, loaded = python(code)
    assert "run" in text and "resume" in text
    heavy = {"numpy", "scipy", "mpi4py", "h5py", "ase", "matplotlib", "rich", "torch", "horovod", "petsc4py"}
    assert not set(loaded) & heavy


@pytest.mark.skipif(importlib.util.find_spec("ostwald.app.cli") is None, reason="there is no command line yet")
def test_console_script():
    script = Path(sys.executable).with_name("ostwald")
    if not script.exists():
        pytest.skip("ostwald is not installed beside this Python")
    result = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, cwd="/")
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout.lower()


def test_ruff_finds_nothing():
    if importlib.util.find_spec("ruff") is None:
        pytest.skip("ruff is not installed")
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "."], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout
