"""`ostwald nucleation` on run directories as the job leaves them."""

import csv
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from ostwald.app import replicas
from ostwald.app.cli import main
from ostwald.io.timeseries import TimeSeries
from ostwald.parallel import World

ATOMS, VOLUME = 4000, 46656.0
RUN_FILE = """
[job]
kind = "md"
seed = {seed}
[structure]
lattice = "fcc"
a = 3.6
species = ["Ni"]
cells = [10, 10, 10]
[potential]
file = "{potential}"
[[stage]]
name = "quench"
ensemble = "npt"
temperature = [2000.0, {temperature}]
pressure = 0.0
timestep = 0.002
time = 10.0
[[stage]]
name = "hold"
ensemble = "npt"
temperature = {temperature}
pressure = 0.0
timestep = 0.002
time = 150.0
[analysis]
every = 250
method = "{method}"
{more}
"""


def growth(born, random, end=150.0, critical=40, embryos=8.0):
    """(time ps from the start of the run, size): embryos of random sizes, then a nucleus that grows from n* on."""
    time = np.arange(0, end + 10.25, 0.8)
    size = np.minimum(random.exponential(embryos, len(time)), 0.9 * critical)
    grown = np.where(time - 10 > born, critical + 25 * np.maximum(time - 10 - born, 0) ** 1.5, 0)
    return time, np.rint(np.minimum(np.maximum(size, grown), ATOMS))


def write_run(folder, seed, time, size, temperature=950.0, potential="zhou:Ni", method="q6", clusters=True, more=""):
    """A run directory with what the statistics read."""
    folder.mkdir(parents=True)
    text = RUN_FILE.format(seed=seed, temperature=temperature, potential=potential, method=method, more=more)
    (folder / "run.toml").write_text(text)
    (folder / "timing.json").write_text(json.dumps(dict(atoms=ATOMS, finished=True)))
    extra = {"solid_fraction": "1", **({"largest_cluster": "1"} if clusters else {})}
    rest = dict.fromkeys(("potential_energy", "kinetic_energy", "conserved", "enthalpy", "density"), 0.0)
    rest |= dict(temperature=temperature, pressure=np.zeros(6), cell=np.eye(3) * VOLUME ** (1 / 3))
    with TimeSeries.create(folder / "series.h5", World(), extra) as file:
        for k, (t, n) in enumerate(zip(time, size)):
            measured = {"solid_fraction": min((n + 20) / ATOMS, 1.0), **({"largest_cluster": n} if clusters else {})}
            measured = measured if k % 5 else dict.fromkeys(measured, np.nan)
            file.append(step=k, time=t, atom_steps_per_second=1e6, **rest, **measured)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """20 replicas at 950 K, born at a rate of 1/(40 ps) behind a lag of 5 ps, and 4 at 900 K; what was put in."""
    random = np.random.default_rng(19)
    folder = tmp_path_factory.mktemp("runs")
    born = 5 + random.exponential(40.0, 20)
    for seed, at in enumerate(born):
        write_run(folder / f"warm-{seed}", seed, *growth(at, random))
    for seed in range(4):
        write_run(folder / f"cold-{seed}", seed, *growth(2.0 + seed, random), temperature=900.0)
    return folder, born


