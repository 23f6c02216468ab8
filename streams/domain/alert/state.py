"""What the alerts of a pipeline know: the fold of their events."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from streams.domain.alert.rule import Rule

SAMPLES_MIN = 5


def usual(values: Iterable[int | None]) -> int | None:
    """Return the median of what is known; None while that is less than SAMPLES_MIN values."""
    ordered = sorted(value for value in values if value is not None)
    if len(ordered) < SAMPLES_MIN:
        return None
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2


class Sample(Struct, frozen=True, omit_defaults=True):
    """What a run that succeeded took and moved, as far as that is known."""

    took_ms: int | None
    records: int | None


class Begun(Struct, frozen=True, omit_defaults=True):
    """A run at work, since ``at`` (ms since the epoch). ``told`` are the rules (on, notify) that it has come true for."""

    at: int
    full_refresh: bool = False
    told: tuple[tuple[str, str], ...] = ()


class Incident(Struct, frozen=True, omit_defaults=True):
    """An incident and what became of it. ``status`` is open | acknowledged | resolved."""

    on: str
    notify: str
    run_id: str | None
    status: str = "open"


class Alert(Struct, frozen=True, omit_defaults=True):
    """``quiet_since`` is the newest success, or when the rules were set; ``running`` are the runs at work, by id.

    ``incidents`` keeps the latest ones, by id. ``samples`` are of the latest runs that succeeded, the newest last; reruns
    and full refreshes are not among them.
    """

    rules: tuple[Rule, ...] = ()
    rules_text: str = "[]"
    quiet_since: int = 0
    running: Mapping[str, Begun] = {}
    incidents: Mapping[str, Incident] = {}
    samples: tuple[Sample, ...] = ()

    @property
    def usual_ms(self) -> int | None:
        """How long runs usually take; None while too few are known."""
        return usual(sample.took_ms for sample in self.samples)

    @property
    def usual_records(self) -> int | None:
        """How many records runs usually move; None while too few are known."""
        return usual(sample.records for sample in self.samples)

    def unresolved(self, rule: Rule) -> str | None:
        """Return the incident of this rule that is not resolved."""
        for name, incident in self.incidents.items():
            if incident.status != "resolved" and (incident.on, incident.notify) == (rule.on, rule.notify):
                return name
        return None

    def rule_of(self, incident: Incident) -> Rule | None:
        """Return the rule that the incident is one of; None when it was taken away."""
        same = (rule for rule in self.rules if (rule.on, rule.notify) == (incident.on, incident.notify))
        return next(same, None)
