"""What the training of a surrogate makes small: the errors of the sequences that it goes on with by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ostwald.app.surrogate.data import symmetries, turned
from ostwald.app.surrogate.network import shifted
from ostwald.parallel import philox_generator

WORKING = 8
"""Steps whose memory torch takes besides, while it works: measured are 3 (two dimensions) to 8 (three)."""


@dataclass(frozen=True)
class Loss:
    """Means over points and frames of a sequence, φ the truth, φ̂ the prediction:

    L = (φ - φ̂)² + gradient (|∇φ|² - |∇φ̂|²)² + energy (f(φ) - f(φ̂))² + mean (<φ> - <φ̂>)²

    (Lanzoni, thesis, section 7.1), f = 2 w(φ) = (36/ε) φ² (1 - φ)², which counts the gradient energy by equipartition; ∇ by
    centred differences, spacing (d,); periodic: else there are walls. epsilon: ε, needed where energy > 0.
    """

    spacing: tuple[float, ...]
    gradient: float = 0.0
    energy: float = 0.0
    mean: float = 0.0
    epsilon: float = 1.0
    periodic: bool = True

    def of(self, predicted, truth):
        """(b,) of sequences (b, t, *n)."""
        value = _mean((predicted - truth).square())
        if self.gradient:
            value = value + self.gradient * _mean((self._slope(predicted) - self._slope(truth)).square())
        if self.energy:
            value = value + self.energy * _mean((self._energy(predicted) - self._energy(truth)).square())
        if self.mean:
            value = value + self.mean * _mean(_over_points(predicted - truth).square())
        return value

    def _slope(self, phi):
        total = 0.0
        for axis, h in enumerate(self.spacing, 2):
            ahead, behind = (shifted(phi, axis, by, self.periodic, 1.0) for by in (1, -1))
            total = total + ((ahead - behind) / (2 * h)).square()
        return total

    def _energy(self, phi):
        return (36 / self.epsilon) * (phi * (1 - phi)).square()


def _mean(x):
    return x.flatten(1).mean(1)


def _over_points(x):
    return x.flatten(2).mean(2)


@dataclass(frozen=True)
class Curriculum:
    """How many frames of a sequence of `frames` the network is given in epoch e = 0, 1, …: at first all but the last, then fewer, from
    epoch `epochs` - 1 on the first alone: frames (1 - (e + 1) / epochs), rounded down, from frames - 1 to 1. epochs 0: the first alone,
    from the start."""

    frames: int
    epochs: int

    def __call__(self, epoch: int) -> int:
        if not self.epochs:
            return 1
        return min(max(self.frames * (self.epochs - epoch - 1) // self.epochs, 1), self.frames - 1)


@dataclass(frozen=True)
class Augmentation:
    """What a sequence is turned into before the network learns from it, anew in each epoch. rotations: by quarter turns; reflections: of axes;
    exchange: φ becomes 1 - φ, and parameters of the columns `complements` 1 - p; noise: standard deviation of what is
    added to each frame that the network is given, without changing its mean."""

    rotations: bool = True
    reflections: bool = True
    exchange: bool = True
    noise: float = 0.0
    complements: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How sequences go through a rank: `together` at a time; `segment`: None, or how many steps of them are kept at a time, the insides of
    the others being computed again. bytes: what that takes, about."""

    together: int
    segment: int | None
    bytes: int


