"""Evaluations of surrogates on several ranks: each case by whoever is free, the same results on any number of them."""

import json
from pathlib import Path

import pytest
from surrogate_evaluations import SET, network

from ostwald.app.jobs import evaluate_surrogate
from ostwald.parallel import CollectiveError, World

pytestmark = pytest.mark.mpi

TEXT = """
[job]
kind = "evaluate-surrogate"
[[model]]
file = "net.ostwald"
[[model]]
kind = "persistence"
[[protocol]]
kind = "test-set"
truth = "set.toml"
[[protocol]]
kind = "larger-domain"
truth = "set.toml"
count = 1
frames = 2
"""


def test_any_number_of_ranks_finds_the_same(world, tmp_path_factory, monkeypatch):
    from mpi4py import MPI

    monkeypatch.setattr("ostwald.app.jobs.evaluate_surrogate.leave_report", lambda world, directory: None)
    folder = Path(world.bcast(str(tmp_path_factory.mktemp("evaluation"))))
    if world.root:
        network(folder / "net.ostwald")
        (folder / "set.toml").write_text(SET)
        (folder / "run.toml").write_text(TEXT)
        assert evaluate_surrogate.run(World(MPI.COMM_SELF), folder / "run.toml", folder / "one") == 0
    world.barrier()
    assert evaluate_surrogate.run(world, folder / "run.toml", folder / "many") == 0
    if world.root:
        one, many = (json.loads((folder / name / "evaluation.json").read_text()) for name in ("one", "many"))
        for a, b in zip(one["protocols"], many["protocols"]):
            assert a["truth"] == b["truth"] and a["parameters"] == b["parameters"]
            for name in a["models"]:
                assert a["models"][name]["errors"] == b["models"][name]["errors"]
        timing = json.loads((folder / "many" / "timing.json").read_text())
        assert timing["cases"] == 5 and timing["sections"]["truth"]["mean"] > 0
    world.barrier()
    assert evaluate_surrogate.resume(world, folder / "many") == 0  # nothing is left to do
    with pytest.raises(CollectiveError, match="no such run file"):
        if world.root:
            (folder / "set.toml").unlink()
        world.barrier()
        evaluate_surrogate.run(world, folder / "run.toml", folder / "never")
