"""`ostwald bench training`: seconds of an update of a training on 1, 2, 4 … ranks, and what a cluster would take.

    levenberg-marquardt    an iteration on the whole set: sums of J^T J over structures, their reduction, one rank's solution
    adam                   an update on a batch: gradients of its structures, their reduction

The set is generated: face-centred nickel, strained and displaced, labelled by Zhou's potential; functions are those of
examples/train/nickel.toml. Each repeat runs a case on every number of ranks, while the other ranks wait. As machines are shared, what counts is
the path: processor time of the rank that has most work on structures, that of the one rank that solves, and the wall time of a reduction, the least of
many; of these the least of all repeats. Wall times are told too.

What a cluster would take is a model of these figures (`predict`): the work of structures is shared out over ranks, the solution is one rank's
and stays, and a reduction of b bytes over N nodes of c ranks takes

    2 b c / B_memory  +  2 log2(N) latency + 2 b (N - 1) / (N B_network)

(R. Rabenseifner, ICCS 2004, between nodes; within a node every rank's numbers are read and the sums written once).
"""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.build import bulk

from ostwald.app.jobs.bench import choose, require_folder, write_figures
from ostwald.app.jobs.train_schema import TABLES, check_whole
from ostwald.app.jobs.train_setup import Setup
from ostwald.app.potentials import load
from ostwald.app.runfile import validate
from ostwald.io.datasets import LabelledStructure, write_dataset

OPTIMISERS = {
    "adam": {"kind": "adam", "batch": 32, "epochs": 1000},
    "levenberg-marquardt": {"kind": "levenberg-marquardt", "epochs": 1000},
}
"""Adam first: its batches are large arrays, and the heap that the other leaves behind makes them dearer."""
SHARED = ("data", "Jacobian", "normal equations", "evaluate", "gradient")
"""Sections whose work is that of a rank's structures."""
ALONE = ("solve", "optimiser")
"""Sections that rank 0 does for all, or every rank alike."""
MEMORY_RATE = 200e9
"""bytes/s at which the ranks of a node read and write memory together, in the model."""


@dataclass(frozen=True)
class Update:
    """One update on one rank: seconds of work that is shared out, of work that is not; structures that it may be shared out over;
    bytes of its reductions."""

    shared: float
    alone: float
    structures: int
    nbytes: int


@dataclass(frozen=True)
class Cluster:
    """latency (s) and rate (bytes/s) of a node's link; cores: ranks of a node."""

    latency: float
    rate: float
    cores: int


def predict(update: Update, nodes: int, cluster: Cluster) -> dict:
    """seconds of an update, its parts, and speed-up and efficiency over one rank."""
    ranks = nodes * cluster.cores
    # structures are whole: the rank with most of them is waited for
    work = update.shared * math.ceil(update.structures / ranks) / update.structures
    link = 2 * math.log2(nodes) * cluster.latency + 2 * update.nbytes * (nodes - 1) / nodes / cluster.rate
    communication = 2 * update.nbytes * cluster.cores / MEMORY_RATE + link
    seconds = work + update.alone + communication
    speed_up = (update.shared + update.alone) / seconds
    return dict(
        nodes=nodes,
        ranks=ranks,
        seconds=seconds,
        work=work,
        alone=update.alone,
        communication=communication,
        speed_up=speed_up,
        efficiency=speed_up / ranks,
    )


