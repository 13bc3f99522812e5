"""Rates of files beside the disk's: bytes counted, nothing left behind, no failure where the disk cannot be written."""

import pytest

from ostwald.io import rates
from ostwald.parallel import World


def test_rates(tmp_path):
    rate = rates.Rate()
    for size in (10 << 20, 30 << 20):
        with rate.adding(size):
            pass
    figures = rate.figures()
    assert figures["count"] == 2 and figures["bytes"] == 40 << 20
    assert figures["bytes_per_second"] == pytest.approx(figures["bytes"] / figures["seconds"])
    disk = rates.disk_rate(World(), tmp_path, 20 << 20)
    assert disk["bytes"] == 20 << 20 and disk["bytes_per_second"] >= disk["flushed_per_second"] > 0
    assert list(tmp_path.iterdir()) == []
    assert rates.disk_rate(World(), tmp_path / "none", 20 << 20) == {} == rates.disk_rate(World(), tmp_path, 0)
    text = rates.lines({"checkpoints": figures, "frames": rates.Rate().figures(), "disk": disk})
    assert len(text) == 2 and "2 of 21.0 MB" in text[0] and "plain writes of 21 MB" in text[1]


def test_a_full_disk_has_no_rate(tmp_path, monkeypatch):
    def full(self, offset, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rates.SharedFile, "write", full)
    assert rates.disk_rate(World(), tmp_path, 1 << 20) == {} and list(tmp_path.iterdir()) == []
