"""High-dimensional neural-network potentials in torch: for training, on any device.

Energies, forces and stress of structures whose symmetry functions and derivatives are given (descriptors.py), and their
derivatives by the parameters: by autograd, or in full (`jacobian`). With x_0 = factor (G - shift), a_l = W_l x_(l-1) + b_l,
x_l = phi_l(a_l), energy o = x_L, a tangent t of x_0 gives a tangent of o along t; with dots for tangents

    delta_L = phi'_L                    delta_(l-1) = phi'_(l-1) W_l^T delta_l
    gamma_L = phi''_L a._L              gamma_(l-1) = phi'_(l-1) W_l^T gamma_l + phi''_(l-1) a._(l-1) W_l^T delta_l

    do/dW_l  = delta_l (x) x_(l-1)      do./dW_l = delta_l (x) x._(l-1) + gamma_l (x) x_(l-1)        do./db_l = gamma_l

A component of a force is the sum of do. over the centres that see the atom, with t = factor dG/dx; likewise stress.
"""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ostwald.app.kernels import _hdnnp_jacobian

from .model import Layer, Model


@dataclass
class Centres:
    """The centres of one element in a batch of b structures with n atoms: tensors, as in descriptors.Part.

    structure (r,) of each centre; values (r, f); strain (r, 6, f); counts (n,), atoms (m,), centres (m,): of each row of
    derivatives (m, 3, f) the atom and the centre.
    """

    structure: Tensor
    values: Tensor
    strain: Tensor
    counts: Tensor
    atoms: Tensor
    centres: Tensor
    derivatives: Tensor


@dataclass
class Batch:
    """Structures one behind the other. offsets (b+1,) of their atoms; volume (b,) Å³; elements: by element, Centres."""

    offsets: Tensor
    volume: Tensor
    elements: list[Centres]

    def __len__(self):
        return len(self.volume)

    @property
    def atoms(self) -> int:
        return len(self.elements[0].counts)


@dataclass
class Outputs:
    """energy (b,) eV; forces (n, 3) eV/Å; stress (b, 6) eV/Å³, in ASE's sign and order; None where not asked for."""

    energy: Tensor
    forces: Tensor | None = None
    stress: Tensor | None = None


@dataclass
class Jacobian:
    """Derivatives of Outputs by the parameters: energy (b, p), forces (n, 3, p), stress (b, 6, p), which are parts of rows, one
    behind the other."""

    rows: Tensor
    energy: Tensor
    forces: Tensor
    stress: Tensor | None


def _logistic(x):
    s = torch.sigmoid(x)
    d = s * (1 - s)
    return s, d, d * (1 - 2 * s)


def _tanh(x):
    f = torch.tanh(x)
    d = 1 - f * f
    return f, d, -2 * f * d


def _softplus(x):
    s, d, _ = _logistic(x)
    return torch.nn.functional.softplus(x, threshold=40), s, d


def _gaussian(x):
    f = torch.exp(-0.5 * x * x)
    return f, -x * f, (x * x - 1) * f


def _exponential(x):
    f = torch.exp(-x)
    return f, -f, f


ACTIVATION = {
    "linear": lambda x: (x, torch.ones_like(x), torch.zeros_like(x)),
    "tanh": _tanh,
    "logistic": _logistic,
    "softplus": _softplus,
    "relu": lambda x: (torch.relu(x), (x > 0).to(x.dtype), torch.zeros_like(x)),
    "gaussian": _gaussian,
    "cos": lambda x: (torch.cos(x), -torch.sin(x), -torch.cos(x)),
    "revlogistic": lambda x: (lambda f, d, dd: (1 - f, -d, -dd))(*_logistic(x)),
    "exp": _exponential,
    "harmonic": lambda x: (x * x, 2 * x, torch.full_like(x, 2.0)),
}
"""Name -> function of x: its value, first and second derivative."""


