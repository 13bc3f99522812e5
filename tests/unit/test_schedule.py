"""When frames and analyses are due: by steps, times, equal distances and equal ratios, also across a restart."""

import math

import pytest

from ostwald.app.jobs.schedule import Schedule

NOTHING = dict(every=0, interval=None, times=None, first=None, per_decade=None)


def found(table, dt, steps, restart=None):
    """The steps at which one is due."""
    schedule, due = Schedule(table), []
    for step in range(steps + 1):
        if step == restart:  # as a checkpoint does: what was known before the state was looked at
            schedule = Schedule(table, schedule.last)
        if schedule.due(step, step * dt):
            due.append(step)
    return due


@pytest.mark.parametrize(
    "table, wanted",
    [
        (dict(every=4), [0, 4, 8, 12, 16, 20]),
        (dict(interval=0.5), [0, 5, 10, 15, 20]),
        (dict(times=[0.1, 0.25, 0.26, 1.9, 7.0]), [0, 1, 3, 19]),
        (dict(first=0.1, per_decade=2), [0, 1, 4, 10]),
        (dict(every=7, times=[1.2]), [0, 7, 12, 14]),
        ({}, []),
    ],
)
def test_steps_at_which_one_is_due(table, wanted):
    table = NOTHING | table
    for restart in (None, *range(21)):
        assert found(table, 0.1, 20, restart) == wanted
    more = 0.25 in (table["times"] or [])  # steps are too long to tell it from 0.26
    assert Schedule(table).count(20, 2.0) == len(wanted) + (wanted != [] and 20 not in wanted) + more


def test_a_step_that_ends_at_each_time_meets_all_once():
    schedule = Schedule(NOTHING | dict(interval=0.7, times=[3.3, 1000 / 3], first=1e-3, per_decade=3))
    now, met, due = 0.0, [], []
    for step in range(2000):
        if schedule.due(step, now):
            due.append(now)
        coming = schedule.next_time(now)
        assert coming > now
        if coming > 400:
            break
        if coming - now <= 0.5:
            now = now + (coming - now)  # with rounding
            met.append(now)
        else:
            now += 0.5
    assert due == [0.0, *met]
    powers = [1e-3 * 10 ** (k / 3) for k in range(17)]
    wanted = sorted([0.7 * k for k in range(1, 572)] + [3.3, 1000 / 3] + [t for t in powers if t <= 400])
    assert len(met) == len(wanted) and met == pytest.approx(wanted, rel=1e-12)
    assert Schedule(NOTHING).next_time(1.0) == math.inf
