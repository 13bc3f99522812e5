"""The report page and its pictures."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ostwald.app import picture, report
from ostwald.app.analysis import frame as analyse
from ostwald.app.analysis import structure
from ostwald.app.analysis.frame import classify
from ostwald.app.atoms import build
from ostwald.app.report import structure as structure_page
from ostwald.app.report.page import tiles
from ostwald.app.report.plots import PAPER
from ostwald.app.report.run import Run, Stage, chosen_frames, growth_frames, nucleus_frame
from ostwald.app.report.series import drift_of
from ostwald.app.report.style import number, seconds
from ostwald.io.structures import Structure
from ostwald.parallel import World


def frame(step=0, time=0.0, noise=0.05, lattice="fcc", a=3.52, cells=(6, 7, 8), **options):
    share = build.rattle(build.build_lattice(World(), lattice, a, "Ni", cells, **options), noise, seed=1)
    half = build.Slab(0.0, 0.5, axis=0).contains(share.positions, share.matrix, share.origin, share.periodic)
    melted = build.rattle(share, 1.0 if noise > 0.1 else 0.0, seed=2).positions
    positions = np.where(half[:, None], melted, share.positions)
    return Structure(positions, share.matrix, ("Ni",), share.types, info={"step": step, "time": time})


# --- pictures


def test_labels_of_a_frame_are_those_of_the_analysis():
    assert (classify(frame(noise=0.02)).labels == structure.FCC).all()
    hexagonal = frame(lattice="hcp", a=2.5, cells=(8, 8, 5), primitive=True, noise=0.02)
    assert (classify(hexagonal, "cna").labels == structure.HCP).all()
    mixed = classify(frame(noise=0.12)).labels
    assert 0.3 < (mixed == structure.OTHER).mean() < 0.65 and (mixed == structure.CRYSTAL).any()
    moved = frame(noise=0.02)
    moved.origin += 1.3
    moved.positions += 1.3
    assert (classify(moved).labels == structure.FCC).all()


def test_the_nearer_sphere_hides_the_farther():
    colours = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    for depth, blue_in_front in (((0.0, 1.0), True), ((1.0, 0.0), False)):
        x, y = np.array([5.0, 5.0]), np.array([4.0, 4.0])
        image = picture.spheres(x, y, np.array(depth), 2.0, colours, (80, 100), 10.0)
        red, _, blue, alpha = image[39, 50].astype(int)
        assert alpha == 255 and (blue > red) == blue_in_front
        assert image[..., 3].astype(bool).sum() == pytest.approx(np.pi * 20**2, rel=0.02)
    # Equal spheres side by side meet in the middle, whichever is drawn first; depth is per pixel.
    image = picture.spheres(np.array([4.0, 6.0]), np.array([4.0, 4.0]), np.zeros(2), 2.0, colours, (80, 100), 10.0)
    assert image[39, 44, 0] > image[39, 44, 2] and image[39, 56, 2] > image[39, 56, 0]
    assert picture.spheres(*np.zeros((3, 0)), 1.0, np.zeros((0, 3)), (8, 9), 2.0).max() == 0


def picture_of(svg):
    data = re.search(r'href="data:image/png;base64,([^"]+)"', svg).group(1)
    return np.array(Image.open(BytesIO(base64.b64decode(data))).convert("RGBA")).astype(int)


def test_slice_shows_the_colours_of_its_atoms_only():
    crystal = frame(noise=0.02)
    s = crystal.positions @ np.linalg.inv(crystal.matrix)
    labels = np.where(np.abs(s[:, 2] - 0.5) < 0.25, structure.HCP, structure.BCC)  # outside of the slab: blue
    image = picture_of(picture.slice_svg(crystal, labels, thickness=5.0))
    drawn = image[image[..., 3] > 200]
    assert (drawn[:, 0] > drawn[:, 2]).mean() > 0.99
    image = picture_of(picture.slice_svg(crystal, labels, thickness=5.0, middle=0.0))
    drawn = image[image[..., 3] > 200]
    assert (drawn[:, 2] > drawn[:, 0]).mean() > 0.99


def test_scale_bar_and_outline_have_the_scale_of_the_cell():
    tilted = frame(lattice="hcp", a=2.5, cells=(8, 8, 5), primitive=True, noise=0.02)
    svg = picture.slice_svg(tilted, classify(tilted).labels)
    corners = np.array([p.split(",") for p in re.search(r'points="([^"]+)"', svg).group(1).split()], float)
    edge = np.linalg.norm(corners[1] - corners[0])
    bar, text = re.search(r' h([\d.]+)".*?>([\d.]+ (?:nm|Å))</text>', svg).groups()
    length = float(text.split()[0]) * (10 if text.endswith("nm") else 1)
    assert float(bar) / length == pytest.approx(edge / np.linalg.norm(tilted.matrix[0]), rel=1e-3)
    angle = np.degrees(np.arccos((corners[1] - corners[0]) @ (corners[3] - corners[0]) / edge**2))
    assert angle == pytest.approx(120, abs=0.1)


def ball(cells=9, centre=(0.5, 0.5, 0.5), radius=8.0, a=3.6):
    """(a frame of a perfect crystal, which atoms lie in a ball)."""
    share = build.build_lattice(World(), "fcc", a, "Ni", (cells,) * 3)
    away = share.positions / (cells * a) - np.array(centre)
    away -= np.rint(away)
    inside = np.linalg.norm(away * cells * a, axis=1) < radius
    return Structure(share.positions, share.matrix, ("Ni",), share.types, info={"step": 0, "time": 0.0}), inside


def test_clusters_of_a_frame_and_their_unwrapping():
    crystal, first = ball(centre=(0.02, 0.98, 0.5), radius=8.0)
    _, second = ball(centre=(0.5, 0.5, 0.5), radius=5.0)
    ids, sizes = analyse.clusters(crystal, first | second)
    assert sizes.tolist() == [first.sum(), second.sum()]
    assert (ids[first] == 0).all() and (ids[second] == 1).all() and (ids[~(first | second)] == -1).all()
    whole = analyse.unwrapped(crystal, first)
    assert np.ptp(whole, axis=0).max() <= 16 and np.ptp(crystal.positions[first], axis=0).max() > 25
    spread = np.linalg.norm(whole - whole.mean(axis=0), axis=1)
    assert spread.max() < 8.1
    rod = (np.abs(crystal.positions[:, 1:] - 16.2) < 4).all(axis=1) & (np.abs(crystal.positions[:, 0] - 9) > 4)
    assert np.ptp(analyse.unwrapped(crystal, rod), axis=0) == pytest.approx(
        [21.6, 7.2, 7.2]
    )  # 0.7 of the cell, over its face
    ids, sizes = analyse.clusters(crystal, np.zeros(len(first), bool))
    assert (ids == -1).all() and len(sizes) == 0
    random = np.random.default_rng(1).random(len(first)) < 0.15  # against all distances
    ids, sizes = analyse.clusters(crystal, random, cutoff=2.6)
    s = crystal.positions[random] @ np.linalg.inv(crystal.matrix)
    d = s[:, None] - s
    near = np.linalg.norm((d - np.rint(d)) @ crystal.matrix, axis=-1) < 2.6
    for _ in range(12):  # what is reached from each atom
        near = near @ near
    same = ids[random][:, None] == ids[random]
    assert np.array_equal(near, same) and sizes.sum() == random.sum()


def test_hidden_atoms_need_not_be_drawn(monkeypatch):
    crystal, inside = ball(radius=14.0)
    labels = np.where(crystal.positions[:, 0] > 16, structure.HCP, structure.FCC)
    drawn, images = [], []
    spheres, png = picture.spheres, picture.png
    monkeypatch.setattr(picture, "spheres", lambda x, *rest, **more: drawn.append(len(x)) or spheres(x, *rest, **more))
    monkeypatch.setattr(picture, "png", lambda image, size: images.append(image.astype(int)) or png(image, size))
    picture.solid_svg(crystal, labels, inside)
    monkeypatch.setattr(picture, "_visible", lambda x, *_: np.ones(len(x), bool))
    picture.solid_svg(crystal, labels, inside)
    quick, whole = images
    assert drawn[0] < 0.8 * drawn[1] and drawn[1] == inside.sum()
    assert np.array_equal(quick[..., 3], whole[..., 3])
    difference = np.abs(quick - whole).max(axis=-1)[whole[..., 3] > 0]
    assert (difference > 8).mean() < 0.01 and difference.max() < 64  # deep in the gaps between atoms
    green, orange = quick[..., 1] > quick[..., 0] + 20, quick[..., 0] > quick[..., 1] + 20
    assert green.sum() > 4000 and orange.sum() > 4000
    nothing = picture.solid_svg(crystal, labels, np.zeros(len(inside), bool))
    assert "<image" not in nothing and nothing.count("<path") == 3  # the cell and the scale bar


def test_frames_of_selected_atoms():
    """Solid atoms only, as [trajectory] select = "solid" leaves them: the same clusters, and atoms of the same size."""
    crystal, inside = ball(radius=10.0)
    few = Structure(crystal.positions[inside], crystal.matrix, ("Ni",), crystal.types[inside], info=crystal.info)
    n, labels = len(inside), np.full(len(inside), structure.FCC)
    ids, sizes = analyse.clusters(few, np.ones(inside.sum(), bool), total=n)
    assert sizes.tolist() == [inside.sum()] and analyse.clusters(few, inside[inside], cutoff=1.0)[1].max() == 1
    assert np.allclose(analyse.unwrapped(few, ids == 0, total=n), analyse.unwrapped(crystal, inside))
    assert picture.solid_svg(few, labels[inside], inside[inside], total=n) == picture.solid_svg(crystal, labels, inside)
    run = SimpleNamespace(settings={"trajectory": {"select": "solid"}}, atoms=n)
    found, solid, _ = structure_page._labels(run, few)
    assert (found == structure.CRYSTAL).all() and solid.all()
    nothing = Structure(np.zeros((0, 3)), crystal.matrix, ("Ni",), np.zeros(0, int), info=crystal.info)
    assert "<svg" in picture.slice_svg(nothing, np.zeros(0, int), total=n)
    assert "<svg" in picture.solid_svg(nothing, np.zeros(0, int), np.zeros(0, bool), total=n)


def test_what_lies_behind_is_darker():
    x, y = (g.ravel() for g in np.meshgrid(np.arange(20.0), np.arange(20.0)))
    depth = np.where((abs(x - 10) < 3) & (abs(y - 10) < 3), -6.0, 0.0)  # a hole
    white = np.ones((400, 3))
    flat = picture.spheres(x, y, depth, 0.6, white, (200, 200), 10.0).astype(int)
    deep = picture.spheres(x, y, depth, 0.6, white, (200, 200), 10.0, relief=0.8).astype(int)
    assert deep[95:105, 95:105, 0].mean() < 0.75 * flat[95:105, 95:105, 0].mean()
    assert deep[20:40, 20:40, 0].mean() > 0.97 * flat[20:40, 20:40, 0].mean() and (deep[..., 3] == flat[..., 3]).all()


def test_frames_that_show_growth_and_the_nucleus():
    values = series()
    times = np.linspace(0, 10, 21)
    solid = values["solid_fraction"]
    assert solid[0] == 0.05 and np.isnan(solid[1])
    found = growth_frames(times, values)  # 0.05 until 4 ps, then to 0.95 at 10 ps
    assert [times[k] for k in found] == pytest.approx([4.5, 6.0, 8.0, 10.0], abs=0.26)
    assert growth_frames(times, {}) == [] and growth_frames(times, {**values, "solid_fraction": solid * 0}) == []
    # 1344 atoms: 67 solid at the start, 100 at 4.16 ps
    assert times[nucleus_frame(times, values, 1344)] == 4.5
    assert nucleus_frame(times, values, 1344, smallest=1340) is None  # not reached
    assert nucleus_frame(times[[0, 12, 20]], values, 1344) is None  # at 6 ps it is too large
    clusters = {**values, "largest_cluster": np.where(np.isfinite(solid), 2000 * (values["time"] > 7), np.nan)}
    assert nucleus_frame(times, clusters, 10**5) == np.searchsorted(times, 7.2)


def test_plane_of_bond_order_marks_the_perfect_crystals():
    perfect = structure_page._perfect()
    assert perfect["fcc"] == pytest.approx((0.1909, 0.5745), abs=1e-4)  # Steinhardt, Nelson, Ronchetti (1983)
    assert perfect["hcp"] == pytest.approx((0.0972, 0.4848), abs=2e-4)
    assert perfect["bcc"][0] < 0.12 and 0.5 < perfect["bcc"][1] < 0.56
    svg = structure_page.plane_svg(
        [("1 ps", np.array([1, 1, 0]), np.array([0.19, 0.19, 0.05]), np.array([0.57, 0.57, 0.1]))]
    )
    image = np.array(Image.open(BytesIO(base64.b64decode(re.search(r"base64,\s*([^\"]+)", svg).group(1))))).astype(int)
    filled = image[image[..., 3] > 0]
    assert len(filled) and (filled[:, 1] > filled[:, 0] + 20).any() and (np.ptp(filled[:, :3], axis=1) < 20).any()


# --- the page

RUN_FILE = """
[job]
kind = "md"
title = "Freezing <nickel> & more"
seed = 3
[structure]
lattice = "fcc"
species = ["Ni"]
[potential]
file = "Ni.eam.alloy"
precision = "mixed"
[[stage]]
name = "melt"
ensemble = "nvt"
temperature = 3500.0
timestep = 0.002
time = 4.0
[[stage]]
name = "grow"
ensemble = "npt"
temperature = [1500.0, 1250.0]
pressure = 0.0
timestep = 0.002
steps = 3000
freeze = ["seed"]
[analysis]
every = 100
method = "q6"
"""


def series(rows=101, atoms=1344):
    time = np.linspace(0, 10, rows)
    solid = np.where(time < 4, 0.05, 0.05 + 0.9 * (time - 4) / 6)
    every_other = np.where(np.arange(rows) % 2 == 0, 1.0, np.nan)
    values = dict(
        step=np.arange(rows) * 50,
        time=time,
        temperature=np.full(rows, 1250.0),
        potential_energy=-4.4 * atoms - 0.1 * atoms * solid,
        enthalpy=-4.3 * atoms - 0.1 * atoms * solid,
        pressure=np.full(rows, -0.0125),
        density=8.0 + solid,
        conserved=np.where(time <= 4, -4.0, -3.0) * atoms + 1e-3 * atoms * time,
        solid_fraction=solid * every_other,
        fcc_fraction=0.7 * solid * every_other,
        hcp_fraction=0.2 * solid * every_other,
        bcc_fraction=np.zeros(rows),
        atom_steps_per_second=np.full(rows, 2.5e6),
    )
    for v in "abc":
        for k in "xyz":
            values[f"cell_{v}{k}"] = (21 - solid) * (v == dict(x="a", y="b", z="c")[k])
    return values


def timing(finished=True):
    sections = {name: dict(min=1.0, mean=2.0, max=3.0, share=0.25) for name in ("force", "halo", "output", "other")}
    names = ("atoms", "ghosts", "neighbours_per_atom", "resident_bytes", "halo_bytes_per_step")
    return dict(
        ranks=2, threads=1, grid=[2, 1, 1], atoms=1344, steps=5000, wall_seconds=150.0, atom_steps_per_second=2.5e6,
        microseconds_core_per_atom_step=0.8, ns_per_day=12.0, list_style="half", builds=10, dangerous_builds=0,
        imbalance=1.01, bytes_per_atom=600.0, sections=sections, finished=finished, total_wall_seconds=3725.0,
        per_rank={name: dict(min=1.0, mean=2.0, max=3.0) for name in names},
    )  # fmt: skip


def run_of(tmp_path, **changes):
    import tomllib

    settings = tomllib.loads(RUN_FILE)
    stages = [Stage("melt", settings["stage"][0], 4.0), Stage("grow", settings["stage"][1], 10.0)]
    start = dict(date="2026-01-01T00:00:00+0000", command=["ostwald", "run", "x.toml"], ranks=2, threads=1)
    start |= dict(
        hosts={"node": 2},
        versions={"ostwald": "0.1.0", "numpy": "2"},
        processor="A <fast> one",
        cores=2,
        system="Linux",
        python="3.11",
    )
    values = dict(
        path=tmp_path,
        text=RUN_FILE,
        title=settings["job"]["title"],
        stages=stages,
        series=series(),
        timing=timing(),
        provenance=[start],
        frames=[frame(), frame(5000, 10.0, noise=0.12)],
        atoms=1344,
        settings=settings,
    )
    return Run(**{**values, **changes})


class Page(HTMLParser):
    """Checks that tags are balanced; collects ids, texts and everything that is linked to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.links += [v for k, v in attributes.items() if k in ("href", "src", "xlink:href", "data", "action")]
        self.links += re.findall(r"url\(([^)]+)\)", " ".join(str(v) for v in attributes.values()))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and tag not in ("meta", "br", "img"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def test_page_is_whole_and_self_contained(tmp_path):
    text = report.page(run_of(tmp_path))
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    known = {f"#{name}" for name in page.ids}
    assert all(link.startswith("data:image/png;base64,") or link in known for link in page.links)
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", text) and "<script" not in text
    assert text.count("<style") == 1
    plots = re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    assert not re.search("|".join(PAPER), plots)  # every colour of a plot is one of the page's
    assert not re.search(r"\b(nan|none|inf)\b", " ".join(page.text), re.I)
    shown = " ".join(page.text)
    assert "Freezing <nickel> & more" in shown and "A <fast> one" in shown
    for title in ("Solid fraction", "Temperature", "Pressure", "Density", "Cell", "Conserved energy", "Speed"):
        assert f"<h3>{title}</h3>" in text
    assert text.count('class="slice"') == 2 and "finished" in shown


def test_numbers_of_the_page(tmp_path):
    run = run_of(tmp_path)
    shown = {what: (value, unit) for value, unit, what in tiles(run)}
    assert shown["solid: least → end"] == ("5.00 → 95.0", "%")
    change = shown["enthalpy, last twentieth of grow less its second"]
    assert change[1] == "meV/atom" and float(change[0].replace("−", "-")) == pytest.approx(-90 * 0.9, rel=0.02)
    assert shown["mean pressure, second half of grow"][0] == "−0.013"
    assert shown["wall time, 2 ranks"][0] == "1 h 2 min"
    assert shown["simulated time"] == ("10.00", "ps")
    early = run_of(tmp_path, series={name: values[:35] for name, values in series().items()})  # until 3.4 ps
    assert early.last_stage()[0] == "melt" and early.last_stage()[1].all()
    name, rows = run.last_stage()
    assert name == "grow" and np.array_equal(rows, run.time > 4 + 1e-9)
    # Each stage starts at zero; the jump of 1 eV/atom between them is no drift.
    assert np.abs(drift_of(run)).max() == pytest.approx(1344 * 0.006, rel=0.05)


def test_page_of_a_run_that_was_killed(tmp_path):
    text = report.page(run_of(tmp_path, timing=None, frames=[], atoms=None, provenance=[]))
    shown = " ".join(Page(text).text)
    assert "no end recorded" in shown and "Where the time went" not in shown and "energy (eV)" in shown
    nothing = report.page(run_of(tmp_path, series={}, timing=timing(False), frames=[], stages=[]))
    assert "stopped, to be resumed" in nothing and "Over time" not in nothing
    one = {name: values[:1] for name, values in series().items()}
    Page(report.page(run_of(tmp_path, series=one)))


def nuclei_file(path, world):
    """Embryos of up to 8, 20 and 30 atoms that dissolve, nucleus 4 that grows from 40 on, and 5 that merges into it."""
    from ostwald.app.analysis.nuclei import BIRTH, DISSOLVE, EVENT, MERGE
    from ostwald.io.nuclei import NucleiFile

    kinds = [("step", "i8"), ("time", "f8"), ("number", "i8"), ("size", "i8"), ("radius", "f8")]
    dtype = np.dtype([*kinds, ("composition", "i8", (len(structure.LABELS),))])
    lives = {
        1: (0, [5, 8, 3]),
        2: (2, [12, 20, 11]),
        3: (3, [10, 30, 25, 9]),
        4: (5, [25, 40, 80, 160, 320]),
        5: (6, [12, 13]),
    }
    ends = {1: (DISSOLVE, 0, 4), 2: (DISSOLVE, 0, 6), 3: (DISSOLVE, 0, 8), 5: (MERGE, 4, 8)}
    rows = [
        (100 * (begin + k), 0.2 * (begin + k), nucleus, size, np.sqrt(size), [0, size - 2, 2, 0, 0, 0, 0, 0, 0])
        for nucleus, (begin, sizes) in lives.items()
        for k, size in enumerate(sizes)
    ]
    events = [(100 * b, 0.2 * b, BIRTH, k, 0, s[0], s[0], 0.2 * b) for k, (b, s) in lives.items()]
    for k, (kind, other, at) in ends.items():
        sizes = lives[k][1]
        events.append((100 * at, 0.2 * at, kind, k, other, sizes[-1], max(sizes), 0.2 * (at - 1)))
    rows, events = np.sort(np.array(rows, dtype), order="step"), np.sort(np.array(events, EVENT), order="step")
    with NucleiFile.create(path, world, dtype, EVENT) as file:
        file.append(rows, events)


def test_nuclei_of_a_run(tmp_path, world):
    nuclei_file(tmp_path / "nuclei.h5", world)
    text = report.page(run_of(tmp_path))
    page = Page(text)
    shown = " ".join(page.text)
    assert len(page.ids) == len(set(page.ids)) and not re.search(r"\b(nan|inf)\b", shown)
    assert "5 nuclei: 3 dissolved, 1 merged into another, 0 split off." in shown
    assert "The largest that fell back had 30 atoms; the smallest from which one grew for good, 40." in shown
    table = text[text.index("<h3>The largest</h3>") :]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)][1:6]
    assert [row[0] for row in cells] == ["4", "3", "2", "5", "1"]  # by the largest size
    assert cells[0] == ["4", "1.000", "1.800", "320", "17.9", "99 % fcc, 1 % hcp, stacking fault", "lives"]
    assert cells[3][-1] == "merged into 4" and cells[4][-1] == "dissolved"
    assert "Nuclei" not in " ".join(Page(report.page(run_of(tmp_path / "without"))).text)


