"""Training in small batches: Adam and AdamW on the gradients that all ranks add up.

D. P. Kingma, J. Ba, ICLR 2015; I. Loshchilov, F. Hutter, ICLR 2019 (decay apart from the gradient, of weights, not of biases).
An epoch takes the items in a random order of its own, the same on any number of ranks; each batch is shared out over the ranks,
even in cost, and its loss is the sum over items, scaled to the size of the training set.
"""

from __future__ import annotations

import math

import torch

from ostwald.parallel import philox_generator

from .trainer import Trainer, fill, vector


class Minibatch(Trainer):
    """objective: what is made small, with `module`, `items` (m,), `shares(indices, size)`, `weights()` and
    `loss(indices, update, share)`, as objective.PotentialObjective has them: the losses of all items add up to the training set's.

    exchange: parallel.training.Exchange; rate: of schedules; batch: items of all ranks in an update. decay: of AdamW (0: Adam);
    clip: largest norm of the gradient, None: any; average: None, or how much of the moving average of the parameters stays in
    each update.
    """

    look_every = 10

    def __init__(
        self,
        world,
        objective,
        exchange,
        rate,
        batch,
        seed=0,
        decay=0.0,
        clip=None,
        average=None,
        epsilon=1e-8,
    ):
        super().__init__(objective.module)
        self.world, self.objective, self.batch, self.seed = world, objective, int(batch), seed
        self.exchange, self.rate = exchange, rate
        self.decay, self.clip, self.average = decay, clip, average
        self.parameters = list(self.module.parameters())
        adam = torch.optim.Adam(self.parameters, lr=rate(0), eps=epsilon)
        self.masks = objective.weights() if decay else None
        exchange.attach(adam, dict(self.module.named_parameters()))
        self.smooth = [p.detach().clone() for p in self.parameters] if average is not None else None

    @property
    def per_epoch(self) -> int:
        """Updates of an epoch; the last one has what is left."""
        return -(-len(self.objective.items) // self.batch)

    @property
    def pace(self) -> float:
        return self.rate(max(self.updates - 1, 0))

    @property
    def best_theta(self):
        """The parameters to be used: the moving average, where there is one."""
        return self.theta if self.smooth is None else vector(self.smooth)

    def step(self) -> bool:
        """One update; True."""
        world, rate = self.world, self.rate(self.updates)
        indices = self._batch()
        mine = self.objective.shares(indices, world.size)[world.rank]
        with world.timers("gradient"):
            for p in self.parameters:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad.zero_()
            value = self._gradient(mine, len(indices), self.rate.share(self.updates))
        with world.timers("communication"):
            self.exchange.reduce()
            self.value = world.allreduce(value)
        with world.timers("optimiser"), torch.no_grad():
            self._clip()
            for k, p in enumerate(self.parameters if self.decay else ()):
                p -= rate * self.decay * self.masks[k] * p
            for group in self.exchange.optimiser.param_groups:
                group["lr"] = rate
            self.exchange.step()
            if self.smooth is not None:
                # at first the average is over what there is
                keep = min(self.average, (self.updates + 1) / (self.updates + 10))
                for mean, p in zip(self.smooth, self.parameters):
                    mean.lerp_(p, 1 - keep)
        self.updates += 1
        return True

    def validated(self, found):
        self.rate.validated(found)

    def _batch(self):
        """Numbers of the items of the next update."""
        epoch, place = divmod(self.updates, self.per_epoch)
        items = self.objective.items
        order = philox_generator(self.seed, "batches", epoch).permutation(len(items))
        return items[order[place * self.batch : (place + 1) * self.batch]]

    def _gradient(self, mine, size, share) -> float:
        """Adds the gradient of this rank's share of a batch of `size` items to the parameters'; returns its loss."""
        if not len(mine):
            sum(p.sum() * 0.0 for p in self.parameters).backward()  # Horovod waits for the backward pass of every rank
            return 0.0
        value = len(self.objective.items) / size * self.objective.loss(mine, self.updates, share)
        value.backward()
        return float(value.detach())

    def _clip(self):
        if self.clip is not None:
            norm = math.sqrt(sum(float(p.grad.square().sum()) for p in self.parameters))
            for p in self.parameters:
                p.grad *= min(1.0, self.clip / max(norm, 1e-300))

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> dict:
        """Arrays and numbers, the same on every rank."""
        state, found = self.exchange.optimiser.state, {"updates": self.updates} | self.rate.state()
        for name in ("exp_avg", "exp_avg_sq"):
            found[name] = vector(state[p][name] if p in state else torch.zeros_like(p) for p in self.parameters)
        if self.smooth is not None:
            found["average"] = vector(self.smooth)
        return found

    def restore(self, state):
        self.updates = int(state["updates"])
        self.rate.restore(state)
        optimiser = self.exchange.optimiser
        for p in self.parameters:
            step = torch.tensor(float(self.updates))
            optimiser.state[p] = {"step": step, "exp_avg": torch.empty_like(p), "exp_avg_sq": torch.empty_like(p)}
        for name in ("exp_avg", "exp_avg_sq"):
            fill([optimiser.state[p][name] for p in self.parameters], state[name])
        if self.smooth is not None:
            fill(self.smooth, state["average"])
