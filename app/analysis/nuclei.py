"""Nuclei: clusters of solid atoms followed in time by the atoms that they keep; embryos, and the critical size between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ostwald.app.kernels import _clusters

EVENTS = ("birth", "merge", "split", "dissolve")
BIRTH, MERGE, SPLIT, DISSOLVE = range(len(EVENTS))
EVENT = np.dtype(
    [
        ("step", "i8"),
        ("time", "f8"),  # ps
        ("kind", "i1"),  # index into EVENTS
        ("number", "i8"),  # the nucleus that is born (birth, split) or ends (merge, dissolve)
        ("other", "i8"),  # the one that it came from (split) or is part of now (merge); 0: none
        ("size", "i8"),  # atoms: at birth; when last seen
        ("largest", "i8"),  # atoms: the most that it ever had
        ("seen", "f8"),  # ps, when it was last seen
    ]
)
ATOMS = "nucleus"
"""The per-atom array (n,) int32 that migrates with the atoms: number of the nucleus that an atom was last seen in, or 0."""


@dataclass
class _Nucleus:
    born: float
    size: int
    largest: int
    seen: float
    missed: int = 0


class Nuclei:
    """Follows clusters from one analysis to the next and gives each nucleus a number that it keeps: 1, 2, 3 …

    A cluster is the nucleus with which it shares the most atoms; pairs are taken in the order of the atoms that they
    share (ties: the older nucleus, then the cluster of smaller id), each nucleus and each cluster once, and only where
    they share at least `overlap` of the smaller of both. Of what is left, a nucleus that lies in a cluster has merged, a
    cluster made of parts of a nucleus has split off it, and a cluster of neither is born. A nucleus that is nowhere
    keeps its atoms, unless others take them, and has dissolved when it was missed `patience` times in a row: embryos
    that flicker around the smallest size stay one and the same.

    Everything is counted in whole atoms, so any number of ranks decides alike. What is kept is one number an atom, in
    system.atoms, and a few numbers for each nucleus that lives.

    columns: name -> unit of `numbers`.
    """

    columns = {
        "nuclei": "1",
        "nuclei_born": "1",
        "nuclei_merged": "1",
        "nuclei_dissolved": "1",
        "largest_dissolved": "1",
    }

    def __init__(self, overlap=0.25, patience=2):
        if not 0 < overlap <= 1 or patience < 1:
            raise ValueError(f"overlap lies above 0 and up to 1, patience is 1 or more, not {overlap:g} and {patience}")
        self.overlap, self.patience = float(overlap), int(patience)
        self.alive: dict[int, _Nucleus] = {}
        self.next = 1
        self.counts = [0] * len(EVENTS)
        self.largest_dissolved = 0

    def describe(self) -> str:
        """How nuclei are told apart, for a log."""
        return (
            f"nuclei: the cluster of the most atoms in common, at least {self.overlap:g} of the smaller, "
            f"dissolved when missed {self.patience} times in a row"
        )

    @property
    def numbers(self) -> dict[str, int]:
        """Nuclei now; born (also by splitting), merged and dissolved so far; largest size that a dissolved one ever had."""
        born, merged, split, dissolved = self.counts
        now = sum(not nucleus.missed for nucleus in self.alive.values())
        values = now, born + split, merged, dissolved, self.largest_dissolved
        return dict(zip(self.columns, values))

    def follow(self, system, clusters, step, time):
        """Takes the next analysis: clusters of the atoms of a system (`find_clusters`), of which those in the table count.

        Returns (rows, events), the same on every rank: a row of the table for each nucleus that is there, with step,
        time and number before it, by number; events since the last analysis, dtype EVENT. Collective.
        """
        atoms, n, table = system.atoms, system.atoms.n, clusters.table
        before = atoms.extra.get(ATOMS)
        if before is None:
            before = np.zeros(n, np.int32)
        share = _clusters.overlaps(before, clusters.ids)
        nuclei, ids, shared = (np.concatenate(parts) for parts in zip(*system.world.allgather(share)))
        listed, row_of = _places(table["id"], ids)
        pairs: dict[tuple[int, int], int] = {}
        for number, row, count in zip(nuclei[listed].tolist(), row_of[listed].tolist(), shared[listed].tolist()):
            pairs[number, row] = pairs.get((number, row), 0) + count
        names, events = self._match(table["size"].tolist(), pairs, step, time)

        after = np.where(np.isin(before, self._missing()), before, 0).astype(np.int32)
        inside, row_of = _places(table["id"], clusters.ids)
        after[inside] = np.array(names, np.int32)[row_of[inside]]
        atoms.add(ATOMS, after)
        return _rows(table, names, step, time), events

    def _missing(self):
        return [number for number, nucleus in self.alive.items() if nucleus.missed]

    def _match(self, sizes, pairs, step, time):
        """(number of each row of the table, events). sizes: of the rows; pairs: (nucleus, row) -> atoms that they share."""
        alive = self.alive
        enough = {
            (number, row): count
            for (number, row), count in pairs.items()
            if count >= self.overlap * min(alive[number].size, sizes[row])
        }
        ranked = sorted(enough, key=lambda pair: (-enough[pair], *pair))
        names: list[int] = [0] * len(sizes)
        placed: dict[int, int] = {}  # nucleus -> the row that it is, or of which it is part now
        for number, row in ranked:
            if number not in placed and not names[row]:
                names[row], placed[number] = number, row
        events = []

        def event(kind, number, other, size, largest, seen):
            self.counts[kind] += 1
            events.append((step, time, kind, number, other, size, largest, seen))

        parents: dict[int, int] = {}
        merged: dict[int, int] = {}
        for number, row in ranked:
            if not names[row]:
                parents.setdefault(row, number)
            if number not in placed:
                merged.setdefault(number, row)
        for row, size in enumerate(sizes):
            if not names[row]:
                names[row] = number = self.next
                self.next += 1
                alive[number] = _Nucleus(time, size, size, time)
                kind = SPLIT if row in parents else BIRTH
                event(kind, number, parents.get(row, 0), size, size, time)
                continue
            nucleus = alive[names[row]]
            nucleus.size, nucleus.largest = size, max(nucleus.largest, size)
            nucleus.seen, nucleus.missed = time, 0
        for number in sorted(set(alive) - set(names)):
            nucleus = alive[number]
            last = nucleus.size, nucleus.largest, nucleus.seen
            if number in merged:
                event(MERGE, number, names[merged[number]], *last)
                del alive[number]
                continue
            nucleus.missed += 1
            if nucleus.missed >= self.patience:
                self.largest_dissolved = max(self.largest_dissolved, nucleus.largest)
                event(DISSOLVE, number, 0, *last)
                del alive[number]
        return names, np.array(events, EVENT)

    def state(self) -> dict:
        """Plain numbers for a checkpoint. The atoms' own array is among those of the system (`ATOMS`)."""
        alive = {str(number): list(vars(nucleus).values()) for number, nucleus in self.alive.items()}
        return dict(alive=alive, next=self.next, counts=list(self.counts), largest_dissolved=self.largest_dissolved)

    def restore(self, state):
        self.alive = {int(number): _Nucleus(*values) for number, values in state["alive"].items()}
        self.next, self.counts = state["next"], list(state["counts"])
        self.largest_dissolved = state["largest_dissolved"]