class _Pulls(torch.autograd.Function):
    """(n, 3) unit times the sums, over the centres that see each atom, of derivatives (3, f) times rows (f) of the centre."""

    @staticmethod
    def forward(rows, part, unit):
        if rows.device.type == "cpu":
            out = rows.new_zeros(len(part.counts), 3)
            arrays = (part.counts, part.centres, part.derivatives, rows.detach().contiguous(), out)
            _hdnnp_jacobian.pulls(*(array.numpy() for array in arrays), unit, torch.get_num_threads())
            return out
        each = torch.bmm(part.derivatives, rows[part.centres].unsqueeze(-1)).squeeze(-1)
        return rows.new_zeros(len(part.counts), 3).index_add_(0, part.atoms, each, alpha=unit)

    @staticmethod
    def setup_context(context, inputs, _):
        rows, context.part, context.unit = inputs
        context.like = rows.shape

    @staticmethod
    def backward(context, vectors):
        part, out = context.part, vectors.new_zeros(context.like)
        if vectors.device.type == "cpu":
            arrays = (part.counts, part.centres, part.derivatives, vectors.contiguous(), out)
            _hdnnp_jacobian.pushes(*(array.numpy() for array in arrays), context.unit)
        else:
            each = torch.bmm(vectors[part.atoms].unsqueeze(1), part.derivatives).squeeze(1)
            out.index_add_(0, part.centres, each, alpha=context.unit)
        return out, None, None


