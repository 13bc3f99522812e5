"""Small sets of sequences for surrogates to learn from, made by the project's own job."""

from ostwald.app.jobs import sequences

SET = """
[job]
kind = "sequences"
seed = {seed}
[grid]
shape = {shape}
[model]
well = "double"
epsilon = 3.0
[initial]
kind = "perlin"
[set]
count = {count}
frames = {frames}
interval = {interval}
tolerance = 0.01
stride = {stride}
validation = 0.25
[[vary]]
key = "initial.exact_mean"
uniform = [0.35, 0.65]
[[vary]]
key = "initial.cells"
values = [2, 4]
[[vary]]
key = "initial.amplitude"
uniform = [0.2, 0.5]
"""


def make_sequences(world, folder, shape=(32, 32), count=24, frames=12, interval=0.25, stride=2, seed=3, name="set"):
    """The file of a set of spinodal decompositions. Collective."""
    run_file = folder / f"{name}.toml"
    if world.root:
        text = SET.format(shape=list(shape), count=count, frames=frames, interval=interval, stride=stride, seed=seed)
        run_file.write_text(text)
    world.barrier()
    assert sequences.run(world, run_file, folder / name) == 0
    return folder / name / "sequences.h5"
