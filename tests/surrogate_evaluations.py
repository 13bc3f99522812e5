"""Small evaluations of surrogates."""

import numpy as np

from ostwald.app.surrogate.architecture import Architecture
from ostwald.app.surrogate.model import Parameter, Surrogate

SET = """
[job]
kind = "sequences"
seed = 3
[grid]
shape = [32, 24]
[model]
epsilon = 3.0
[solver]
method = "finite-difference"
[initial]
kind = "perlin"
[set]
count = 4
frames = 4
interval = 0.5
timestep = 0.005
[[vary]]
key = "initial.exact_mean"
uniform = [0.4, 0.6]
[[vary]]
key = "initial.cells"
values = [4, 8]
[[vary]]
key = "set.start"
values = [0.0, 1.0]
"""
RUN = """
[job]
kind = "phasefield"
seed = 3
[grid]
shape = [24, 20]
[model]
epsilon = 3.0
[elasticity]
c11 = 30.0
c12 = 15.0
c44 = 30.0
misfit = 0.1
[initial]
kind = "perlin"
cells = 4
[[stage]]
time = 2.0
tolerance = 0.01
"""


def network(
    path, interval=0.5, spacing=2.0, resampling="nearest", scale=0.1, parameters=(), padding="circular", seed=1
):
    """A model file of random parameters."""
    names = [name for name, _ in parameters]
    architecture = Architecture(2, 2, 4, 3, "deep", "flux", names, padding)
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(0, scale, shape) for name, shape in architecture.shapes().items()}
    given = tuple(Parameter(name, key, 0.0, 0.1, 0.0, 1.0) for name, key in parameters)
    Surrogate(architecture, arrays, interval, (spacing, spacing), resampling, given).save(path)
