"""Newton's method with Krylov solvers, matrix-free, by PETSc. The only place that knows petsc4py."""

from __future__ import annotations

import numpy as np


class NotConverged(RuntimeError):
    """Newton's method found no solution."""

    collective = True


class NewtonKrylov:
    """Solves F(x) = 0 for arrays that are spread over ranks: PETSc's SNES (line search) and KSP (GMRES, preconditioned from the right) on functions.

    world: World. size: numbers of this rank. residual(x, out): F. linearise(x): what follows is about this x. jacobian(v, out): F'(x) v.
    precondition(r, out): about F'(x)⁻¹ r, or None. All arrays are flat, float64, this rank's; every function is collective.
    tolerance: of |F| root mean square. linear: of a linear system, relative.
    """

    def __init__(self, world, size, residual, linearise, jacobian, precondition, tolerance=1e-10, linear=1e-3):
        import petsc4py

        petsc4py.init([], comm=world.comm)
        from petsc4py import PETSc

        self.world = world
        self._residual, self._linearise, self._jacobian, self._precondition = (
            residual,
            linearise,
            jacobian,
            precondition,
        )
        self._x = PETSc.Vec().createMPI((size, PETSc.DECIDE), comm=world.comm)
        total = self._x.getSize()
        matrix = PETSc.Mat().createPython(((size, total), (size, total)), self, comm=world.comm)
        matrix.setUp()
        self._snes = snes = PETSc.SNES().create(comm=world.comm)
        snes.setFunction(self._form, self._x.duplicate())
        snes.setJacobian(lambda snes, x, a, p: self._linearise(x.getArray(readonly=True)), matrix)
        snes.setType("newtonls")
        snes.setTolerances(rtol=1e-30, atol=tolerance * np.sqrt(total), stol=0.0, max_it=30)
        ksp = snes.getKSP()
        ksp.setType("gmres")
        ksp.setPCSide(PETSc.PC.Side.RIGHT)
        ksp.setTolerances(rtol=linear, max_it=200)
        pc = ksp.getPC()
        if precondition is None:
            pc.setType("none")
        else:
            pc.setType("python")
            pc.setPythonContext(self)

    def solve(self, x) -> tuple[int, int]:
        """Collective. Starts from x and leaves the solution there; returns Newton's and linear iterations."""
        snes = self._snes
        self._x.setArray(x)
        snes.solve(None, self._x)
        x[:] = self._x.getArray(readonly=True)
        if snes.getConvergedReason() < 0:
            raise NotConverged(
                f"Newton's method ended after {snes.getIterationNumber()} iterations with a residual of "
                f"{snes.getFunctionNorm() / np.sqrt(self._x.getSize()):.3g}: the time step is too long"
            )
        return snes.getIterationNumber(), snes.getLinearSolveIterations()

    def _form(self, snes, x, f):
        self._residual(x.getArray(readonly=True), f.getArray())

    def mult(self, matrix, v, out):
        """PETSc asks for F'(x) v."""
        self._jacobian(v.getArray(readonly=True), out.getArray())

    def apply(self, pc, r, out):
        """PETSc asks for the preconditioned r."""
        self._precondition(r.getArray(readonly=True), out.getArray())

    def close(self) -> None:
        self._snes.destroy()
        self._x.destroy()
