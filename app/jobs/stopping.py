"""When a job must stop or write a checkpoint: signals, the wall-time limit, checkpoints that are due."""

from __future__ import annotations

import signal
import time

import numpy as np

from ostwald.app import STARTED

EXIT_RESUME = 85
"""A job that stopped early, with a checkpoint, and asks to be resumed."""
STOP_EVERY = 10
"""Steps between the collective tests for signals, wall time and due checkpoints."""
STOP_MARGIN = 30.0
"""Seconds kept before the wall-time limit (a tenth of it where it is short), on top of two checkpoints and the steps
between two tests."""


class Stopped(Exception):
    """The job ended early with a checkpoint. status: of the process; 0 where a condition of the run file was met."""

    def __init__(self, reason, status=EXIT_RESUME):
        super().__init__(reason)
        self.status = status


class Stopping:
    """Watches signals, wall time and the age of the last checkpoint; all ranks decide alike.

    walltime: seconds since the process started, or None. checkpoint: the table [checkpoint] (every, interval).
    every: steps between the tests. Within `with` SIGTERM, SIGUSR1 and SIGINT ask for a stop instead of ending the process.
    """

    def __init__(self, world, walltime, checkpoint, every=STOP_EVERY):
        self.world, self.walltime, self.checkpoint, self.every = world, walltime, checkpoint, every
        self.signal = 0
        self.last_checkpoint = self.last_test = time.monotonic()
        self.checkpoint_seconds = self.seconds_between = 0.0

    def __enter__(self):
        numbers = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
        self._handlers = {number: signal.signal(number, self._on_signal) for number in numbers}
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _on_signal(self, number, _frame):
        self.signal = number

    def test(self, step: int) -> tuple[bool, str | None]:
        """Collective, each `every` steps. Whether a checkpoint is to be written, and why the job must stop after it."""
        now = time.monotonic()
        self.seconds_between = max(self.seconds_between, now - self.last_test)
        self.last_test = now
        limit = self.walltime
        margin = self.seconds_between + 2 * self.checkpoint_seconds + min(STOP_MARGIN, 0.1 * (limit or 0.0))
        late = limit is not None and now - STARTED > limit - margin
        due = now - self.last_checkpoint > self.checkpoint["interval"]
        flags = self.world.allreduce(np.array([float(self.signal), float(late), float(due)]), op="max")
        reason = None
        if flags[0] or flags[1]:
            reason = signal.Signals(int(flags[0])).name if flags[0] else "the wall-time limit is near"
        every = self.checkpoint["every"]
        crossed = bool(every) and step // every != (step - self.every) // every
        return bool(reason or flags[2] or crossed), reason

    def written(self, begun: float) -> None:
        """A checkpoint that was begun at that moment (time.monotonic()) is on the disk."""
        self.last_checkpoint = time.monotonic()
        self.checkpoint_seconds = self.last_checkpoint - begun
