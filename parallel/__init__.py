"""Everything that knows about ranks."""

from ostwald.parallel.bricks import Bricks, choose_grid
from ostwald.parallel.diagonal import Diagonal
from ostwald.parallel.fourier import Fourier, process_grid, spectrum_bytes
from ostwald.parallel.ghosts import Ghosts
from ostwald.parallel.halo import Halo
from ostwald.parallel.migration import Blocks, block_range, from_blocks, migrate, to_blocks
from ostwald.parallel.newton import NewtonKrylov, NotConverged
from ostwald.parallel.parts import Parts, deal, extents
from ostwald.parallel.random import philox_generator, philox_key, philox_normal, philox_uniform
from ostwald.parallel.workqueue import WorkQueue
from ostwald.parallel.world import (
    CollectiveError,
    World,
    is_root,
    launched_size,
    require_one_mpi,
    run_collectively,
)

__all__ = [
    "Blocks",
    "Bricks",
    "CollectiveError",
    "Diagonal",
    "Fourier",
    "Ghosts",
    "Halo",
    "NewtonKrylov",
    "NotConverged",
    "Parts",
    "WorkQueue",
    "World",
    "block_range",
    "choose_grid",
    "deal",
    "extents",
    "from_blocks",
    "is_root",
    "launched_size",
    "migrate",
    "philox_generator",
    "philox_key",
    "philox_normal",
    "philox_uniform",
    "process_grid",
    "require_one_mpi",
    "run_collectively",
    "spectrum_bytes",
    "to_blocks",
]
