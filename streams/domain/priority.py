"""Whose turn it is among steps that wait for runners: three lanes, the most urgent first."""

LANES = ("high", "normal", "low")
NORMAL = "normal"


def mistake(priority: str | None) -> str | None:
    """Return what is wrong with a priority that somebody asks for; None when nothing is, or nobody does."""
    if priority is None or priority in LANES:
        return None
    return f"priority {priority!r} is not known: one of {', '.join(LANES)}"
