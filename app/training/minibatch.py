"""Training in small batches: Adam and AdamW on the gradients that all ranks add up.

D. P. Kingma, J. Ba, ICLR 2015; I. Loshchilov, F. Hutter, ICLR 2019 (decay apart from the gradient, of weights, not of biases).
An epoch takes the structures in a random order of its own, the same on any number of ranks; each batch is shared out over the ranks,
even in cost, and its loss is the sum over structures, scaled to the size of the training set.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ostwald.parallel import philox_generator

from .loss import Loss


class Minibatch:
    """network: Network; data: Described; chosen (m,): numbers of the training set's structures in it; loss: Loss of that set.

    exchange: parallel.training.Exchange; rate: schedules.Rate; batch: structures of all ranks in an update. decay: of AdamW (0: Adam);
    clip: largest norm of the gradient, None: any; average: None, or how much of the moving average of the parameters stays in
    each update; prefactors: None, or (energy, force, stress) at the beginning, from which those of the loss are approached as the learning
    rate falls: p = p_end (1 - rate / start) + p_begin rate / start (L. Zhang et al., PRL 120, 143001, 2018).

    updates: done so far. `step()` is one update. seconds and structures: for throughput.
    """

    def __init__(
        self,
        world,
        network,
        data,
        chosen,
        loss,
        exchange,
        rate,
        batch,
        seed=0,
        decay=0.0,
        clip=None,
        average=None,
        prefactors=None,
        epsilon=1e-8,
    ):
        self.world, self.network, self.data, self.loss = world, network, data, loss
        self.chosen, self.batch, self.seed = np.asarray(chosen, np.int64), int(batch), seed
        self.exchange, self.rate = exchange, rate
        self.decay, self.clip, self.average, self.prefactors = decay, clip, average, prefactors
        self.updates, self.value = 0, math.nan
        self.adam = torch.optim.Adam([network.theta], lr=rate(0), eps=epsilon)
        self.mask = network.weights_mask() if decay else None
        self.smooth = network.theta.detach().clone() if average is not None else None
        exchange.attach(self.adam, {"theta": network.theta})

    @property
    def per_epoch(self) -> int:
        """Updates of an epoch; the last one has what is left."""
        return -(-len(self.chosen) // self.batch)

    pace_name = "rate"

    @property
    def pace(self) -> float:
        return self.rate(max(self.updates - 1, 0))

    @property
    def best_theta(self):
        """The parameters to be used: the moving average, where there is one."""
        return self.network.theta.detach() if self.smooth is None else self.smooth

    def step(self) -> bool:
        """One update; True."""
        world, rate = self.world, self.rate(self.updates)
        indices = self._batch()
        mine = self.data.shares(indices, world.size)[world.rank]
        with world.timers("gradient"):
            self.adam.zero_grad(set_to_none=False)
            value = self._gradient(mine, len(indices), self._loss(rate))
        with world.timers("communication"):
            self.exchange.reduce()
            self.value = world.allreduce(value)
        with world.timers("optimiser"), torch.no_grad():
            theta = self.network.theta
            if self.clip is not None:
                theta.grad *= min(1.0, self.clip / max(float(theta.grad.norm()), 1e-300))
            if self.decay:
                theta -= rate * self.decay * self.mask * theta
            for group in self.exchange.optimiser.param_groups:
                group["lr"] = rate
            self.exchange.step()
            if self.smooth is not None:
                # at first the average is over what there is
                keep = min(self.average, (self.updates + 1) / (self.updates + 10))
                self.smooth.lerp_(theta, 1 - keep)
        self.updates += 1
        return True

    def _batch(self):
        """Numbers of the structures of the next update."""
        epoch, place = divmod(self.updates, self.per_epoch)
        order = philox_generator(self.seed, "batches", epoch).permutation(len(self.chosen))
        return self.chosen[order[place * self.batch : (place + 1) * self.batch]]

    def _loss(self, rate) -> Loss:
        if self.prefactors is None:
            return self.loss
        share, end = rate / self.rate.start, self.loss
        mixed = [b * share + e * (1 - share) for b, e in zip(self.prefactors, (end.energy, end.force, end.stress))]
        return Loss(*mixed, end.counts)

    def _gradient(self, mine, size, loss) -> float:
        """Adds the gradient of this rank's share of a batch of `size` structures to theta.grad; returns its loss."""
        network, scale = self.network, len(self.chosen) / size
        if network.theta.grad is None:
            network.theta.grad = torch.zeros_like(network.theta)
        if not len(mine):
            (network.theta.sum() * 0.0).backward()  # Horovod waits for the backward pass of every rank
            return 0.0
        batch, labels = self.data.batch(mine, network.theta.dtype, network.theta.device)
        outputs = network.evaluate(batch, loss.forces_wanted, loss.stress_wanted)
        value = scale * sum(r.square().sum() for r in loss.residuals(outputs, batch, labels))
        value.backward()
        return float(value.detach())

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict:
        """Arrays and numbers, the same on every rank."""
        mine = self.exchange.optimiser.state.get(self.network.theta, {})
        found = {"updates": self.updates}
        for name in ("exp_avg", "exp_avg_sq"):
            found[name] = (mine[name] if mine else torch.zeros_like(self.network.theta)).cpu().numpy().copy()
        if self.smooth is not None:
            found["average"] = self.smooth.cpu().numpy().copy()
        return found

    def restore(self, state):
        theta = self.network.theta
        self.updates = int(state["updates"])
        optimiser = self.exchange.optimiser
        moments = {name: torch.tensor(state[name]).to(theta) for name in ("exp_avg", "exp_avg_sq")}
        optimiser.state[theta] = {"step": torch.tensor(float(self.updates)), **moments}
        if self.smooth is not None:
            self.smooth.copy_(torch.as_tensor(state["average"]))
