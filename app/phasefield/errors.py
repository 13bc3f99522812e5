"""What ends a run: all ranks find it together."""


class Diverged(RuntimeError):
    """The field is no longer finite."""

    collective = True


class TooLong(Diverged):
    """A step has no solution that can be found: it is too long. The field is as it was."""


class NoEquilibrium(Diverged):
    """Elastic equilibrium is not found, or the moduli are not positive definite somewhere."""
