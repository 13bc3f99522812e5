"""The device that a training computes on."""

from __future__ import annotations

import torch


def usable(name: str, world) -> torch.device:
    """The torch device of this rank: cpu, cuda:1, …; "cuda" gives the ranks of a node its GPUs in turn.

    ValueError, one sentence, where it cannot be used here.
    """
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None and (count := torch.cuda.device_count()):
            device = torch.device("cuda", world.node_rank % count)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"'{name}' cannot be used: {str(error).splitlines()[0]}") from None
    return device
