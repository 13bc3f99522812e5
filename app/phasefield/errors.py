"""What ends a run: all ranks find it together."""


class Diverged(RuntimeError):
    """The field is no longer finite."""

    collective = True


class NoEquilibrium(Diverged):
    """Elastic equilibrium is not found, or the moduli are not positive definite somewhere."""
