"""`ostwald report`: one self-contained HTML page about a run.

Read from the run directory: run.toml, provenance.json, timing.json, the time series, the first and last frame of the
trajectory, log.txt. What is absent (a run that was killed, a run without a trajectory) leaves its section out.
"""

from __future__ import annotations

from pathlib import Path

from ostwald.app.report.comparison import write_comparison
from ostwald.app.report.evaluation import page as evaluation_page
from ostwald.app.report.page import page
from ostwald.app.report.phasefield import page as phasefield_page
from ostwald.app.report.run import ReportError, read_run
from ostwald.app.report.sequences import page as sequences_page
from ostwald.app.report.surrogate import page as surrogate_page
from ostwald.app.report.training import page as training_page
from ostwald.io.text import write_text

__all__ = ["ReportError", "write_comparison", "write_report"]


def write_report(directory, output=None) -> Path:
    """Writes the page (default: DIRECTORY/report.html) and returns its path. On one rank; no communication.

    Errors: ReportError where the directory holds no run, or the page cannot be written.
    """
    run = read_run(directory)
    if run.settings.get("job", {}).get("kind") == "label":
        raise ReportError(
            f"{run.path}: a labelling run has no page; `ostwald info` tells what is in its labelled.dataset"
        )
    target = Path(output) if output else run.path / "report.html"
    if not target.parent.is_dir():
        raise ReportError(f"{target}: cannot be written, there is no folder {target.parent}")
    pages = {
        "phasefield": phasefield_page,
        "rollout": phasefield_page,
        "sequences": sequences_page,
        "train": training_page,
        "train-surrogate": surrogate_page,
        "evaluate-surrogate": evaluation_page,
    }
    text = pages.get(run.settings.get("job", {}).get("kind"), page)(run)
    try:
        write_text(target, text)
    except OSError as error:
        raise ReportError(f"{target}: cannot be written ({error.strerror or error})") from error
    return target
