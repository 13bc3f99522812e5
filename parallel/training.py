"""Data-parallel training: gradients of all ranks added up, through MPI, Horovod or torch.distributed.

Each rank computes the gradient of its share of a batch; losses are sums, so that the sum of the gradients is that of the whole batch,
on any number of ranks.
"""

from __future__ import annotations

import socket

import numpy as np

from ostwald.parallel.world import CollectiveError, World

BACKENDS = ("mpi", "horovod", "torch")
"""mpi: the run's own communicator; horovod: DistributedOptimizer over MPI; torch: torch.distributed with gloo."""
COMPRESSIONS = ("none", "half")
"""half: gradients travel as 16-bit floats (Horovod only)."""


def require(backend: str, world: World, compression: str = "none") -> None:
    """Collective: CollectiveError where a rank lacks what a backend needs."""
    if compression != "none" and backend != "horovod":
        raise CollectiveError(f"compression of gradients is Horovod's: not with {backend}")
    _try(backend, world, _kinds()[backend].look)


def exchange(backend: str, world: World, compression: str = "none") -> Exchange:
    """The Exchange of a backend. Collective. CollectiveError where it is missing, broken, or not on the ranks of the world."""
    require(backend, world, compression)  # all ranks have it before one waits for the others in it
    return _try(backend, world, lambda: _kinds()[backend](world, compression))


def _kinds():
    return {"mpi": Exchange, "horovod": _Horovod, "torch": _Torch}


def _try(backend, world, act):
    made = error = None
    try:
        made = act()
    except Exception as caught:
        error = CollectiveError(f"{backend} was asked for, but cannot be used here: {caught or type(caught).__name__}")
    world.agree(error)
    return made


class Exchange:
    """Over MPI. In each update, after the backward pass: `reduce`, then `step`."""

    name = "mpi"

    def __init__(self, world: World, compression="none"):
        self.world, self.optimiser = world, None

    @staticmethod
    def look():
        """Raises where this rank lacks what the backend needs."""

    def attach(self, optimiser, parameters: dict):
        """Collective, once: the torch optimiser of named parameters, which become rank 0's everywhere."""
        self.optimiser, self.parameters = optimiser, parameters
        self.share(parameters.values())

    def share(self, tensors):
        """Rank 0's values of tensors, on every rank."""
        import torch

        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(
                    torch.as_tensor(self.world.bcast(tensor.detach().cpu().numpy() if self.world.root else None))
                )

    def reduce(self):
        """Collective: the gradients of all ranks added up, on each."""
        import torch

        for tensor in self.parameters.values():
            total = self.world.allreduce(tensor.grad.detach().cpu().numpy())
            tensor.grad.copy_(torch.as_tensor(total))

    def step(self):
        """One step of the optimiser with the gradients that `reduce` left."""
        self.optimiser.step()

    def close(self):
        """Ends what was started."""


class _Horovod(Exchange):
    name = "horovod"

    @staticmethod
    def look():
        import horovod.torch as hvd

        if not hvd.mpi_built():
            raise RuntimeError("this Horovod was built without MPI")

    def __init__(self, world, compression):
        super().__init__(world)
        import horovod.torch as hvd

        self._hvd = hvd
        hvd.init(comm=world.comm)
        if hvd.size() != world.size or hvd.rank() != world.rank:
            raise RuntimeError(
                f"Horovod is rank {hvd.rank()} of {hvd.size()}, the run's rank is {world.rank} of {world.size}"
            )
        self._compression = hvd.Compression.fp16 if compression == "half" else hvd.Compression.none

    def attach(self, optimiser, parameters):
        hvd = self._hvd
        self.parameters = parameters
        hvd.broadcast_parameters({name: tensor.data for name, tensor in parameters.items()}, root_rank=0)
        self.optimiser = hvd.DistributedOptimizer(
            optimiser, named_parameters=list(parameters.items()), compression=self._compression, op=hvd.Sum
        )

    def reduce(self):
        self.optimiser.synchronize()

    def step(self):
        with self.optimiser.skip_synchronize():
            self.optimiser.step()

    def close(self):
        self._hvd.shutdown()


class _Torch(Exchange):
    name = "torch"

    @staticmethod
    def look():
        import torch.distributed as distributed

        if not distributed.is_available() or not distributed.is_gloo_available():
            raise RuntimeError("this torch was built without torch.distributed and gloo")

    def __init__(self, world, compression):
        super().__init__(world)
        import torch.distributed as distributed

        self._distributed = distributed
        hosts, store, place, error = world.allgather(world.hostname), None, None, RuntimeError("rank 0 cannot listen")
        if world.root:
            try:
                host = _address(world.hostname, hosts)
                store = distributed.TCPStore(host, 0, world.size, True, wait_for_workers=False)  # on a free port
                place = host, store.port
            except (OSError, RuntimeError) as caught:
                error = caught
        place = world.bcast(place)
        if place is None:
            raise error
        if not world.root:
            store = distributed.TCPStore(*place, world.size, False, wait_for_workers=False)
        distributed.init_process_group("gloo", store=store, rank=world.rank, world_size=world.size)

    def share(self, tensors):
        for tensor in tensors:
            self._distributed.broadcast(tensor.data, 0)

    def reduce(self):
        for tensor in self.parameters.values():
            self._distributed.all_reduce(tensor.grad)

    def close(self):
        self._distributed.destroy_process_group()


def _address(own: str, hosts) -> str:
    """The address under which the other hosts reach this one: that of the interface on the way to one of them. The own name often
    stands for the loopback."""
    others = [host for host in hosts if host != own]
    if not others:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((others[0], 9))  # nothing is sent
        return probe.getsockname()[0]


def shares(costs, size: int) -> list[np.ndarray]:
    """Items shared out over ranks so that costs are even: the dearest first, each to the rank that has least so far.

    costs (n,) > 0; by rank the numbers of its items, ascending. The same everywhere, without communication.
    """
    load, mine = np.zeros(size), [[] for _ in range(size)]
    for item in np.argsort(-np.asarray(costs, float), kind="stable"):
        rank = int(np.argmin(load))
        load[rank] += costs[item]
        mine[rank].append(int(item))
    return [np.sort(np.array(items, np.int64)) for items in mine]
