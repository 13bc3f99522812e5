"""The end of a run."""


def leave_report(world, directory) -> None:
    """The report page of a run directory, by rank 0; a report that fails does not fail the run."""
    if world.root:
        from ostwald.app.report import write_report

        try:
            world.log(f"report     {write_report(directory.path)}")
        except (OSError, ValueError, ImportError) as error:
            world.log.warning(f"no report was written: {error}")
