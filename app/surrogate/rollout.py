"""Roll-outs: a surrogate network steps a field on and on, on bricks of a grid over ranks."""

from __future__ import annotations

import numpy as np

from ostwald.app.phasefield import Diverged, FiniteDifference
from ostwald.app.phasefield.planes import GivenPlanes
from ostwald.app.surrogate.inference import FAR, ROW, Inference
from ostwald.parallel import Ghosts, Parts


class RollOut:
    """φ and the hidden states of a network; a step is one `interval` of time. Hidden states are zeros at the start and go on from
    step to step.

    world: World. shape: two or three lengths. surrogate: Surrogate (model.py). well, epsilon: of the free energy that is measured,
    F = ∫ g(φ) + ε/2 |∇φ|² dx with one-sided differences on this grid. parameters: name -> number, those that the network is
    given. precision: as for Inference. ranks: as for parallel.Parts.

    A rank exchanges, once in a step, as many ghost layers as the network reaches (Architecture.halo), and computes what it needs of
    the others' points itself. The same bits on any number of ranks and threads. ValueError where the network does not fit.

    It has what the solvers of app.phasefield have: analyses, frames and checkpoints take it for one of them.
    """

    elasticity, equilibrium, uncertainty, converter = None, None, 0.0, None

    def __init__(self, world, shape, surrogate, well, epsilon, parameters=None, precision="float32", ranks=None):
        architecture = surrogate.architecture
        if len(shape) != architecture.dimensions:
            raise ValueError(f"the network is one of {architecture.dimensions} dimensions, not {len(shape)}")
        self.world, self.surrogate, self.well, self.epsilon = world, surrogate, well, float(epsilon)
        self.given = surrogate.scaled(parameters or {})
        self.parts = parts = Parts(world, shape, ranks)
        if min(shape) < architecture.kernel // 2:
            raise ValueError(
                f"a grid of {' × '.join(map(str, shape))} points is too small for a kernel of {architecture.kernel}"
            )
        self.inference = Inference(architecture, surrogate.arrays, precision, world.threads)
        self.spacing = tuple(float(h) for h in surrogate.spacing)
        self.interval = float(surrogate.interval)
        self.points = int(np.prod(shape))
        self.volume = float(np.prod(shape) * np.prod(self.spacing))
        self.dtype = np.dtype(np.float64)
        self.time, self.steps, self.mean = 0.0, 0, 0.0

        periodic = architecture.padding == "circular"
        self.boundaries = ("periodic" if periodic else "mirror",) * len(shape)
        self._beyond = [0, 0, 0, 0]
        for axis in range(len(shape) - 1):
            around = parts.lo[axis], shape[axis] - parts.hi[axis]
            self._beyond[2 * axis : 2 * axis + 2] = [FAR if periodic else n for n in around] if any(around) else (0, 0)
        row, widths = -(-shape[-1] // ROW) * ROW, architecture.halo if world.size > 1 else (0,) * len(architecture.halo)
        boundary = self.boundaries[0]
        self._of_phi = Ghosts(parts, widths[0], np.float64, row=row, boundaries=boundary)
        self._of_hidden = [
            Ghosts(parts, width, self.inference.dtype, architecture.channels, row, boundary) for width in widths[1:]
        ]
        self._phi, self._hidden = self._of_phi.empty(), [ghosts.empty() for ghosts in self._of_hidden]
        for array in (self._phi, *self._hidden):
            array[:] = 0
        # what measures: energies and transforms of a field on this grid
        self._measured = FiniteDifference(
            world, shape, well, epsilon, 1.0, self.spacing, np.float64, self.boundaries, parts.ranks
        )
        self._is_measured = False

    # --- the field

    @property
    def _inner(self) -> np.ndarray:
        return self._of_phi.inner(self._phi)

    def set_field(self, phi, time: float = 0.0, steps: int = 0) -> None:
        """Collective. phi: this rank's brick, or a function (first, last) -> its planes first ... last - 1. Hidden states become zeros."""
        planes = GivenPlanes(self.parts, phi, 0.0, np.float64)
        for first, last in self._chunks():
            self._inner[first:last] = planes(first, last)
        self.mean = planes.mean()
        for array in self._hidden:
            array[:] = 0
        self.time, self.steps, self._is_measured = float(time), int(steps), False

    def field(self) -> np.ndarray:
        """φ: this rank's brick."""
        return self._inner.copy()

    def pieces(self):
        """φ piece by piece: (first, last, planes first ... last - 1 of this rank's brick)."""
        for first, last in self._chunks():
            yield first, last, self._inner[first:last].copy()

    def _chunks(self):
        """(first, last) of some MiB."""
        count = max(1, (1 << 20) // max(1, int(np.prod(self.parts.local[1:]))))
        return [(a, min(a + count, self.parts.local[0])) for a in range(0, self.parts.local[0], count)]

    def hidden(self) -> list[np.ndarray]:
        """The hidden states: this rank's brick of each, (channels, *parts.local), views."""
        return [ghosts.inner(array) for ghosts, array in zip(self._of_hidden, self._hidden)]

    # --- steps

    def step(self, dt: float | None = None, count: int = 1) -> None:
        """Collective. `count` steps of the network's interval; dt, where given, must be it (ValueError)."""
        if dt is not None and abs(dt - self.interval) > 1e-9 * self.interval:
            raise ValueError(f"a step of this network is {self.interval:g}, not {dt:g}")
        for _ in range(count):
            if self._of_phi.neighbours:
                pairs = [(self._of_phi, self._phi), *zip(self._of_hidden, self._hidden)]
                for ghosts, array in pairs:
                    ghosts.start(array)
                for ghosts, _ in pairs:
                    ghosts.finish()
            self.inference.threads = self.world.threads
            self.inference.step(self._phi, self._hidden, self.parts.local, self.given, self._beyond)
            self.steps += 1
            self.time += self.interval
            self._is_measured = False

    def measured_step(self, dt: float | None = None) -> dict[str, float]:
        """Collective. One step; returns what measure() would have told before it."""
        report = self.measure()
        self.step(dt)
        return report

    # --- what there is to know

    def measure(self) -> dict[str, float]:
        """Collective. Free energy and its parts, lowest and highest φ, mean. Raises Diverged where the field is not finite."""
        if not np.isfinite(self.world.allreduce(float(np.sum(self._inner)))):
            raise Diverged(f"the field is no longer finite at step {self.steps}, time {self.time:g}")
        return self._as_field().measure()

    def _as_field(self) -> FiniteDifference:
        if not self._is_measured:
            inner = self._inner
            self._measured.set_field(lambda first, last: inner[first:last], self.time, self.steps)
            self._is_measured = True
        return self._measured

    @property
    def fourier(self):
        """Collective where it is made. The transforms of this grid; ValueError where there are walls."""
        return self._measured.fourier

    @property
    def spectrum(self) -> np.ndarray:
        """Collective. That of φ - <φ>."""
        return self._as_field().spectrum

    # --- the state

    def _states(self) -> dict[str, np.ndarray]:
        """name -> this rank's brick of φ and of each channel of the hidden states, views."""
        states = {"phi": self._inner}
        for block, hidden in enumerate(self.hidden()):
            states |= {f"hidden{block}.{channel}": one for channel, one in enumerate(hidden)}
        return states

    def state(self) -> tuple[dict, dict, dict]:
        """Collective. What a checkpoint must hold: arrays, the place of their first rows among all ranks', numbers (write_checkpoint)."""
        planes = {name: self.parts.to_planes(array) for name, array in self._states().items()}
        numbers = dict(mean=self.mean, time=self.time, steps=self.steps, surrogate=self.surrogate.hash)
        return planes, dict.fromkeys(planes, self.parts.first_plane), numbers

    def targets(self) -> dict:
        """Where the arrays of a checkpoint go (read_checkpoint), in place where that is possible; then restore()."""
        whole, first = self.parts.ranks[1] == 1, self.parts.first_plane
        self._read = {
            name: array if whole and array.flags.c_contiguous else np.empty(self.parts.planes_shape, array.dtype)
            for name, array in self._states().items()
        }
        return {name: (first, array) for name, array in self._read.items()}

    def restore(self, numbers: dict) -> None:
        """Collective: goes on from the arrays that were read and these numbers of state(); bit for bit, on any number of ranks.
        ValueError where they are another network's."""
        if numbers["surrogate"] != self.surrogate.hash:
            raise ValueError("the checkpoint is of another network")
        for name, array in self._states().items():
            if not np.may_share_memory(self._read[name], array):  # else it was read in place
                array[:] = self.parts.from_planes(self._read[name])
        self._read = None
        self.mean, self.time, self.steps = float(numbers["mean"]), float(numbers["time"]), int(numbers["steps"])
        self._is_measured = False

    def describe(self) -> str:
        """One line: network, grid, ranks, precision."""
        grid, (p0, p1) = " x ".join(map(str, self.parts.shape)), self.parts.ranks
        return f"{self.surrogate.describe()}\ngrid {grid}, {self.inference.precision}, parts {p0} x {p1}"

    def close(self) -> None:
        """Collective: releases the shared memory."""
        self._measured.close()
