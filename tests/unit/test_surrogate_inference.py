"""Native steps of surrogate networks: equal to torch's, whatever the network, the bricks and the threads."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ostwald.app.cli import main  # noqa: E402
from ostwald.app.kernels import _convgru  # noqa: E402
from ostwald.app.surrogate.architecture import HEADS, PADDINGS, PRESETS, Architecture  # noqa: E402
from ostwald.app.surrogate.inference import FAR, Inference  # noqa: E402
from ostwald.app.surrogate.network import Network, initial_arrays  # noqa: E402


def parameters_of(architecture, scale=2.0, seed=3):
    return {name: 0.6 * scale * array for name, array in initial_arrays(architecture, seed).items()}


def start(inference, shape, seed=1):
    phi, hidden = inference.empty(shape)
    phi[..., : shape[-1]] = np.random.default_rng(seed).uniform(0, 1, shape)
    return phi, hidden


def torch_steps(architecture, arrays, phi, parameters, steps):
    network = Network(architecture, dtype=torch.float64)
    network.load(arrays)
    phi = torch.from_numpy(phi)[None, None]
    hidden = network.start(phi)
    given = torch.tensor([parameters], dtype=torch.float64) if parameters else None
    with torch.no_grad():
        for _ in range(steps):
            phi, hidden, _ = network.step(phi, hidden, given)
    return phi[0, 0].numpy(), [h[0].numpy() for h in hidden]


def errors(architecture, shape, precision, parameters=(), steps=3, threads=1):
    """Largest differences from torch in double precision, of φ and of hidden states, and the drift of the mean."""
    arrays = parameters_of(architecture)
    inference = Inference(architecture, arrays, precision, threads)
    phi, hidden = start(inference, shape)
    n = shape[-1]
    first = phi[..., :n].copy()
    wanted, states = torch_steps(architecture, arrays, first, list(parameters), steps)
    for _ in range(steps):
        inference.step(phi, hidden, shape, parameters)
    assert np.abs(wanted - first).max() > 1e-4  # the network does something
    of_hidden = max(np.abs(h[..., :n] - w).max() for h, w in zip(hidden, states))
    return np.abs(phi[..., :n] - wanted).max(), of_hidden, abs(phi[..., :n].mean() - first.mean())


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("head", HEADS)
def test_every_network_is_torchs(head, padding):
    for cell, dimensions, shape, kernel in (
        ("deep", 2, (9, 70), 5), ("gru", 2, (12, 17), 3), ("deep", 3, (5, 6, 7), 3), ("gru", 3, (7, 5, 20), 5)
    ):  # fmt: skip
        architecture = Architecture(dimensions, 2, 5, kernel, cell, head, ("one", "two"), padding)
        phi, hidden, drift = errors(architecture, shape, "double", (0.3, -0.2), threads=2)
        assert phi < 2e-14 and hidden < 2e-14
        assert drift < 1e-15 or head in ("sigmoid", "allen-cahn")


@pytest.mark.parametrize("preset, shape", [("crane-3d", (9, 10, 21)), ("misfit-2d", (19, 70))])
def test_the_networks_of_the_papers(preset, shape):
    architecture = PRESETS[preset]
    given = (0.4,) * len(architecture.parameters)
    assert max(errors(architecture, shape, "double", given)[:2]) < 5e-14
    phi, hidden, drift = errors(architecture, shape, "float32", given)
    assert phi < 1e-6 and hidden < 2e-6 and drift < 1e-15
    phi, hidden, drift = errors(architecture, shape, "bfloat16", given)
    assert phi < 0.01 and hidden < 0.02 and drift < 1e-15


@pytest.mark.parametrize("blocks, channels, kernel", [(1, 1, 1), (3, 13, 3), (1, 24, 7)])
def test_other_sizes(blocks, channels, kernel):
    architecture = Architecture(2, blocks, channels, kernel)
    assert max(errors(architecture, (33, 65), "double")[:2]) < 1e-13
    assert max(errors(architecture, (33, 65), "float32")[:2]) < 5e-6


def test_a_grid_no_larger_than_the_kernel():
    architecture = Architecture(3, 3, 4, 3, head="staggered-flux")
    assert max(errors(architecture, (1, 2, 1), "double", steps=4)[:2]) < 1e-14
    inference = Inference(PRESETS["misfit-2d"], parameters_of(PRESETS["misfit-2d"]))
    phi, hidden = start(inference, (1, 8))
    with pytest.raises(ValueError, match="fewer points along an axis than the kernel reaches"):
        inference.step(phi, hidden, (1, 8), (0.0,))


def test_the_mean_stays_through_many_steps_whatever_the_precision():
    for precision in ("float32", "bfloat16"):
        inference = Inference(PRESETS["crane-3d"], parameters_of(PRESETS["crane-3d"], 1.0), precision)
        phi, hidden = start(inference, (8, 12, 16))
        mean = phi.mean()
        for _ in range(300):
            inference.step(phi, hidden, (8, 12, 16))
        assert np.isfinite(phi).all() and abs(phi.mean() - mean) < 1e-14


def test_threads_do_not_change_a_bit():
    results = []
    for threads in (1, 2, 3):
        inference = Inference(PRESETS["crane-3d"], parameters_of(PRESETS["crane-3d"]), "float32", threads)
        phi, hidden = start(inference, (7, 9, 130))
        for _ in range(3):
            inference.step(phi, hidden, (7, 9, 130))
        results.append((phi[..., :130], *(h[..., :130] for h in hidden)))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other))


def with_ghosts(array, lo, hi, width, periodic):
    """The box lo … hi along the last axes but one, `width` layers around it; what lies beyond a wall is nan."""
    for axis, a, b in zip((-3, -2), lo, hi):
        wanted, n = np.arange(a - width, b + width), array.shape[axis]
        array = np.take(array, wanted % n, axis)
        if not periodic:
            beyond = (wanted < 0) | (wanted >= n)
            array[(..., beyond, *(slice(None),) * (-1 - axis))] = np.nan
    return np.ascontiguousarray(array)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("precision", ["double", "bfloat16"])
def test_bricks_with_ghosts_are_the_whole_bit_for_bit(padding, precision):
    """Four bricks, by hand: parallel.Ghosts is not needed to know what a ghost is."""
    architecture = Architecture(3, 2, 6, 3, "gru", "potential", ("one",), padding)
    shape = (17, 19, 11)
    inference = Inference(architecture, parameters_of(architecture), precision)
    phi, hidden = start(inference, shape)
    periodic = padding == "circular"
    for _ in range(2):
        parts = []
        for x in ((0, 4), (4, 8), (8, 17)):  # the first two are thinner than what the network reaches
            for y in ((0, 10), (10, 19)):
                lo, hi = (x[0], y[0]), (x[1], y[1])
                fields = [
                    with_ghosts(array, lo, hi, width, periodic)
                    for array, width in zip((phi, *hidden), architecture.halo)
                ]
                beyond = (FAR,) * 4 if periodic else (x[0], 17 - x[1], y[0], 19 - y[1])
                inference.step(fields[0], fields[1:], (hi[0] - lo[0], hi[1] - lo[1], 11), (0.2,), beyond)
                parts.append((lo, hi, fields))
        inference.step(phi, hidden, shape, (0.2,))
        for (x0, y0), (x1, y1), fields in parts:
            for array, field, width in zip((phi, *hidden), fields, architecture.halo):
                inner = field[..., width : width + x1 - x0, width : width + y1 - y0, :11]
                assert np.array_equal(array[..., x0:x1, y0:y1, :11], inner)


@pytest.mark.parametrize(
    "precision, tanh_error, logistic_error",
    [("double", 4e-16, 3e-16), ("float32", 2e-7, 1.2e-7), ("bfloat16", 2e-4, 1e-4)],
)
def test_activations(precision, tanh_error, logistic_error):
    x = np.concatenate([np.linspace(-12, 12, 20001), [-1e30, -200, 200, 1e30, -np.inf, np.inf, np.nan]])
    x = x.astype(np.float32).astype(np.float64)
    tanh, logistic = (_convgru.activation(name, precision, x) for name in ("tanh", "logistic"))
    with np.errstate(over="ignore"):
        assert np.nanmax(np.abs(tanh - np.tanh(x))) < tanh_error
        assert np.nanmax(np.abs(logistic - 1 / (1 + np.exp(-x)))) < logistic_error
    assert (
        np.isnan(tanh[-1])
        and np.isnan(logistic[-1])
        and np.isfinite(tanh[:-1]).all()
        and np.isfinite(logistic[:-1]).all()
    )


def test_bad_input():
    architecture = Architecture(2, 1, 4, 3, parameters=("misfit",))
    arrays = parameters_of(architecture)
    with pytest.raises(ValueError, match="precision is one of"):
        Inference(architecture, arrays, "half")
    with pytest.raises(ValueError, match="it has no block0"):
        Inference(architecture, {k: v for k, v in arrays.items() if k != "block0.input.weight"})
    inference = Inference(architecture, arrays)
    phi, hidden = start(inference, (16, 16))
    with pytest.raises(ValueError, match="wrong number of parameters"):
        inference.step(phi, hidden, (16, 16))
    with pytest.raises(ValueError, match="phi does not fit the points"):
        inference.step(phi[:, :8], hidden, (16, 16), (0.0,))
    with pytest.raises(ValueError, match="dtype"):
        inference.step(phi.astype(np.float32), hidden, (16, 16), (0.0,))
    with pytest.raises(ValueError, match="too few ghost layers"):
        inference.step(phi, hidden, (14, 16), (0.0,), (FAR, FAR, 0, 0))
    with pytest.raises(ValueError, match="one hidden state for each block"):
        inference.step(phi, [], (16, 16), (0.0,))


def test_the_bench_compares_like_with_like(tmp_path, capsys):
    file = tmp_path / "bench.json"
    asked = ["bench", "surrogate", "--network", "crane-3d", "--grid", "12", "--repeat", "1", "--precision", "float32"]
    assert main([*asked, "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["results"]
    assert set(row["contestants"]) == {"step", "torch", "torch-channels-last"}
    for name in ("torch", "torch-channels-last"):
        assert row["contestants"][name]["difference"] < 1e-5
    step = row["contestants"]["step"]
    assert step["share"] == pytest.approx(row["floor_ms"] / step["cpu_ms"])
    assert step["flops"] * step["cpu_ms"] == pytest.approx(1e3 * 57840 * 12**3)
