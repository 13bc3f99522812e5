"""Where the time of a run went: the table at its end, and the same as JSON."""

from __future__ import annotations

import resource

import numpy as np

SECTIONS = ("force", "neighbour", "halo", "integrate", "output", "analysis", "inherent")


def resident_bytes() -> int:
    """Peak resident memory of this rank."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def summary(world, system, wall: float, steps: int, simulated: float, cpu: float = 0.0) -> dict:
    """Figures of `steps` steps that took `wall` seconds and covered `simulated` ps. Collective; the same on every rank.

    Sections are seconds, min / mean / max over ranks; "other" is what no section covers. cpu: seconds of processor time of
    this rank; on a machine that others use too it says more than the wall time.
    """
    atoms, n = system.atoms, system.total
    local = dict(
        atoms=atoms.n,
        ghosts=atoms.nghost,
        neighbours_per_atom=len(system.neighbours.indices) / max(atoms.n, 1),
        resident_bytes=resident_bytes(),
        halo_bytes_per_step=system.halo.bytes_per_step,
        cpu_seconds=cpu,
    )
    sections, per_rank = over_ranks(world, SECTIONS, wall, local)
    return dict(
        ranks=world.size,
        threads=system.threads,
        grid=[int(g) for g in system.bricks.grid],
        atoms=n,
        steps=steps,
        wall_seconds=wall,
        atom_steps_per_second=n * steps / wall if wall else 0.0,
        microseconds_core_per_atom_step=1e6 * wall * world.size * system.threads / max(n * steps, 1),
        ns_per_day=simulated * 1e-3 * 86400 / wall if wall else 0.0,
        list_style=system.style,
        builds=system.builds,
        dangerous_builds=system.dangerous,
        imbalance=per_rank["atoms"]["max"] / max(per_rank["atoms"]["mean"], 1e-12),
        bytes_per_atom=per_rank["resident_bytes"]["mean"] * world.size / max(n, 1),
        sections=sections,
        per_rank=per_rank,
    )


def over_ranks(world, names, wall: float, local: dict) -> tuple[dict, dict]:
    """Collective. Seconds in the sections `names` of a run of `wall` seconds, "other" being what none covers, each with
    its share; and further numbers of each rank, by name: min, mean, max over ranks. The same on every rank.
    """
    mine = [world.timers.seconds(name) for name in names]
    mine.append(max(wall - sum(mine), 0.0))
    rows = np.array(world.allgather(np.array([*mine, *local.values()], dtype=float)))
    spread = [
        dict(min=float(a), mean=float(b), max=float(c)) for a, b, c in zip(rows.min(0), rows.mean(0), rows.max(0))
    ]
    total = max(sum(entry["mean"] for entry in spread[: len(mine)]), 1e-12)
    sections = dict(zip((*names, "other"), (entry | {"share": entry["mean"] / total} for entry in spread)))
    return sections, dict(zip(local, spread[len(mine) :]))


def section_lines(sections: dict) -> list[str]:
    """The table of sections, for people."""
    lines = [f"{'section':<12}{'min s':>10}{'mean s':>10}{'max s':>10}{'share':>9}"]
    for name, s in sections.items():
        if s["max"] > 0 or name != "inherent":
            lines.append(f"{name:<12}{s['min']:>10.3f}{s['mean']:>10.3f}{s['max']:>10.3f}{100 * s['share']:>8.1f}%")
    return lines


def table(figures: dict) -> str:
    """The summary for people."""
    f = figures
    lines = [
        f"{f['atoms']} atoms, {f['steps']} steps in {f['wall_seconds']:.2f} s on {f['ranks']} ranks × {f['threads']} threads "
        f"(grid {' × '.join(map(str, f['grid']))})",
        f"{f['atom_steps_per_second']:.4g} atom-steps/s   {f['microseconds_core_per_atom_step']:.4g} µs·core/atom/step   "
        f"{f['ns_per_day']:.4g} ns/day",
        "",
        *section_lines(f["sections"]),
    ]
    p = f["per_rank"]
    lines += [
        "",
        f"{'per rank':<22}{'min':>12}{'mean':>12}{'max':>12}",
        "{:<22}{min:>12.0f}{mean:>12.0f}{max:>12.0f}".format("atoms", **p["atoms"]),
        "{:<22}{min:>12.0f}{mean:>12.0f}{max:>12.0f}".format("ghosts", **p["ghosts"]),
        "{:<22}{min:>12.1f}{mean:>12.1f}{max:>12.1f}".format(
            f"neighbours ({f['list_style']})", **p["neighbours_per_atom"]
        ),
        "{:<22}{:>12.1f}{:>12.1f}{:>12.1f}".format(
            "memory MB", *(p["resident_bytes"][k] / 1e6 for k in ("min", "mean", "max"))
        ),
        "{:<22}{:>12.1f}{:>12.1f}{:>12.1f}".format(
            "halo kB/step", *(p["halo_bytes_per_step"][k] / 1e3 for k in ("min", "mean", "max"))
        ),
        "",
        f"ghosts per atom {p['ghosts']['mean'] / max(p['atoms']['mean'], 1):.3f}   imbalance {f['imbalance']:.3f}   "
        f"neighbour builds {f['builds']} (dangerous {f['dangerous_builds']})   memory {f['bytes_per_atom']:.0f} B/atom",
    ]
    return "\n".join(lines)
