"""The science and the jobs."""

import time

STARTED = time.monotonic()
"""When this process began, near enough: what a limit of the wall time counts from."""
