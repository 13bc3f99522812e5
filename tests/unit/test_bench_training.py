"""The model of training on clusters, and the command that measures what it needs."""

import json

import pytest

from ostwald.app.cli import main
from ostwald.app.jobs.bench_training import Cluster, Update, predict


def test_the_model_at_its_limits():
    """No link within a node; work that divides is divided, whole structures only; bytes and latencies as the formula says."""
    update, free = Update(shared=6.4, alone=0.02, structures=6400, nbytes=0), Cluster(0.0, 1e30, 64)
    assert predict(update, 1, free)["seconds"] == pytest.approx(6.4 / 64 + 0.02)
    assert predict(update, 100, free)["work"] == pytest.approx(1e-3)  # one structure each
    assert predict(update, 1000, free)["work"] == pytest.approx(1e-3)
    assert predict(Update(1.0, 0.0, 65, 0), 1, free)["work"] == pytest.approx(2 / 65)
    slow = predict(Update(6.4, 0.02, 6400, 8_000_000), 8, Cluster(1e-6, 1e9, 1))
    assert slow["communication"] == pytest.approx(2 * 3 * 1e-6 + 2 * 8e6 * 7 / 8 / 1e9 + 2 * 8e6 / 200e9)
    assert slow["speed_up"] == pytest.approx(6.42 / slow["seconds"])
    assert slow["efficiency"] == pytest.approx(slow["speed_up"] / 8)


def test_the_command(tmp_path, capsys):
    target = tmp_path / "x.json"
    options = ["--atoms=400", "--repeat=1", "--steps=1", "--nodes=1", "--nodes=4", f"--json={target}"]
    assert main(["bench", "training", *options]) == 0
    found = json.loads(target.read_text())
    rows = {row["case"]: row for row in found["results"]}
    assert set(rows) == {"levenberg-marquardt", "adam"}
    for row in rows.values():
        assert row["ranks"] == 1 and row["atoms"] == 108 * row["structures"] and row["parameters"] == 1137
        assert row["path"] == pytest.approx(row["shared"] + row["alone"]) and row["shared"] > row["alone"] > 0
    assert rows["levenberg-marquardt"]["nbytes"] == 8 * (1137 * 1138 // 2 + 2 * 1137 + 2)
    assert len(found["predicted"]) == 2 * 3 * 2
    out = capsys.readouterr().out
    assert "a model of nodes with 64 cores" in out and "levenberg-marquardt" in out
    assert main(["bench", "training", "--case=sgd"]) == 1
    assert "no case 'sgd'; known: adam, levenberg-marquardt" in capsys.readouterr().err
