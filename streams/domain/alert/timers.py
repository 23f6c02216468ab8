"""Rules that come true by time alone: nothing succeeds, or a run does not end."""

from collections.abc import Iterator

from streams.domain import duration
from streams.domain.alert.rule import TIMED, Rule
from streams.domain.alert.state import Alert, Begun

Silence = tuple[int, Rule, str | None, str]
"""When a rule comes true if nothing is heard until then, for which run (None: for none), and the sentence for it."""


def due(alert: Alert) -> int | None:
    """Return when a rule that waits for time comes true next, or None."""
    return min((at for at, *_ in silences(alert)), default=None)


def silences(alert: Alert) -> Iterator[Silence]:
    """Yield what comes true by time, in the order of the rules; not what has an incident already."""
    for rule in alert.rules:
        if rule.on == "quiet" and not alert.unresolved(rule):
            detail = f"no run has succeeded for {duration.render(rule.for_ms)}"
            yield alert.quiet_since + rule.for_ms, rule, None, detail
        for run_id, begun in alert.running.items() if rule.on in TIMED else ():
            patience_ms, known = _patience(rule, begun, alert)
            if patience_ms is not None and not alert.unresolved(rule, run_id):
                detail = f"run {run_id} has been running for {duration.render(patience_ms)}{known}"
                yield begun.at + patience_ms, rule, run_id, detail


def _patience(rule: Rule, begun: Begun, alert: Alert) -> tuple[int | None, str]:
    """Return how long a run may be at work (ms; None: for ever), and what is said about that."""
    if rule.factor is None:
        return rule.for_ms, ""
    if begun.full_refresh:
        return None, ""
    usual_ms = alert.usual_ms
    if usual_ms is None:
        return rule.after_ms or None, ""
    return max(rule.after_ms, int(usual_ms * rule.factor)), f"; {duration.render(usual_ms)} is usual"
