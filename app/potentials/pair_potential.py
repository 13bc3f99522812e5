"""What potentials of pairs share: one kernel with a table of coefficients."""

from .base import Neighbourhoods, Potential


class PairPotential(Potential):
    """A sum over pairs, half of each pair's energy and virial to either atom; takes half and full lists."""

    list_style = "half"

    def compute(self, nb: Neighbourhoods, forces, *, energy=True, virial=True, energies=None, virials=None, threads=1):
        want = 2 if energy else 1 if virial else 0
        return self._kernel.compute(
            nb.positions,
            nb.types,
            nb.nlocal,
            nb.offsets,
            nb.indices,
            nb.style == "half",
            forces,
            want,
            energies,
            virials,
            threads,
        )
