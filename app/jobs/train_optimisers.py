"""The optimiser in small batches that a run file's table [optimiser] asks for."""

from __future__ import annotations

from ostwald.app.training.minibatch import Minibatch
from ostwald.app.training.schedules import Plateau, Rate
from ostwald.parallel.training import exchange


def minibatch(world, objective, table: dict, seed: int) -> Minibatch:
    """Adam or AdamW on an objective. Collective; its `exchange` is to be closed at the end."""
    per_epoch = -(-len(objective.items) // table["batch"])
    if table["schedule"] == "plateau":
        rate = Plateau(table["rate"], table["final_rate"], table["drop"], table["wait"], table["warmup"])
    else:
        period = table["period"] and table["period"] * per_epoch
        updates = table["epochs"] * per_epoch
        rate = Rate(table["schedule"], table["rate"], table["final_rate"], updates, period, table["warmup"])
    return Minibatch(
        world,
        objective,
        exchange(table["communication"], world, table["compression"]),
        rate,
        table["batch"],
        seed=seed,
        decay=table["decay"] or 0.0,
        clip=table["clip"],
        average=table["average"],
    )