def test_directory_without_a_run(tmp_path):
    with pytest.raises(report.ReportError, match="not a run directory"):
        report.write_report(tmp_path)


def test_numbers_for_people():
    for value, text in ((0, "0"), (1250.04, "1250"), (16384, "16\u2009384"), (-0.012345, "−0.01235"), (np.nan, "–")):
        assert number(value) == text
    assert number(2.5e9) == "2.50 × 10<sup>9</sup>" and number(3.2e-7, 3) == "3.2 × 10<sup>−7</sup>"
    assert [seconds(x) for x in (59.94, 150, 7260)] == ["59.9 s", "2 min 30 s", "2 h 1 min"]


def test_frame_without_atoms():
    assert len(classify(SimpleNamespace(positions=np.zeros((0, 3)))).labels) == 0


def test_report_of_a_run_directory(tmp_path):
    """What the writers of a run leave is what the page shows; the least solid of the frames is among the pictures."""
    from ostwald.io.h5md import Group, Result, Trajectory
    from ostwald.io.rundirectory import RunDirectory
    from ostwald.io.timeseries import TimeSeries

    world, rows, first = World(), series(), frame()
    text = RUN_FILE.replace('"Freezing', '"A directory:')
    with RunDirectory.create(tmp_path / "run", world, text) as directory:
        extra = {name: "" for name in rows if name.endswith("_fraction")}
        whole = dict(pressure=np.array([0.5, -0.5, -0.0375, 0, 0, 0]), cell=first.matrix, kinetic_energy=1.0)
        names = (*extra, *"step time temperature potential_energy conserved enthalpy density".split())
        names += ("atom_steps_per_second",)
        with TimeSeries.create(directory.series_file, world, extra) as file:
            for k in range(len(rows["time"])):
                file.append(**{name: rows[name][k] for name in names}, **whole)
        n = len(first)
        given = dict(ids=np.arange(n), types=first.types, species=("Ni",), total=n)
        group = Group(fields=("position", "structure"))
        labels = np.full(n, structure.FCC, np.int8)
        with Trajectory.create(
            directory.trajectory_file, world, **given, groups=(group,), results={"structure": Result((), None, "int8")}
        ) as file:
            for step, time in ((0, 0.0), (1000, 2.0), (3000, 6.0), (5000, 10.0)):
                file.append(step, time, first.matrix, first.origin, np.arange(n), first.positions, structure=labels)
        directory.write_json(directory.timing_file, timing())
    target = report.write_report(tmp_path / "run")
    assert target == tmp_path / "run" / "report.html"
    shown = " ".join(Page(target.read_text()).text)
    assert "A directory: <nickel> & more" in shown and "5.00 → 95.0" in shown and "−0.013" in shown
    pictures = re.findall(r"<figcaption>([^<]*), step (\d+)</figcaption>", target.read_text())
    assert pictures == [("start", "0"), ("10.00 ps", "5000")]  # the least solid moment is the start here
    run = report.read_run(tmp_path / "run")
    run.series["solid_fraction"][60] = 0.01  # at 6 ps
    assert chosen_frames(tmp_path / "run" / "trajectory.h5", run.series) == [0, 2, 3]
    with pytest.raises(report.ReportError, match=r"absent/x.html: cannot be written, there is no folder"):
        report.write_report(tmp_path / "run", tmp_path / "absent" / "x.html")
    other = report.write_report(tmp_path / "run", tmp_path / "page.html")
    assert other.read_text() == target.read_text()
