"""Pictures of the atoms of a run."""

from __future__ import annotations

from html import escape

import numpy as np

from ostwald.app import picture
from ostwald.app.analysis.structure import LABELS
from ostwald.app.report.run import classified, method_of
from ostwald.app.report.style import number


def pictures(run) -> str:
    how = run.settings.get("analysis", {})
    items, seen = [], set()
    for frame in run.frames:
        stored = frame.arrays.get("structure")
        labels = picture.labels_of(frame, *method_of(how)) if stored is None else np.asarray(stored).astype(int)
        seen |= set(np.unique(labels).tolist())
        when = frame.info.get("time")
        caption = f"{number(float(when), 4)} ps" if when is not None and when else "start"
        items.append(
            f'<figure class="card">{picture.slice_svg(frame, labels)}<figcaption>{caption}, '
            f"step {frame.info.get('step', 0)}</figcaption></figure>"
        )
    names = [name for k, name in enumerate(LABELS) if k in seen]
    key = "".join(
        f'<span><i style="background:{picture.COLOURS[name]}"></i>{escape(picture.MEANING[name])}</span>'
        for name in sorted(names, key=list(picture.COLOURS).index)
    )
    return (
        f'<h2>Structure</h2><div class="{"three" if len(items) > 2 else "two"}">{"".join(items)}</div><p class="key">{key}</p>'
        f'<p class="note">A slab of about four layers of atoms through the middle of the cell. {classified(how)}.</p>'
    )
