"""`ostwald bench analysis`: microseconds·core per atom of each structure analysis, beside OVITO and freud.

System: fcc copper with Gaussian noise of 0.15 Å, periodic. Contestants take turns (each repeat runs each case once, then its
peer), and minimum and median of CPU time over repeats are reported. Times here do not include the ghosts, which a run has
anyway; the search of neighbours is included everywhere. A peer is measured where its package is installed; where it is not,
the figure quoted in its place was measured on another machine of this kind (108 000 atoms, one core), and marked so.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ostwald.app.analysis import structure
from ostwald.app.atoms import build
from ostwald.app.jobs.bench import choose, require_folder, write_figures
from ostwald.app.jobs.bench_md import cells_for
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.app.potentials.images import Images
from ostwald.parallel import CollectiveError

NOISE = 0.15
REACH = 6.3


@dataclass(frozen=True)
class Case:
    """An analysis: what runs, its peer's name, the peer's quoted µs (None: none known), how results compare."""

    name: str
    run: Callable
    peer: str | None = None
    quoted: float | None = None
    compare: str = "labels"


def crystal(world, atoms):
    """(Neighbourhoods of one rank with their images, positions (n, 3), matrix)."""
    share = build.build_lattice(world, "fcc", 3.615, "Cu", cells_for("fcc", 3.615, atoms))
    share = build.rattle(share, NOISE, seed=1)
    images = Images(share.positions, share.matrix, share.periodic, REACH)
    rows, n = np.ascontiguousarray(images.rows(share.positions)), share.total
    nothing = np.zeros(n + 1, np.int64), np.zeros(0, np.int32)
    nb = Neighbourhoods(rows, np.zeros(len(rows), np.int32), n, *nothing, "full", images.forward, images.reverse)
    return nb, rows[:n], share.matrix


def order(*names):
    return lambda nb: structure.order_parameters(nb, REACH, names)


def templates(*names, fields=("rmsd",)):
    return lambda nb: structure.match_templates(nb, REACH, names, fields)


CASES = [
    Case("cna", lambda nb: structure.common_neighbours(nb, REACH), "OVITO", 3.3),
    Case("cna-fixed", lambda nb: structure.common_neighbours(nb, REACH, cutoff=3.09), "OVITO"),
    Case("ptm", templates("fcc", "hcp", "bcc"), "OVITO", 20.4),
    Case("ptm-orientation", templates("fcc", "hcp", "bcc", fields=("rmsd", "orientation")), "OVITO", 20.4),
    Case("ptm-all", templates(*structure.TEMPLATES), "OVITO"),
    Case("diamond", lambda nb: structure.diamond(nb, REACH), "OVITO"),
    Case("csp", lambda nb: structure.centrosymmetry(nb, REACH), "OVITO", 2.4, "Å²"),
    Case("nearest-12", lambda nb: structure.neighbours(nb, REACH, nearest=12), "freud", 5.0, ""),
    Case("q6", order("local_q6"), "freud", 9.9, "q6"),
    Case("q6-averaged", order("q6"), "freud", 12.0, "q6"),
    Case("w6-averaged", order("w6"), "freud", None, "w6"),
    Case("q4-q6-w4-w6", order("q4", "q6", "w4", "w6"), None),
    Case("bonds", order("bonds"), "freud", 25.7, "bonds"),
]


def ovito_cases(positions, matrix):
    """{case: callable} of OVITO's modifiers, {} where it is not installed."""
    os.environ.setdefault("OVITO_THREAD_COUNT", "1")
    try:
        from ovito import modifiers
        from ovito.data import DataCollection, Particles, SimulationCell
    except ImportError:
        return {}, None
    import ovito

    def apply(make, column="Structure Type"):
        def run():
            data, cell, particles = DataCollection(), SimulationCell(pbc=(True, True, True)), Particles()
            with cell:
                cell[...] = np.column_stack([matrix.T, np.zeros(3)])
            data.objects.append(cell)
            particles.create_property("Position", data=positions)
            data.objects.append(particles)
            data.apply(make())
            return np.array(data.particles[column])

        return run

    def matching(names, **options):
        def make():
            modifier = modifiers.PolyhedralTemplateMatchingModifier(rmsd_cutoff=structure.RMSD_CUTOFF, **options)
            numbers = {int(getattr(modifier.Type, name)) for name in names}
            for kind in modifier.structures:
                kind.enabled = kind.id in numbers
            return modifier

        return make

    cna = modifiers.CommonNeighborAnalysisModifier
    metals, every = ("FCC", "HCP", "BCC"), ("FCC", "HCP", "BCC", "ICO", "SC", "CUBIC_DIAMOND", "HEX_DIAMOND")
    return {
        "cna": apply(lambda: cna(mode=cna.Mode.AdaptiveCutoff)),
        "cna-fixed": apply(lambda: cna(mode=cna.Mode.FixedCutoff, cutoff=3.09)),
        "ptm": apply(matching(metals, output_rmsd=True)),
        "ptm-orientation": apply(matching(metals, output_rmsd=True, output_orientation=True)),
        "ptm-all": apply(matching(every, output_rmsd=True)),
        "diamond": apply(modifiers.IdentifyDiamondModifier),
        "csp": apply(lambda: modifiers.CentroSymmetryModifier(num_neighbors=12), "Centrosymmetry"),
    }, f"OVITO {ovito.version_string}"


