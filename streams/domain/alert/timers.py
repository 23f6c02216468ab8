"""Rules that come true by time alone: nothing succeeds, or a run does not end."""

from collections.abc import Iterator

from streams.domain import duration
from streams.domain.alert.rule import TIMED, Rule
from streams.domain.alert.state import Alert, Begun


def due(alert: Alert) -> int | None:
    """Return when a rule that waits for time comes true next, or None."""
    return min((at for at, _rule, _run_id in silences(alert)), default=None)


def silences(alert: Alert) -> Iterator[tuple[int, Rule, str | None]]:
    """Yield when a rule comes true if nothing is heard until then, and for which run (None: for none), in the order of the
    rules; not what has been told already.
    """
    for rule in alert.rules:
        if rule.on == "quiet" and not alert.unresolved(rule):
            yield alert.quiet_since + rule.for_ms, rule, None
        elif rule.on in TIMED:
            usual_ms = alert.usual_ms
            for run_id, begun in alert.running.items():
                patience_ms = _patience(rule, begun, usual_ms)
                if patience_ms is not None and (rule.on, rule.notify) not in begun.told:
                    yield begun.at + patience_ms, rule, run_id


def _patience(rule: Rule, begun: Begun, usual_ms: int | None) -> int | None:
    """Return how long a run may be at work (ms); None: for ever."""
    if rule.factor is None:
        return rule.for_ms
    if begun.full_refresh:
        return None
    if usual_ms is None:
        return rule.after_ms or None
    return max(rule.after_ms, int(usual_ms * rule.factor))


def silence(rule: Rule, run_id: str | None, alert: Alert) -> str:
    """Return in one sentence how the rule came true."""
    if run_id is None:
        return f"no run has succeeded for {duration.render(rule.for_ms)}"
    usual_ms = None if rule.factor is None else alert.usual_ms
    patience_ms = _patience(rule, alert.running[run_id], usual_ms)
    known = "" if usual_ms is None else f"; {_roughly(usual_ms)} is usual"
    return f"run {run_id} has been running for {_roughly(patience_ms or 0)}{known}"


def _roughly(length_ms: int) -> str:
    return duration.render(length_ms if length_ms < 1_000 else length_ms // 1_000 * 1_000)
