"""Progress of a long job: a bar with ETA on a terminal, a plain line every so often in a batch log."""

from __future__ import annotations

import os
import sys
import time


def clock(seconds: float) -> str:
    """1:02:03 or 2:03."""
    s = int(seconds + 0.5)
    return f"{s // 3600}:{s // 60 % 60:02d}:{s % 60:02d}" if s >= 3600 else f"{s // 60}:{s % 60:02d}"


def on_terminal() -> bool:
    """Whether a person watches: mpirun gives its first rank a terminal of its own, so its own output is asked for."""
    if not sys.stdout.isatty():
        return False
    if "OMPI_COMM_WORLD_SIZE" not in os.environ:
        return True
    try:
        return os.readlink(f"/proc/{os.getppid()}/fd/1").startswith(("/dev/pts", "/dev/tty"))
    except OSError:
        return False


class Progress:
    """Steps (or `what`) done of a total. Only the root rank of a terminal shows a bar; `line` prints above it.

    log: the World's log. total, done: steps. every: seconds between plain lines when there is no terminal.
    """

    def __init__(self, world, total: int, done: int = 0, every: float = 60.0, what: str = "step"):
        self.what = what
        self.log, self.total, self.start_step = world.log, max(total, 1), done
        self.started = self.spoken = time.monotonic()
        self.every = every
        self.bar = None
        if world.root and on_terminal():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.percentage:5.1f} %"),
                BarColumn(),
                TextColumn(what + " {task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(),
                transient=True,
            )
            self.task = self.bar.add_task("run", total=self.total, completed=done)
            self.bar.start()

    def line(self, text: str, step: int):
        """A line of the log, with the time that is left."""
        if self.bar is None:
            left = self._left(step)
            text += f"  ETA {clock(left)}" if left is not None else ""
            self.spoken = time.monotonic()
        self.log(text)

    def update(self, step: int):
        if self.bar is not None:
            self.bar.update(self.task, completed=step)
        elif time.monotonic() - self.spoken > self.every:
            self.line(f"{self.what} {step:>9} of {self.total} ({100 * step / self.total:.1f} %)", step)

    def _left(self, step):
        done = step - self.start_step
        if done <= 0 or step >= self.total:
            return None
        return (time.monotonic() - self.started) / done * (self.total - step)

    def close(self):
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