def _places(ids, wanted):
    """(mask, row): which of the wanted ids are among the distinct ids, and at which row (any where they are not)."""
    if not len(ids):
        return np.zeros(len(wanted), bool), np.zeros(len(wanted), np.int64)
    order = np.argsort(ids)
    row = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    return ids[row] == wanted, row


def row_dtype(table) -> np.dtype:
    """Of the rows of nuclei, for a table of clusters: step, time and number before it, flags as int8."""
    own = [("step", "i8"), ("time", "f8"), ("number", "i8")]
    for name in table.dtype.names:
        base, shape = table.dtype[name].base, table.dtype[name].shape
        own.append((name, "i1" if base.kind == "b" else base, shape))
    return np.dtype(own)


def _rows(table, names, step, time):
    rows = np.empty(len(table), row_dtype(table))
    rows["step"], rows["time"], rows["number"] = step, time, names
    for name in table.dtype.names:
        rows[name] = table[name]
    return rows[np.argsort(rows["number"])]


# ---- from the history -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CriticalSize:
    """What embryos that dissolved and nuclei that grew say of the critical size.

    dissolved: sizes, ascending, that embryos fell back from: the largest size of each that dissolved, and of each that
    lost half of its atoms; grown (g,): numbers of the nuclei that grew; started (g,): the size from which each grew
    without returning, the first it was seen at beyond the largest of `dissolved`.
    """

    dissolved: np.ndarray
    grown: np.ndarray
    started: np.ndarray

    @property
    def bracket(self) -> tuple[float, float]:
        """(largest size that was fallen back from, smallest size from which one grew): NaN where none did."""
        low = float(self.dissolved[-1]) if len(self.dissolved) else np.nan
        return low, float(self.started.min()) if len(self.started) else np.nan

    def growing(self, size) -> float:
        """Of all that reached a size, the fraction that went on to grow; NaN where none reached it."""
        back = len(self.dissolved) - np.searchsorted(self.dissolved, size)
        reached = back + len(self.grown)
        return len(self.grown) / reached if reached else np.nan


def critical_size(rows, events, grown=2.0) -> CriticalSize:
    """The bracket of the critical size from the history of a run (`io.nuclei.read_nuclei`).

    A nucleus has grown if it still lives and has more than `grown` times as many atoms as any had that fell back. What a
    nucleus does after it took in another or lost a part is not counted, nor what split off: neither that it fell back
    nor that it grew. Nor does one tell from where it grew that was beyond already when the history begins.
    """
    ended = {int(e["number"]): int(e["kind"]) for e in events if e["kind"] in (MERGE, DISSOLVE)}
    apart = {int(e["number"]) for e in events if e["kind"] == SPLIT}
    mixed: dict[int, int] = {}  # the step from which on a nucleus is not what it was by itself
    for e in events[np.isin(events["kind"], (MERGE, SPLIT))]:
        mixed.setdefault(int(e["other"]), int(e["step"]))
    order = np.lexsort((rows["step"], rows["number"]))
    numbers, start = np.unique(rows["number"][order], return_index=True)
    histories = dict(zip(numbers.tolist(), np.split(order, start[1:]))) if len(numbers) else {}
    back, living = [], {}
    for number, at in histories.items():
        if number in apart:
            continue
        size, step = rows["size"][at], rows["step"][at]
        alone = step < mixed.get(number, np.inf)
        peaks = np.maximum.accumulate(size)
        fell = peaks[(size <= 0.5 * peaks) & alone]
        if ended.get(number) == DISSOLVE:
            back.append(int(peaks[-1]))
        elif len(fell):
            back.append(int(fell[-1]))
        if number not in ended:
            living[number] = size, step, alone
    dissolved = np.sort(np.array(back, np.int64))
    most = dissolved[-1] if len(dissolved) else 0
    winners, started = [], []
    for number, (size, step, alone) in living.items():
        if size[-1] <= grown * most:
            continue
        beyond = np.flatnonzero((size > most) & alone)
        if len(beyond) and step[beyond[0]] > rows["step"].min():
            winners.append(number)
            started.append(int(size[beyond[0]]))
    return CriticalSize(dissolved, np.array(winners, np.int64), np.array(started, np.int64))