def freud_cases(positions, matrix):
    """{case: callable} of freud's classes, {} where it is not installed."""
    try:
        import freud
    except ImportError:
        return {}, None
    freud.parallel.set_num_threads(1)
    box = freud.box.Box.from_matrix(matrix.T)
    system = (box, box.wrap(positions - matrix.sum(axis=0) / 2))
    twelve = {"num_neighbors": 12, "exclude_ii": True}

    def search():
        return freud.locality.AABBQuery(*system).query(system[1], twelve).toNeighborList()

    def steinhardt(**options):
        return lambda: freud.order.Steinhardt(l=6, **options).compute(system, neighbors=twelve).particle_order

    def solid():
        found = freud.order.SolidLiquid(l=6, q_threshold=structure.COHERENT, solid_threshold=7)
        return found.compute(system, neighbors=twelve).num_connections

    return {
        "nearest-12": search,
        "q6": steinhardt(),
        "q6-averaged": steinhardt(average=True),
        "w6-averaged": steinhardt(average=True, wl=True, wl_normalize=True),
        "bonds": solid,
    }, f"freud {freud.__version__}"


def difference(case, mine, theirs):
    """How the results of a case and its peer differ, as text."""
    if case.compare == "":
        return ""
    if case.compare == "labels":
        mine = mine[0] if isinstance(mine, tuple) else mine
        if case.name.startswith("ptm"):  # OVITO's numbers: 1-4 as here, then sc, cubic and hexagonal diamond
            theirs = np.array([0, 1, 2, 3, 4, 6, 7, 8], int)[theirs]
        return f"{np.count_nonzero(mine != theirs)} labels differ"
    mine = next(iter(mine.values())) if isinstance(mine, dict) else mine
    if case.compare == "bonds":
        return f"{np.count_nonzero(mine != theirs)} counts differ"
    return f"largest difference {np.abs(mine - theirs).max():.0e} {case.compare}"


def timed(run, n):
    """(result, µs of CPU time per atom)"""
    begun = time.process_time()
    result = run()
    return result, (time.process_time() - begun) / n * 1e6


def bench(world, given) -> int:
    """The command; prints a table."""
    if world.size > 1:
        raise CollectiveError("bench analysis measures one core: run it on one rank")
    names = [case.name for case in CASES]
    if given.case == ["list"]:
        world.log("\n".join(names))
        return 0
    chosen = choose(names, given.case)
    require_folder(given.json)
    cases = [case for case in CASES if case.name in chosen]
    nb, positions, matrix = crystal(world, given.atoms)
    n = nb.nlocal
    peers, versions = {}, {}
    for find, name in ((ovito_cases, "OVITO"), (freud_cases, "freud")):
        found, versions[name] = find(positions, matrix)
        peers |= found
    ours, theirs, notes = {}, {}, {}
    for _ in range(given.repeat):
        for case in cases:
            result, t = timed(lambda case=case: case.run(nb), n)
            ours.setdefault(case.name, []).append(t)
            if case.name in peers:
                other, t = timed(peers[case.name], n)
                theirs.setdefault(case.name, []).append(t)
                notes[case.name] = difference(case, result, other)
    world.log(f"{n} atoms, {given.repeat} repeats; µs·core per atom (minimum, median)")
    world.log(f"{'case':<18}{'ostwald':>9}{'':>8}   {'peer':<16}{'µs':>8}{'':>9}{'ratio':>7}")
    results = []
    for case in cases:
        mine = ours[case.name]
        row = dict(case=case.name, us_min=min(mine), us_median=statistics.median(mine), peer=case.peer, atoms=n)
        line = f"{case.name:<18}{row['us_min']:>9.3f}{row['us_median']:>8.3f}   "
        if case.name in theirs:
            other = theirs[case.name]
            row |= dict(peer=versions[case.peer], peer_us_min=min(other), peer_us_median=statistics.median(other))
            row |= dict(measured=True, ratio=row["peer_us_min"] / row["us_min"], difference=notes[case.name])
            line += f"{row['peer']:<16}{row['peer_us_min']:>8.2f}{row['peer_us_median']:>9.2f}{row['ratio']:>7.1f}  {notes[case.name]}"
        elif case.quoted:
            row |= dict(peer_us_min=case.quoted, measured=False, ratio=case.quoted / row["us_min"])
            line += f"{case.peer:<16}{case.quoted:>8.2f}{'quoted':>9}{row['ratio']:>7.1f}"
        results.append(row)
        world.log(line.rstrip())
    write_figures(world, given.json, "analysis", noise=NOISE, repeats=given.repeat, results=results)
    return 0
