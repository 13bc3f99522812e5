"""The atoms of a run: slices, the solid ones alone, the first nucleus, and where they lie in the plane of q̄₄ and q̄₆."""

from __future__ import annotations

from functools import cache
from html import escape

import numpy as np

from ostwald.app import picture
from ostwald.app.analysis import frame as analysis
from ostwald.app.analysis.structure import CRYSTAL, CRYSTALLINE, LABELS
from ostwald.app.report.plots import GRID, INK, MUTED, dress, svg_of
from ostwald.app.report.run import classified, method_of
from ostwald.app.report.style import number


def pictures(run) -> str:
    """All of it, as far as the trajectory allows."""
    return _slices(run) + _growth(run) + _nucleus(run) + _plane(run)


def _labels(run, frame, fields=()):
    """(labels (n,), solid (n,), fields): as the run recorded them where it did, else found now."""
    stored = frame.arrays
    missing = [name for name in fields if name not in stored]
    if "structure" in stored and not missing:
        labels = np.asarray(stored["structure"]).astype(int)
        solid = np.asarray(stored["solid"], bool) if "solid" in stored else CRYSTALLINE[labels]
        return labels, solid, {name: stored[name] for name in fields}
    if (
        run.settings.get("trajectory", {}).get("select") and not fields
    ):  # all are solid, without the neighbours to say of what
        return np.full(len(frame.positions), CRYSTAL), np.ones(len(frame.positions), bool), {}
    found = analysis.classify(frame, *method_of(run.settings.get("analysis", {})), missing)
    return found.labels.astype(int), found.solid, {**found.fields, **{k: stored[k] for k in fields if k in stored}}


def _key(seen) -> str:
    """The colours of the labels that were seen, a set of numbers."""
    names = [name for name in picture.COLOURS if LABELS.index(name) in seen]
    dots = "".join(
        f'<span><i style="background:{picture.COLOURS[name]}"></i>{escape(picture.MEANING[name])}</span>'
        for name in names
    )
    return f'<p class="key">{dots}</p>'


def _when(frame) -> str:
    time = frame.info.get("time")
    return f"{number(float(time), 4)} ps" if time else "start"


def _slices(run) -> str:
    items, seen = [], set()
    for frame in run.frames:
        labels, _, _ = _labels(run, frame)
        seen |= set(np.unique(labels).tolist())
        items.append(
            f'<figure class="card">{picture.slice_svg(frame, labels, total=run.atoms)}<figcaption>{_when(frame)}, '
            f"step {frame.info.get('step', 0)}</figcaption></figure>"
        )
    how = run.settings.get("analysis", {})
    return (
        f'<h2>Structure</h2><div class="{"three" if len(items) > 2 else "two"}">{"".join(items)}</div>{_key(seen)}'
        f'<p class="note">A slab of about four layers of atoms through the middle of the cell. {classified(how)}.</p>'
    )


def _growth(run) -> str:
    """The solid atoms alone, at several times."""
    items, seen = [], set()
    for k in run.growth:
        frame = run.frame(k)
        labels, solid, _ = _labels(run, frame)
        seen |= set(np.unique(labels[solid]).tolist())
        share = f"{number(100 * solid.sum() / run.atoms, 3)} % solid"
        items.append(
            f'<figure class="card">{picture.solid_svg(frame, labels, solid, total=run.atoms)}'
            f"<figcaption>{_when(frame)}, {share}</figcaption></figure>"
        )
    if not items:
        return ""
    return (
        f'<h2>Growth</h2><div class="{"two" if len(items) in (2, 4) else "three"}">{"".join(items)}</div>{_key(seen)}'
        '<p class="note">Solid atoms only.</p>'
    )


def _nucleus(run) -> str:
    """The largest cluster of solid atoms when it had only just begun to grow, from two sides."""
    if run.nucleus is None:
        return ""
    frame = run.frame(run.nucleus)
    labels, solid, _ = _labels(run, frame)
    ids, sizes = analysis.clusters(frame, solid, total=run.atoms)
    if not len(sizes) or sizes[0] < 20:
        return ""
    inside = ids == 0
    positions, of = analysis.unwrapped(frame, inside, total=run.atoms), labels[inside]
    away = np.linalg.norm(positions - positions.mean(axis=0), axis=1)
    reach = float(away.max()) + 2.0
    views = "".join(
        f'<figure class="card">{picture.cluster_svg(frame, positions, of, azimuth=turn, reach=reach, total=run.atoms)}</figure>'
        for turn in (28.0, 118.0)
    )
    count = np.bincount(of, minlength=len(LABELS))
    facts = {"atoms": str(sizes[0]), "radius of gyration": f"{number(float(np.sqrt((away**2).mean())), 3)} Å"}
    facts |= {picture.MEANING[LABELS[k]]: f"{100 * count[k] / sizes[0]:.1f} %" for k in np.argsort(-count) if count[k]}
    items = "".join(f"<dt>{escape(what)}</dt><dd>{value}</dd>" for what, value in facts.items())
    return (
        f'<h2>The largest nucleus at {_when(frame)}</h2><div class="three">{views}'
        f'<div class="card"><dl>{items}</dl></div></div>{_key(set(np.unique(of).tolist()))}'
        '<p class="note">Seen from two sides at right angles.</p>'
    )


