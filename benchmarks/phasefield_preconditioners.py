"""What to precondition an implicit Cahn–Hilliard step with: iterations and CPU time of one step, one rank and thread.

    python benchmarks/phasefield_preconditioners.py

none         GMRES alone
helmholtz    (1 + √(γ dt M ε) λ)², two factors, λ = -∇²: each by conjugate gradients with Jacobi to 1e-2
amg          the same factors, each by one cycle of PETSc's algebraic multigrid (GAMG) on an assembled matrix
waves        1 + γ dt M λ (a + ελ) exactly, in the waves of the box (what Implicit uses)
"""

import time

import numpy as np
import scipy.sparse as sparse

from ostwald.app.phasefield import Implicit, PFHub, UniformNoise, double_well, quartic_well
from ostwald.parallel import NewtonKrylov, World


def laplacian(shape, spacing):
    """-∇² between walls, assembled."""
    total = sparse.csr_matrix((1, 1))
    for n, h in zip(shape, spacing):
        one = sparse.diags([np.r_[1, np.full(n - 2, 2.0), 1], -np.ones(n - 1), -np.ones(n - 1)], [0, 1, -1]) / h**2
        total = sparse.kron(total, sparse.identity(n)) + sparse.kron(sparse.identity(total.shape[0]), one)
    return total.tocsr()


def helmholtz(solver, kind):
    """A preconditioner of two Helmholtz factors for the present rate."""
    from petsc4py import PETSc

    alpha = np.sqrt(solver._rate * solver._mean_mobility * solver.epsilon)
    csr = (sparse.identity(solver.points) + alpha * laplacian(solver.parts.shape, solver.spacing)).tocsr()
    matrix = PETSc.Mat().createAIJ(csr.shape, csr=(csr.indptr, csr.indices, csr.data), comm=PETSc.COMM_SELF)
    ksp = PETSc.KSP().create(comm=PETSc.COMM_SELF)
    ksp.setOperators(matrix)
    ksp.setType("preonly" if kind == "amg" else "cg")
    ksp.getPC().setType("gamg" if kind == "amg" else "jacobi")
    ksp.setTolerances(rtol=1e-2)
    ksp.setUp()
    b, x = matrix.createVecs()

    def apply(r, out):
        b.setArray(r)
        for _ in range(2):
            ksp.solve(b, x)
            x.copy(b)
        out[:] = x.getArray(readonly=True)

    return apply


def measure(solver, phi, dt, kind):
    """(Newton's, linear iterations, CPU seconds) of a step; set-up of matrices not counted."""
    solver._rate = dt * (1 - np.sqrt(0.5))
    precondition = None if kind == "none" else solver._precondition if kind == "waves" else helmholtz(solver, kind)
    size = solver.points
    solver._solver = NewtonKrylov(
        solver.world, size, solver._residual, solver._linearise, solver._jacobian, precondition
    )
    best = np.inf
    for _ in range(3):
        solver.set_field(phi)
        newton, linear = solver.newton, solver.linear
        begin = time.process_time()
        solver.step(dt)
        best = min(best, time.process_time() - begin)
    return solver.newton - newton, solver.linear - linear, best


def main():
    world = World()
    square = Implicit(world, (200, 200), quartic_well(5.0, 0.3, 0.7), 2.0, 5.0, 1.0, "mirror")
    square.set_field(PFHub((200, 200), offset=0.5).source(square.parts))
    square.step(0.1, 300)
    cube = Implicit(world, (48,) * 3, double_well(3.0), 3.0, 1.0, 1.0, "mirror")
    cube.set_field(UniformNoise((48,) * 3, seed=1, mean=0.5, amplitude=0.1).source(cube.parts))
    cube.step(0.05, 100)
    for name, solver, steps in (("PFHub 1b, 200², t = 30", square, (0.1, 0.5, 2.0)), ("48³, t = 5", cube, (0.05, 0.2))):
        phi = solver.field()
        for dt in steps:
            for kind in ("none", "helmholtz", "amg", "waves"):
                try:
                    newton, linear, seconds = measure(solver, phi, dt, kind)
                    told = f"{newton:3d} Newton, {linear:4d} linear, {1e3 * seconds:8.1f} ms"
                except RuntimeError as error:
                    told = str(error)
                print(f"{name}  dt {dt:<5g} {kind:10s} {told}", flush=True)


if __name__ == "__main__":
    main()
