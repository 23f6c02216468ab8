"""How a verb fails: one line that says why, one that says what to try, and an exit code."""

import click


class Failed(Exception):
    """The verb failed: one line that says why, one that says what to try, and the exit code."""

    def __init__(
        self, message: str, *, hint: str = "", exit_code: int = 1, details: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code
        self.details = details

    def show(self) -> None:
        """Print the failure to stderr."""
        click.echo(f"error: {self}", err=True)
        for detail in self.details:
            click.echo(f"  {detail}", err=True)
        if self.hint:
            click.echo(f"try: {self.hint}", err=True)
