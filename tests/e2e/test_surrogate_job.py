"""A surrogate from beginning to end as its users make it: sequences, training, roll-out, evaluation, all on two ranks."""

import json

import numpy as np

from ostwald.io.fields import open_field
from ostwald.io.timeseries import read_series

SET = """
[job]
kind = "sequences"
seed = {seed}
[grid]
shape = [32, 32]
[model]
epsilon = 3.0
[initial]
kind = "perlin"
cells = 4
[set]
count = {count}
frames = 9
interval = 0.25
tolerance = 0.01
stride = {stride}
validation = {validation}
[[vary]]
key = "initial.exact_mean"
uniform = [0.4, 0.6]
[[vary]]
key = "initial.amplitude"
uniform = [0.3, 0.6]
"""
TRAIN = """
[job]
kind = "train-surrogate"
[[sequences]]
file = "sequences"
[network]
dimensions = 2
blocks = 1
channels = 8
kernel = 3
head = "staggered-flux"
[curriculum]
epochs = 4
[optimiser]
epochs = 24
batch = 2
rate = 1e-2
clip = 1.0
"""
ROLLOUT = """
[job]
kind = "rollout"
[surrogate]
file = "training/surrogate.ostwald"
[grid]
shape = [32, 32]
[model]
epsilon = 3.0
[initial]
kind = "perlin"
cells = 8
exact_mean = 0.5
amplitude = 0.4
[[stage]]
steps = 8
[fields]
every = 8
precision = "double"
"""
EVALUATE = """
[job]
kind = "evaluate-surrogate"
[[model]]
name = "network"
file = "training/surrogate.ostwald"
[[model]]
name = "solver"
kind = "solver"
[[model]]
kind = "persistence"
[[protocol]]
kind = "test-set"
truth = "test.toml"
[[protocol]]
kind = "larger-domain"
truth = "test.toml"
count = 1
"""


def test_from_sequences_to_an_evaluation(ostwald, tmp_path):
    def run(name, text, ranks=2):
        (tmp_path / f"{name}.toml").write_text(text)
        status, out, err = ostwald("run", tmp_path / f"{name}.toml", "-d", tmp_path / name, ranks=ranks)
        assert status == 0, out + err

    run("sequences", SET.format(seed=1, count=16, stride=2, validation=0.25))
    run("training", TRAIN)
    loss = read_series(tmp_path / "training" / "series.h5")["validation_loss"]
    assert np.nanmin(loss) < 0.4 * loss[0]

    run("whole", ROLLOUT, ranks=1)
    run("parts", ROLLOUT)
    one, two = (open_field(tmp_path / name / "fields.h5")[:] for name in ("whole", "parts"))
    assert np.array_equal(one, two) and np.ptp(two) > 0.5 and abs(two.mean() - 0.5) < 1e-14

    (tmp_path / "test.toml").write_text(SET.format(seed=2, count=4, stride=1, validation=0))
    run("evaluation", EVALUATE)
    for protocol in json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["protocols"]:
        network, solver, still = protocol["models"].values()
        assert solver["average"]["rmse"] < 1e-9 and network["drift"] < 1e-14 and network["lost"] == 0
        for column in ("rmse", "energy_error", "spectrum_error"):
            assert network["average"][column] < 0.65 * still["average"][column], (protocol["name"], column)
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "larger-domain" in page and "The clock" in page
