"""Levenberg–Marquardt: Gauss–Newton steps of all parameters on the whole training set, damped so that each lowers the loss.

With residuals r(theta) (their squares add up to L) and their Jacobian J, plus a ridge b |theta|²,

    (J^T J + b + mu d) step = -(J^T r + b theta),       d the mean of the diagonal of J^T J + b

K. Levenberg, Q. Appl. Math. 2, 164 (1944); the damping is the same for all parameters, which inputs of variance 1 make alike.
Marquardt's, by the diagonal, leaves those free that the data hardly determine, and generalises worse (docs/training.md). mu after
H. B. Nielsen, IMM-REP-1999-05 (1999): a step is taken where the loss falls, mu then shrinks by up to 3 as the fall is what was
expected; else mu grows by 2, 4, 8, …
J^T J may be of a part of the forces, drawn anew for each iteration and weighted up, while loss and gradient are always of all
(R. H. Byrd et al., SIAM J. Optim. 21, 977 (2011)): there are far more forces than parameters, and neighbouring ones say the same.
Structures are shared out over the ranks, J is made of a few of them at a time; J^T J and J^T r are added up over the ranks, so that
each rank solves the same equations.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import LinAlgError, blas, cho_factor, cho_solve

from ostwald.parallel import philox_uniform

from .described import ROWS
from .trainer import Trainer


class LevenbergMarquardt(Trainer):
    """objective: PotentialObjective, whose network offers `jacobian`. ridge: b. damping: mu at the start. part: of the forces
    that J^T J is made of; seed: of their choice. `step()` is one iteration: at most `tries` steps are tried; False: none lowers
    the loss, it is as low as it gets."""

    pace_name = "damping"

    def __init__(self, world, objective, ridge=0.0, damping=1e-2, part=1.0, seed=0, tries=8):
        super().__init__(objective.module)
        self.world, self.network, self.data, self.loss = world, objective.module, objective.data, objective.function
        self.ridge, self.mu, self.growth, self.tries = ridge, damping, 2.0, tries
        self.part, self.seed = part, seed
        self._here = None  # loss and gradient at the present parameters, where they are known
        self.batch = len(objective.items)
        self.chunks = self.data.chunks(objective.shares(objective.items, world.size)[world.rank])

    @property
    def pace(self) -> float:
        return self.mu

    # ---- one iteration ----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        self.updates += 1
        theta = self.theta
        if self._here is None:
            self._here = self._sums()
        self.value, gradient = self._here
        normal = self._normal()
        diagonal = np.diag(normal).copy()
        scale = diagonal.mean()
        for _ in range(self.tries):
            with self.world.timers("solve"):
                move = self._solve(normal, diagonal + self.mu * scale, -gradient)
            if move is not None:
                self.theta = theta + move
                there = self._sums()
                expected = -2 * (gradient @ move) - move @ (_times(normal, diagonal, move))
                if there[0] < self.value:
                    ratio = (self.value - there[0]) / expected
                    self.mu = max(self.mu * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 1e-14)
                    self.growth, self.value, self._here = 2.0, there[0], there
                    return True
            self.mu *= self.growth
            self.growth *= 2
        self.theta = theta
        return False

    # ---- sums over the training set ---------------------------------------------------------------------------------

    def _batch(self, indices, chosen=None):
        with self.world.timers("data"):
            theta = self.network.theta
            return self.data.batch(indices, theta.dtype, theta.device, chosen)

    def _sums(self):
        """Loss and J^T r + b theta of all ranks."""
        network, loss = self.network, self.loss
        sums = np.zeros(1 + network.size)
        for indices in self.chunks:
            batch, labels = self._batch(indices)
            with self.world.timers("gradient"):
                outputs = network.evaluate(batch, loss.forces_wanted, loss.stress_wanted)
                squares = sum(r.double().square().sum() for r in loss.residuals(outputs, batch, labels))
                sums[0] += float(squares.detach())
                sums[1:] += 0.5 * torch.autograd.grad(squares, network.theta)[0].double().cpu().numpy()
        with self.world.timers("communication"):
            sums = self.world.allreduce(sums)
        theta = self.theta
        return sums[0] + self.ridge * float(theta @ theta), sums[1:] + self.ridge * theta

    def _normal(self):
        """The lower triangle of J^T J + b of all ranks."""
        p = self.network.size
        normal, waiting = np.zeros((p, p), order="F"), []
        for indices in self.chunks:
            chosen = self._chosen(indices)
            batch, labels = self._batch(indices, chosen)
            with self.world.timers("Jacobian"), torch.no_grad():
                waiting.append(self._rows(chosen.to(self.network.theta.device), batch, labels).cpu().numpy())
            with self.world.timers("normal equations"):
                if sum(map(len, waiting)) >= max(ROWS, 2 * p) or indices is self.chunks[-1]:
                    normal = _add_squares(normal, np.concatenate(waiting))
                    waiting.clear()
        with self.world.timers("communication"):
            triangle = np.triu_indices(p)  # columns of the lower one
            normal.T[triangle] = self.world.allreduce(normal.T[triangle])
        normal[np.diag_indices(p)] += self.ridge
        return normal

    def _rows(self, chosen, batch, labels):
        """Derivatives by the parameters of the residuals of a batch: its energies, the chosen forces, stresses."""
        outputs, jacobian = self.network.jacobian(batch, chosen, self.loss.stress_wanted)
        outputs.forces = torch.zeros_like(labels.forces).index_put((chosen,), outputs.forces)
        slopes = self.loss.slopes(outputs, batch, labels)
        if self.loss.forces_wanted:
            slopes[1] = slopes[1][chosen] * self.part**-0.5
        return jacobian.rows.mul_(torch.cat([slope.flatten() for slope in slopes])[:, None])

    def _chosen(self, indices) -> torch.Tensor:
        """(n,) bool: the atoms of structures whose forces J^T J is made of, the same on any number of ranks."""
        atoms = self.data.atoms_of(indices)
        if not self.loss.forces_wanted:
            return torch.zeros(len(atoms), dtype=torch.bool)
        if self.part == 1:
            return torch.ones(len(atoms), dtype=torch.bool)
        return torch.from_numpy(philox_uniform(self.seed, "forces", atoms, self.updates)[:, 0] < self.part)

    def _solve(self, normal, diagonal, right):
        """The step of one rank, for all: None where the matrix is not positive definite in floating point."""
        move = None
        if self.world.root:
            matrix = normal.copy(order="F")
            matrix[np.diag_indices_from(matrix)] = diagonal
            try:
                move = cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), right)
            except LinAlgError:
                pass
        return self.world.bcast(move)

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict:
        return {"updates": self.updates, "damping": self.mu, "growth": self.growth}

    def restore(self, state):
        self._here = None
        self.updates, self.mu, self.growth = int(state["updates"]), state["damping"], state["growth"]


def _add_squares(normal, rows):
    """The lower triangle of normal + rows^T rows, in double precision."""
    if rows.dtype == np.float32:
        lower = blas.ssyrk(1.0, rows.T, lower=True)
        normal += lower
        return normal
    return blas.dsyrk(1.0, rows.T, beta=1.0, c=normal, overwrite_c=True, lower=True)


def _times(normal, diagonal, vector):
    """The symmetric matrix with this lower triangle and diagonal, times a vector."""
    lower = np.tril(normal, -1)
    return lower @ vector + lower.T @ vector + diagonal * vector