def step_bytes(network, shape) -> tuple[int, int]:
    """What one step of one sequence leaves for the backward pass, found by doing one; and its states."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    phi = torch.zeros((1, 1, *shape), dtype=network.dtype, device=network.theta.device)
    hidden, count = network.start(phi), len(network.architecture.parameters)
    parameters = phi.new_zeros((1, count)) if count else None
    tensors = network.tensors()
    state = sum(x.nbytes for x in (phi, *hidden))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = network.step(phi, hidden, parameters, tensors)  # what is kept lives as long as this does
    own = {tensor.untyped_storage().data_ptr() for tensor in tensors.values()}
    del out
    return sum(size for pointer, size in kept.items() if pointer not in own), state


def plan(network, shape, steps: int, most: int, limit: float) -> Plan:
    """As many sequences at a time, up to `most`, as fit into `limit` bytes; on a CPU two do (torch's fast convolutions need two),
    on a GPU the more the better. ValueError where one does not fit."""
    each, state = step_bytes(network, shape)
    on_cpu = network.theta.device.type == "cpu"
    most = min(most, 4) if on_cpu else most

    def needed(together, segment):
        return together * (each * (segment + WORKING) + state * -(-steps // segment))

    for together in range(most, 0, -1):
        fitting = [segment for segment in range(1, steps + 1) if needed(together, segment) <= limit]
        enough = steps if on_cpu and together > 2 else math.isqrt(steps) if together > 1 else 1
        if fitting and max(fitting) >= enough:
            segment = max(fitting)
            return Plan(together, None if segment == steps else segment, needed(together, segment))
    least = min(needed(1, segment) for segment in range(1, steps + 1))
    raise ValueError(f"one sequence takes {least / 1e9:.3g} GB, more than {limit / 1e9:g} GB")


class SequenceObjective:
    """The loss of a network on the sequences of a training set, in parts that add up (app.training.minibatch).

    module: Network; data: TrainingSequences; parameters (n, p): of all sequences, as the network sees them; loss: Loss; curriculum; augmentation;
    plan; batch: items of an update; windows: a stretch of each sequence begins anywhere, else with its first frame.
    """

    def __init__(self, module, data, scaled, loss, curriculum, augmentation, plan, batch, seed=0, windows=False):
        self.module, self.data, self.scaled, self.function = module, data, scaled, loss
        self.curriculum, self.augmentation, self.plan = curriculum, augmentation, plan
        self.batch, self.seed, self.windows = int(batch), seed, windows
        self.items = data.items["training"]
        lengths = list(zip(data.shape, data.spacing))
        self.symmetries = symmetries(lengths, augmentation.rotations, augmentation.reflections)

    def shares(self, indices, size) -> list[np.ndarray]:
        """Sequences, by number, shared out over ranks."""
        return [np.asarray(indices)[rank::size] for rank in range(size)]

    def weights(self) -> list:
        """Of each parameter, True where it is a weight (that AdamW lets decay)."""
        masks = [torch.full((math.prod(s),), len(s) > 1) for s in self.module.shapes.values()]
        return [torch.cat(masks).to(self.module.theta.device)]

    def epoch(self, update: int) -> int:
        return update // -(-len(self.items) // self.batch)

    def loss(self, indices, update=0, share=0.0):
        """What sequences add to the mean loss of the whole set. Its gradient is found here, a few sequences at a time, so that only they
        are in memory."""
        theta, epoch = self.module.theta, self.epoch(update)
        value, gradient = theta.new_zeros(()), torch.zeros_like(theta)
        for first in range(0, len(indices), self.plan.together):
            truth, given, parameters = self._batch(indices[first : first + self.plan.together], epoch)
            predicted = self.module.roll_out(given, truth.shape[1] - 1, parameters, self.plan.segment)
            part = self.function.of(predicted, truth[:, 1:]).sum() / len(self.items)
            gradient += torch.autograd.grad(part, theta)[0]
            value += part.detach()
        return _Known.apply(theta, value, gradient)

    @torch.no_grad()
    def errors(self, items):
        """Of the closed loop from the first frame, one sequence after the other: yields (loss, truth (t, *n), prediction (t, *n))."""
        for item in items:
            truth = self._tensor(self.data.read(item))[None]
            parameters = self._parameters([item])
            predicted = self.module.roll_out(truth[:, :1], truth.shape[1] - 1, parameters)
            yield float(self.function.of(predicted, truth[:, 1:])), truth[0], torch.cat([truth[0, :1], predicted[0]])

    def _batch(self, items, epoch):
        """Truth (b, t, *n), what the network is given of it, parameters."""
        pieces, given, parameters = [], [], self._parameters(items)
        for k, item in enumerate(items):
            rng = philox_generator(self.seed, f"sequence {item}", epoch)
            begin = int(rng.integers(self.data.starts)) if self.windows else 0
            truth = turned(self.data.read(item, begin), *self.symmetries[rng.integers(len(self.symmetries))])
            truth = self._tensor(truth)
            if self.augmentation.exchange and rng.integers(2):
                truth = 1 - truth
                for column in self.augmentation.complements:
                    parameters[k, column] = self._complement(item, column)
            seen = truth[: self.curriculum(epoch)]
            if self.augmentation.noise:
                noise = rng.normal(0, self.augmentation.noise, seen.shape)
                noise -= noise.mean(axis=tuple(range(1, noise.ndim)), keepdims=True)
                seen = seen + self._tensor(noise)
            pieces.append(truth)
            given.append(seen)
        return torch.stack(pieces), torch.stack(given), parameters

    def _parameters(self, items):
        return self._tensor(self.scaled.of(self.data.parameters[items])) if self.data.parameters.shape[1] else None

    def _complement(self, item, column):
        values = self.data.parameters[[item]].copy()
        values[:, column] = 1 - values[:, column]
        return float(self.scaled.of(values)[0, column])

    def _tensor(self, array):
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.module.theta)


@dataclass(frozen=True)
class Scaling:
    """Parameters (n, p) to what the network sees: less their mean, over their standard deviation, both of the training set."""

    offset: np.ndarray
    scale: np.ndarray

    def of(self, values):
        return (values - self.offset) / self.scale


class _Known(torch.autograd.Function):
    """A value of parameters whose gradient is known already."""

    @staticmethod
    def forward(context, theta, value, gradient):
        context.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(context, slope):
        return slope * context.saved_tensors[0], None, None