def structures(count: int):
    """Labelled crystals of nickel of 108 atoms."""
    random, calculator = np.random.default_rng(1), load("zhou:Ni").ase()
    for k in range(count):
        atoms = bulk("Ni", cubic=True, a=3.52) * 3
        strain = random.normal(0, 0.02, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.rattle(0.15, seed=k)
        atoms.calc = calculator
        labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
        yield LabelledStructure(atoms.positions, atoms.numbers, atoms.cell.array, True, *labels, group="crystal")


def settings(folder, optimiser: dict) -> dict:
    """A run file's values."""
    gaussians = {"first": 1.7}
    raw = {
        "job": {"kind": "train"},
        "data": {"file": f"{folder}/set.dataset"},
        "radial": [{"cutoff": 5.5, "centred": 2, "shifted": 10, **gaussians}],
        "angular": [{"cutoff": 5.0, "narrow": False, "zetas": [1, 2, 4, 8], "shifted": 5, **gaussians}],
        "network": {"nodes": [16, 16], "precision": "single"},
        "loss": {"energy": 1000.0, "force": 1.0, "stress": 0.0},
        "optimiser": optimiser,
        "memory": {"descriptors": f"{folder}/descriptors.h5"},
    }
    values = validate(raw, TABLES, "bench")
    check_whole(values, "bench")
    return values


def bench(world, given) -> int:
    """The command; prints tables on rank 0."""
    if given.case == ["list"]:
        world.log("\n".join(OPTIMISERS))
        return 0
    chosen = choose(list(OPTIMISERS), given.case)
    require_folder(given.json)
    with tempfile.TemporaryDirectory() as own:
        folder = world.bcast(own)
        if world.root:
            write_dataset(Path(folder) / "set.dataset", structures(max(math.ceil(given.atoms / 108), 40)))
        world.barrier()
        Setup(world, settings(folder, OPTIMISERS["adam"]), "bench").compute_descriptors(None)
        rows = [row for name in chosen for row in measure(world, folder, name, given.steps, given.repeat)]
        world.barrier()
    predicted = _report(world, rows, given) if world.root else []
    write_figures(world, given.json, "training", results=rows, predicted=predicted)
    return 0


def measure(world, folder, name, steps, repeat) -> list[dict]:
    """A row of a case for each number of ranks; on rank 0, [] elsewhere."""
    sizes = [2**k for k in range(world.size.bit_length()) if 2**k <= world.size]
    rows = []
    for size in sizes:
        part = world.split(int(world.rank < size))
        if world.rank < size:
            part.log.screen = False
            setup = Setup(part, settings(folder, OPTIMISERS[name]), "bench")
            setup.prepare(None)
            rows.append((part, setup, setup.trainer.theta, setup.trainer.state(), []))
        world.barrier()
    for _ in range(repeat):
        for row in rows:
            _run(row, steps)
        world.barrier()
    found = []
    for part, setup, theta, _, samples in rows:
        parameters = len(theta)
        numbers = (
            parameters * (parameters + 1) // 2 + 2 * parameters + 2 if name == "levenberg-marquardt" else parameters
        )
        reduction = _reduction(part, np.zeros(numbers))
        least = {key: min(sample[key] for sample in samples) for key in samples[0]}
        found.append(
            dict(
                case=name,
                ranks=part.size,
                parameters=parameters,
                structures=setup.trainer.batch,
                atoms=round(setup.trainer.batch * setup.work["atoms"]),
                path=least["shared"] + least["alone"] + reduction,
                **least,
                reduction=reduction,
                nbytes=8 * numbers,
            )
        )
        setup.close()
    return found if world.root else []


def _run(row, steps):
    """Some updates from the same start: seconds of one, as a sample."""
    part, setup, theta, state, samples = row
    trainer = setup.trainer
    trainer.theta = theta
    trainer.restore(state)
    part.timers.reset()
    part.timers.clock = time.process_time
    part.barrier()
    begun = time.perf_counter()
    for _ in range(steps):
        trainer.step()
    wall = part.allreduce(time.perf_counter() - begun, "max") / steps
    spent = [sum(part.timers.seconds(name) for name in names) / steps for names in (SHARED, ALONE)]
    samples.append(dict(wall=wall, shared=part.allreduce(spent[0], "max"), alone=part.bcast(spent[1])))


def _reduction(world, array, tries=200) -> float:
    """Seconds of a reduction of an array over all ranks, the least of some."""
    least = math.inf
    for _ in range(tries if world.size > 1 else 0):
        world.barrier()
        begun = time.perf_counter()
        world.allreduce(array)
        least = min(least, time.perf_counter() - begun)
    return least if world.size > 1 else 0.0


def _report(world, rows, given) -> list[dict]:
    """Prints what was measured and what that says of a cluster; returns the latter."""
    world.log(
        f"{'case':<21}{'ranks':>6}{'structures':>11}{'atoms':>8}{'parameters':>11}{'work, ms':>10}{'solution':>9}{'reduction':>10}{'MB':>7}"
        f"{'path':>9}{'speed-up':>9}{'wall':>10}"
    )
    alone = {row["case"]: row for row in rows if row["ranks"] == 1}
    for row in rows:
        world.log(
            f"{row['case']:<21}{row['ranks']:>6}{row['structures']:>11}{row['atoms']:>8}{row['parameters']:>11}{1e3 * row['shared']:>10.2f}"
            f"{1e3 * row['alone']:>9.2f}{1e3 * row['reduction']:>10.3f}{row['nbytes'] / 1e6:>7.3f}{1e3 * row['path']:>9.2f}"
            f"{alone[row['case']]['path'] / row['path']:>9.2f}{1e3 * row['wall']:>10.2f}"
        )
    cluster = Cluster(1e-6 * given.latency, 1e9 * given.rate, given.cores)
    world.log(
        f"\na model of nodes with {cluster.cores} cores like this one, linked by {given.rate:g} GB/s and {given.latency:g} µs; "
        "and of the same sets ten times and a hundred times as large\n"
        f"{'case':<21}{'structures':>11}{'nodes':>6}{'ranks':>7}{'ms/update':>11}{'work':>9}{'solution':>9}{'reduction':>10}{'speed-up':>10}"
    )
    predicted = []
    for row in alone.values():
        for scale in (1, 10, 100):
            update = Update(scale * row["shared"], row["alone"], scale * row["structures"], row["nbytes"])
            for nodes in given.nodes or [1, 8, 64]:
                found = predict(update, nodes, cluster)
                predicted.append(dict(case=row["case"], structures=update.structures, **found))
                parts = "".join(
                    f"{1e3 * found[part]:>{width}.2f}"
                    for part, width in (("seconds", 11), ("work", 9), ("alone", 9), ("communication", 10))
                )
                world.log(
                    f"{row['case']:<21}{update.structures:>11}{nodes:>6}{found['ranks']:>7}{parts}{found['speed_up']:>10.1f}"
                )
    return predicted