class Network(torch.nn.Module):
    """The networks of a Model.

    theta (p,): all parameters: by element (atomic number), by layer the weights (n_out, n_in) row by row, then the bias, as
    `Model.network` has them. dtype: of arithmetic. layout: by element and layer (begin, n_out, n_in, activation).
    """

    def __init__(self, model: Model, dtype=torch.float64, device="cpu"):
        super().__init__()
        model.check()
        self.model = model
        self.layout, self._linear, parts, begin = [], [], [], 0
        for element in model.elements:
            layers = []
            for layer in model.network(element):
                outputs, inputs = layer.weights.shape
                layers.append((begin, outputs, inputs, layer.activation))
                parts += [layer.weights.ravel(), layer.bias]
                begin += outputs * (inputs + 1)
            self.layout.append(layers)
        self.theta = torch.nn.Parameter(torch.tensor(np.concatenate(parts), dtype=dtype, device=device))
        for k, element in enumerate(model.elements):
            factor, shift = model.scale_and_shift(element)
            self.register_buffer(f"factor{k}", torch.tensor(factor, dtype=dtype, device=device))
            self.register_buffer(f"shift{k}", torch.tensor(shift, dtype=dtype, device=device))

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.theta.numel()

    def weights_mask(self) -> Tensor:
        """(p,) bool: True for weights, False for biases."""
        mask = torch.zeros(self.size, dtype=torch.bool, device=self.theta.device)
        for layers in self.layout:
            for begin, outputs, inputs, _ in layers:
                mask[begin : begin + outputs * inputs] = True
        return mask

    def export(self, theta=None) -> Model:
        """The Model with these parameters (default: the present ones)."""
        values = (self.theta if theta is None else theta).detach().to("cpu", torch.float64).numpy()
        elements = []
        for element, layers in zip(self.model.elements, self.layout):
            made = []
            for begin, outputs, inputs, activation in layers:
                end = begin + outputs * inputs
                made.append(
                    Layer(
                        values[begin:end].reshape(outputs, inputs).copy(),
                        values[end : end + outputs].copy(),
                        activation,
                    )
                )
            elements.append(replace(element, layers=made))
        return replace(deepcopy(self.model), elements=elements, normalize_nodes=False)

    def evaluate(self, batch: Batch, forces=True, stress=True) -> Outputs:
        """Energy, and where asked for forces and stress; differentiable by theta."""
        unit = self.model.network_energy
        energy = self.theta.new_zeros(len(batch))
        force = self.theta.new_zeros(batch.atoms, 3) if forces else None
        strain = self.theta.new_zeros(len(batch), 6) if stress else None
        for k, part in enumerate(batch.elements):
            value, slope = self._forward(k, part.values, forces or stress)
            energy = energy.index_add(0, part.structure, unit * value + self.model.atom_energy(self.model.elements[k]))
            if forces:
                force = force + _Pulls.apply(slope, part, -unit)
            if stress:
                strain = strain.index_add(
                    0, part.structure, torch.bmm(part.strain, slope.unsqueeze(-1)).squeeze(-1), alpha=unit
                )
        return Outputs(energy, force, strain / batch.volume[:, None] if stress else None)

    def _layers(self, k):
        """Weights, bias and activation of each layer of an element."""
        for begin, outputs, inputs, activation in self.layout[k]:
            end = begin + outputs * inputs
            yield self.theta[begin:end].view(outputs, inputs), self.theta[end : end + outputs], ACTIVATION[activation]

    def _forward(self, k, values, slopes=True):
        """(r,) output of the network of element k and (r, f) its derivative by the symmetry functions."""
        factor, shift = getattr(self, f"factor{k}"), getattr(self, f"shift{k}")
        x, weights, derivatives = factor * (values - shift), [], []
        for weight, bias, activation in self._layers(k):
            x, d, _ = activation(torch.addmm(bias, x, weight.T))
            weights.append(weight)
            derivatives.append(d)
        if not slopes:
            return x[:, 0], None
        delta = derivatives[-1]
        for weight, d in zip(weights[:0:-1], derivatives[-2::-1]):
            delta = (delta @ weight) * d
        return x[:, 0], (delta @ weights[0]) * factor

    @torch.no_grad()
    def jacobian(self, batch: Batch, chosen: Tensor | None = None, stress=True) -> tuple[Outputs, Jacobian]:
        """Outputs and all their derivatives; of forces those of chosen atoms (n,) bool, beside which no atom may have derivatives
        in the batch. Takes 8 (7 b + 3 n) p bytes in double precision, and some times that of derivatives."""
        unit, b, p = self.model.network_energy, len(batch), self.size
        n = batch.atoms if chosen is None else int(chosen.sum())
        new = self.theta.new_zeros
        out = Outputs(new(b), new(n, 3), new(b, 6) if stress else None)
        rows = new(b + 3 * n + (6 * b if stress else 0), p)
        split = b, b + 3 * n
        jacobian = Jacobian(rows, rows[:b], rows[split[0] : split[1]].view(n, 3, p), None)
        if stress:
            jacobian.stress = rows[split[1] :].view(b, 6, p)
        for k, part in enumerate(batch.elements):
            state = _State(self, k, part.values)
            out.energy.index_add_(
                0, part.structure, unit * state.output + self.model.atom_energy(self.model.elements[k])
            )
            counts = torch.bincount(part.structure, minlength=b)
            state.energies(counts, jacobian.energy, unit)
            seen = part.counts if chosen is None else part.counts[chosen]
            state.tangents(seen, part.centres, part.derivatives, out.forces, jacobian.forces, -unit)
            if stress:
                each = torch.arange(len(part.structure), device=counts.device)
                state.tangents(counts, each, part.strain, out.stress, jacobian.stress, unit)
        if stress:
            out.stress /= batch.volume[:, None]
            jacobian.stress /= batch.volume[:, None, None]
        return out, jacobian