class Text(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.text, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.ids += [v for k, v in attributes if k == "id"]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [v for k, v in attributes if k == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_rate_and_times_of_replicas(runs, tmp_path, capsys):
    folder, born = runs
    directories = [str(p) for p in sorted(folder.iterdir())]
    theory = ["--melting", "1500", "--latent-heat", "0.15", "--attachment", "30"]
    assert main(["nucleation", *directories, "--threshold", "60", "--output", str(tmp_path / "out"), *theory]) == 0
    printed = capsys.readouterr().out
    assert "Ni, zhou:Ni, 4000 atoms, 950 K, 0 GPa" in printed and "20 replicas nucleated" in printed
    cold, warm = json.loads((tmp_path / "out" / "nucleation.json").read_text())["groups"]
    assert (cold["temperature_K"], warm["temperature_K"]) == (900, 950) and len(cold["replicas"]) == 4
    ended = born < 150 - (60 / 25) ** (2 / 3) - 1
    assert [r["nucleated"] for r in warm["replicas"]].count(True) == ended.sum()
    by_seed = {r["seed"]: r for r in warm["replicas"]}
    expected = born + (20 / 25) ** (2 / 3)  # until it has grown from 40 to 60 atoms
    assert all(abs(by_seed[k]["induction_ps"] - expected[k]) < 1.7 for k in np.flatnonzero(ended))
    exact = 1 / (40e-12 * VOLUME * 1e-30)  # 1/(τ V) in 1/(m³ s)
    low, high = warm["survival"]["interval_per_m3_s"]
    assert low < exact < high and warm["survival"]["rate_per_m3_s"] == pytest.approx(exact, rel=0.6)
    assert warm["survival"]["lag_fitted"] and warm["volume_A3"] == pytest.approx(VOLUME)
    level = (0.4 * ATOMS - 40 - 20) / 25  # where 40 % are solid
    transformed = {r["seed"]: r["transformed_ps"] for r in warm["replicas"]}
    assert transformed[0] == pytest.approx(born[0] + level ** (2 / 3), abs=1.7)
    found = warm["first_passage"]
    assert found["tau_ps"] == pytest.approx(np.mean(born), rel=0.2) and 25 < found["critical_size"] < 50
    assert warm["classical"]["critical_size"] == pytest.approx(found["critical_size"])
    assert warm["classical"]["driving_force_eV"] == pytest.approx(0.15 * 550 / 1500)
    assert warm["classical"]["rate_per_m3_s"] > 0 and warm["solid"].startswith("Solid")
    rows = list(csv.DictReader((tmp_path / "out" / "replicas.csv").read_text().splitlines()))
    assert len(rows) == 24 and rows[4]["temperature_K"] == "950.0"
    assert sorted(r["directory"] for r in rows) == sorted(p.name for p in folder.iterdir())
    page = Text((tmp_path / "out" / "nucleation.html").read_text())
    shown = " ".join(page.text)
    assert len(page.ids) == len(set(page.ids))
    for title in (
        "Growth",
        "Melts that have not nucleated",
        "Mean first-passage time",
        "Time, temperature, transformation",
    ):
        assert title in shown


def test_threshold_follows_from_first_passages_and_stops(runs):
    folder, _ = runs
    found = replicas.groups_of([replicas.read_replica(p) for p in sorted(folder.glob("warm-*"))])[0]
    replicas.evaluate(found)
    assert found.threshold == np.ceil(found.first_passage.committed) and found.grown == 2 * found.threshold
    for one in found.replicas:
        one.stop = int(found.threshold) + 5
    assert replicas.evaluate(found).grown == found.threshold + 5
    assert {len(found.induction), len(found.replicas), len(found.transformed)} == {20}


def test_what_does_not_suffice_is_said(runs, tmp_path, capsys):
    folder, _ = runs
    assert main(["nucleation", str(folder / "warm-1"), "-o", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    assert "J, first passage  none: first-passage times need 3 replicas, there are 1" in " ".join(printed.split("\n  "))
    assert "the threshold must be given (--threshold)" in printed
    assert json.loads((tmp_path / "one" / "nucleation.json").read_text())["groups"][0]["threshold"] is None
    Text((tmp_path / "one" / "nucleation.html").read_text())


def test_what_cannot_be_taken_together_is_refused(tmp_path, capsys):
    random = np.random.default_rng(1)
    series = growth(20.0, random)
    first = write_run(tmp_path / "a", 1, *series)

    def says(*arguments):
        assert main(["nucleation", *map(str, arguments), "-o", str(tmp_path / "out")]) != 0
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err.strip()

    assert "b have the same seed 1: they are one replica" in says(first, write_run(tmp_path / "b", 1, *series))
    assert "they cannot be taken together" in says(first, write_run(tmp_path / "c", 2, *series, clusters=False))
    other = write_run(tmp_path / "d", 3, *series, method="cna")
    assert "call different atoms solid" in says(first, other)
    assert "not a run directory" in says(tmp_path)
    assert "has no stage 'melt'; its stages: quench, hold" in says(first, "--stage", "melt")
    assert "stage 'quench' does not hold one temperature" in says(first, "--stage", "quench")
    early = write_run(tmp_path / "e", 4, series[0][:10], series[1][:10])
    assert "e: fewer than two analyses in stage 'hold'" in says(first, early)
    assert "needs both --melting and --latent-heat" in says(first, "--melting", "900")
    assert "--grown 20 must not be below --threshold 30" in says(first, "--threshold", "30", "--grown", "20")
    none = tmp_path / "f"
    write_run(none, 5, *series)
    (none / "series.h5").unlink()
    assert "f: its time series has no largest_cluster and no solid_fraction" in says(none)
    with pytest.raises(SystemExit):
        main(["nucleation", str(first), "--threshold", "-3"])


def test_solid_atoms_where_there_are_no_clusters(tmp_path):
    found = replicas.read_replica(write_run(tmp_path / "a", 1, *growth(20.0, np.random.default_rng(1)), clusters=False))
    assert found.measure == "solid_fraction" and found.size.max() == ATOMS and 0 <= found.time[0] < 0.8
    assert found.state == ("zhou:Ni", ("Ni",), ATOMS, 950.0, 0.0) and found.stop is None
    more = "[stop]\nlargest_cluster = 500\n"
    assert (
        replicas.read_replica(write_run(tmp_path / "b", 1, *growth(2.0, np.random.default_rng(1)), more=more)).stop
        == 500
    )
