#!/usr/bin/env python3
"""Structure identification beside OVITO on the same crystal, interleaved: µs of CPU time per atom, on one core.

System: fcc copper with Gaussian noise of 0.15 Å, periodic, 4 n³ atoms. Ostwald's times do not include the ghosts, which a
run has anyway; OVITO (`pip install ovito`) makes its own neighbour finder. Labels and numbers are compared too.

usage: structure.py [n = 30] [repeat = 5] [--json FILE]
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OVITO_THREAD_COUNT", "1")

import numpy as np
from ovito.data import DataCollection, Particles, SimulationCell
from ovito.modifiers import CentroSymmetryModifier, CommonNeighborAnalysisModifier

from ostwald.app.analysis import structure
from ostwald.app.atoms import build
from ostwald.app.potentials.base import Neighbourhoods
from ostwald.app.potentials.images import Images
from ostwald.parallel import World


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("n", type=int, nargs="?", default=30)
    given.add_argument("repeat", type=int, nargs="?", default=5)
    given.add_argument("--json")
    given = given.parse_args()
    world, reach = World(), 6.3
    share = build.rattle(build.build_lattice(world, "fcc", 3.615, "Cu", given.n), 0.15, seed=1)
    images = Images(share.positions, share.matrix, share.periodic, reach)
    rows, n = np.ascontiguousarray(images.rows(share.positions)), share.total
    no_list = np.zeros(n + 1, np.int64), np.zeros(0, np.int32)
    nb = Neighbourhoods(rows, np.zeros(len(rows), np.int32), n, *no_list, "full", images.forward)

    def ovito(modifier, name):
        data, cell, particles = DataCollection(), SimulationCell(pbc=(True, True, True)), Particles()
        with cell:
            cell[...] = np.column_stack([share.matrix.T, np.zeros(3)])
        data.objects.append(cell)
        particles.create_property("Position", data=rows[:n])
        data.objects.append(particles)
        data.apply(modifier)
        return np.array(data.particles[name])

    cases = {
        "adaptive CNA, OVITO": lambda: ovito(CommonNeighborAnalysisModifier(), "Structure Type"),
        "adaptive CNA": lambda: structure.common_neighbours(nb, reach),
        "centrosymmetry (12), OVITO": lambda: ovito(CentroSymmetryModifier(num_neighbors=12), "Centrosymmetry"),
        "centrosymmetry (12)": lambda: structure.centrosymmetry(nb, reach),
        "12 nearest neighbours": lambda: structure.neighbours(nb, reach, nearest=12),
        "averaged q6, search included": lambda: structure.bond_order(nb, reach, (6,)),
        "averaged q4 and q6, search included": lambda: structure.bond_order(nb, reach, (4, 6)),
        "ten Wolde bonds (l=6), search included": lambda: structure.solid_bonds(nb, reach),
    }
    times, results = {name: [] for name in cases}, {}
    for _ in range(given.repeat):
        for name, case in cases.items():
            begun = time.process_time()
            results[name] = case()
            times[name].append((time.process_time() - begun) / n * 1e6)
    different = np.count_nonzero(results["adaptive CNA"] != results["adaptive CNA, OVITO"])
    off = np.abs(results["centrosymmetry (12)"] - results["centrosymmetry (12), OVITO"]).max()
    figures = {name: dict(minimum=min(t), median=statistics.median(t)) for name, t in times.items()}
    print(f"{n} atoms, {given.repeat} repeats; µs of CPU time per atom")
    for name, f in figures.items():
        print(f"{name:42s} minimum {f['minimum']:7.3f}   median {f['median']:7.3f}")
    print(f"labels that differ from OVITO's: {different}; largest difference of centrosymmetry: {off:.1e} Å²")
    if given.json:
        report = dict(atoms=n, repeat=given.repeat, unit="µs CPU per atom", times=figures)
        report |= dict(labels_that_differ=int(different), centrosymmetry_difference=float(off))
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