class _State:
    """The network of an element at its centres: the x_l and delta_l (r, n_l), and what tangents need."""

    def __init__(self, network, k, values):
        self.begins = [begin for begin, *_ in network.layout[k]]
        self.factor = getattr(network, f"factor{k}")
        self.x = [self.factor * (values - getattr(network, f"shift{k}"))]
        self.weights, self.first, self.second = [], [], []
        for weight, bias, activation in network._layers(k):
            x, first, second = activation(torch.addmm(bias, self.x[-1], weight.T))
            self.weights.append(weight)
            self.x.append(x)
            self.first.append(first)
            self.second.append(second)
        self.output = self.x[-1][:, 0]
        self.deltas, self.backs = [self.first[-1]], [None]  # backs: W_(l+1)^T delta_(l+1), none at the end
        for weight, first in zip(self.weights[:0:-1], self.first[-2::-1]):
            self.backs.insert(0, self.deltas[0] @ weight)
            self.deltas.insert(0, self.backs[0] * first)

    def columns(self, layer):
        """The parameters of a layer: its weights, its bias."""
        begin, (outputs, inputs) = self.begins[layer], self.weights[layer].shape
        end = begin + outputs * inputs
        return slice(begin, end), slice(end, end + outputs)

    def energies(self, counts, out, unit):
        """Adds d(sum of energies)/dtheta to rows of out (b, p). counts (b,): centres of each structure."""
        for layer, delta in enumerate(self.deltas):
            weights, bias = self.columns(layer)
            begin = 0
            for row, count in zip(out, counts.tolist()):
                mine = slice(begin, begin + count)
                row[weights].add_((delta[mine].T @ self.x[layer][mine]).flatten(), alpha=unit)
                row[bias].add_(delta[mine].sum(0), alpha=unit)
                begin += count

    def tangents(self, counts, centres, tangents, values, out, unit):
        """Adds sums over centres of the tangents of their energies along each of a tangents, and their derivatives.

        counts (d,): how many rows of centres (m,) and tangents (m, a, f) belong to each sum; values (d, a); out (d, a, p).
        On the CPU a kernel does it, with torch's number of threads; elsewhere torch.
        """
        if not len(centres):
            return
        if values.device.type == "cpu":
            self._native_tangents(counts, centres, tangents, values, out, unit)
        else:
            self.torch_tangents(counts, centres, tangents, values, out, unit)

    def _native_tangents(self, counts, centres, tangents, values, out, unit):
        layers = []
        for layer, weight in enumerate(self.weights):
            back = self.backs[layer]
            second = self.second[layer] if back is None else self.second[layer] * back
            arrays = (weight, self.x[layer], self.deltas[layer], self.first[layer], second)
            layers.append((*(array.contiguous().numpy() for array in arrays), self.begins[layer]))
        given = (array.numpy() for array in (counts, centres, tangents.contiguous(), self.factor))
        _hdnnp_jacobian.tangents(*given, layers, values.numpy(), out.numpy(), unit, torch.get_num_threads())

    def torch_tangents(self, counts, centres, tangents, values, out, unit):
        d, a, f = len(counts), tangents.shape[1], tangents.shape[2]
        most = int(counts.max())
        # every sum gets room for as many centres; those that it lacks have a tangent of zero, and then nothing else counts
        place = torch.arange(d, device=counts.device).repeat_interleave(counts) * most
        place += torch.arange(len(centres), device=counts.device)
        place -= (counts.cumsum(0) - counts).repeat_interleave(counts)
        at = centres.new_zeros(d * most)
        at[place] = centres
        t = tangents.new_zeros(d * most, a, f)
        t[place] = tangents
        t = (t * self.factor).view(d, most, a, f)

        tx, ta = [t], []
        for weight, first in zip(self.weights, self.first):
            ta.append(tx[-1] @ weight.T)
            tx.append(ta[-1] * first[at].view(d, most, 1, -1))
        values += unit * tx[-1].sum((1, 3))
        gamma = self.second[-1][at].view(d, most, 1, -1) * ta[-1]
        for layer in range(len(self.weights) - 1, -1, -1):
            weights, bias = self.columns(layer)
            outputs, inputs = self.weights[layer].shape
            delta = self.deltas[layer][at].view(d, most, outputs)
            x = self.x[layer][at].view(d, most, inputs)
            # (d, outputs, a, inputs) and (d, a, outputs, inputs)
            one = torch.bmm(delta.mT, tx[layer].reshape(d, most, a * inputs)).view(d, outputs, a, inputs)
            two = torch.bmm(gamma.reshape(d, most, a * outputs).mT, x).view(d, a, outputs, inputs)
            two += one.transpose(1, 2)
            out[:, :, weights].add_(two.flatten(2), alpha=unit)
            out[:, :, bias].add_(gamma.sum(1), alpha=unit)
            if layer:
                before = layer - 1
                second = (self.second[before] * self.backs[before])[at].view(d, most, 1, -1)
                gamma = (gamma @ self.weights[layer]) * self.first[before][at].view(d, most, 1, -1) + second * ta[
                    before
                ]
