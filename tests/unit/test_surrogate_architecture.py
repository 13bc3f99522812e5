"""Layers of surrogate networks: published numbers of parameters, reach, descriptions."""

from dataclasses import replace

import numpy as np
import pytest

from ostwald.app.surrogate.architecture import PRESETS, Architecture

CRANE, MISFIT = PRESETS["crane-3d"], PRESETS["misfit-2d"]


def numbers(architecture, part):
    """Parameters of the layers whose name begins so."""
    size = architecture.dimensions
    chosen = [layer for layer in architecture.layers() if layer.name.startswith(part)]
    return sum(layer.outputs * (layer.inputs * layer.kernel**size + 1) for layer in chosen)


def test_parameters_are_as_many_as_published():
    assert [numbers(CRANE, part) for part in ("block0", "block1", "head")] == [10430, 17720, 1033]
    assert CRANE.count == 29183
    assert CRANE.with_head("sigmoid").count == 28641
    assert [numbers(MISFIT, part) for part in ("block0", "block1", "head")] == [46872, 86472, 601 + 14424]
    assert MISFIT.count == 148369


def test_reach():
    assert CRANE.halo == (6, 6, 4)
    assert MISFIT.halo == (13, 13, 9)
    assert replace(MISFIT, head="sigmoid").halo == (12, 12, 8)


def test_a_description_gives_the_architecture_back():
    for architecture in PRESETS.values():
        assert Architecture.from_dict(architecture.as_dict() | {"interval": 0.5}) == architecture
    with pytest.raises(ValueError, match="lacks 'kernel'"):
        Architecture.from_dict({k: v for k, v in CRANE.as_dict().items() if k != "kernel"})


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(kernel=4), "kernel is odd, not 4"),
        (dict(cell="lstm"), "cell is one of deep, gru, not 'lstm'"),
        (dict(channels=0), "channels is a whole number from 1 on"),
        (dict(dimensions=1), "dimensions is one of 2, 3"),
        (dict(parameters=("a", "a")), "stands twice"),
    ],
)
def test_what_is_no_architecture_is_told(wrong, words):
    with pytest.raises(ValueError, match=words):
        replace(CRANE, **wrong)


def test_parameters_of_another_network_are_told():
    arrays = {name: np.zeros(shape, np.float32) for name, shape in CRANE.shapes().items()}
    CRANE.check(arrays)
    with pytest.raises(ValueError, match=r"head.output.weight is \(3, 10, 3, 3, 3\), not \(1, 10, 3, 3, 3\)"):
        CRANE.with_head("potential").check(arrays)
    with pytest.raises(ValueError, match=r"it has no block0\.gates\.weight"):
        MISFIT.check(arrays)