def _plane(run) -> str:
    """Histograms of the atoms over (q̄₄, q̄₆) from the least solid moment on; the perfect crystals are marked."""
    how = run.settings.get("analysis", {})
    if how.get("method", "q6") == "diamond" or not how.get("every"):
        return ""
    least = run.frames[1:] if len(run.frames) > 2 else run.frames[-1:]
    shown = [least[0], *(run.frame(k) for k in run.growth[1:2]), *least[1:]]
    panels = []
    for frame in shown:
        if len(frame.positions) != run.atoms:  # selected atoms only: their neighbours are not there
            return ""
        labels, _, fields = _labels(run, frame, ("q4", "q6"))
        panels.append((_when(frame), labels, np.asarray(fields["q4"]), np.asarray(fields["q6"])))
    svg = plane_svg(panels)
    return (
        f'<h2>Bond order</h2><figure class="card">{svg}<figcaption>Atoms over q̄₄ and q̄₆ (averaged over 12 nearest '
        "neighbours, Lechner and Dellago 2008), shaded by the logarithm of their number and coloured as above by the "
        "structures found; rings: perfect crystals.</figcaption></figure>"
    )


def plane_svg(panels) -> str:
    """An SVG element; panels: [(title, labels (n,), q̄₄ (n,), q̄₆ (n,))]."""
    from matplotlib.figure import Figure

    right, top = 0.24, 0.62
    side = int(np.clip(np.sqrt(max(len(labels) for _, labels, _, _ in panels)) / 1.2, 40, 130))
    bins = side, side
    histograms = []
    for _, labels, q4, q6 in panels:
        column = np.clip(q4 / right * bins[0], 0, bins[0] - 1).astype(int)
        row = np.clip(q6 / top * bins[1], 0, bins[1] - 1).astype(int)
        place, size = row * bins[0] + column, bins[0] * bins[1]
        count = np.bincount(place, minlength=size)
        rgb = (
            np.stack([np.bincount(place, c, size) for c in picture.rgb_of(labels).T], -1)
            / np.maximum(count, 1)[:, None]
        )
        histograms.append((count.reshape(bins[1], bins[0]), rgb.reshape(bins[1], bins[0], 3)))
    most = max(count.max() for count, _ in histograms)
    figure = Figure(figsize=(0.6 + 3.1 * len(panels), 3.1), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, *_), (count, rgb) in zip(axes, panels, histograms):
        alpha = np.where(count > 0, 0.25 + 0.75 * np.log1p(count) / np.log1p(most), 0.0)
        rgb = rgb * 0.82  # light enough to be seen on white
        axis.imshow(
            np.dstack([rgb, alpha]), origin="lower", extent=(0, right, 0, top), aspect="auto", interpolation="nearest"
        )
        for name, (q4, q6) in _perfect().items():
            axis.plot(q4, q6, "o", markersize=6, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.1)
            axis.annotate(
                name, (q4, q6), xytext=(6, 3), textcoords="offset points", fontsize=8.5, color=INK, annotation_clip=True
            )
        dress(axis, "q̄₄", "q̄₆" if axis is axes[0] else "")
        axis.set_title(title, fontsize=9, color=MUTED)
        axis.set_xlim(0, right)
        axis.set_ylim(0, top)
        axis.grid(True, color=GRID, linewidth=0.5)
    return svg_of(figure, "q4-q6")


@cache
def _perfect() -> dict[str, tuple[float, float]]:
    """(q̄₄, q̄₆) of crystals by the definition of the plane. In bcc the 12 nearest are 8 and, of the 6 next, any 4: mean of
    a lattice shaken by a hundredth of its constant."""
    from types import SimpleNamespace

    from ostwald.app.atoms.build import unit_cell

    found, cells, random = {}, 6, np.random.default_rng(1)
    index = np.stack(np.unravel_index(np.arange(cells**3), (cells,) * 3), axis=1)
    for name, noise in (("fcc", 0.0), ("hcp", 0.0), ("bcc", 0.01)):
        matrix, fractions, _ = unit_cell(name, 1.0)
        positions = (index[:, None] + fractions).reshape(-1, 3) @ matrix
        positions += random.normal(0.0, noise, positions.shape)
        crystal = SimpleNamespace(
            positions=positions, matrix=matrix * cells, origin=np.zeros(3), periodic=np.ones(3, bool)
        )
        order = analysis.classify(crystal, fields=("q4", "q6")).fields
        found[name] = float(order["q4"].mean()), float(order["q6"].mean())
    return found
