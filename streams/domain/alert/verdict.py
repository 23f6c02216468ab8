"""What a run that has ended says about a rule."""

from streams.domain.alert.commands import NoteRunEnded
from streams.domain.alert.rule import TIMED, Rule
from streams.domain.alert.state import Alert, Incident


def wrong(rule: Rule, run: NoteRunEnded, alert: Alert) -> str | None:
    """Return in one sentence how the run makes the rule come true; "" when it disproves it, None when it does neither."""
    succeeded = run.status == "succeeded"
    match rule.on:
        case "failed" if run.status in ("failed", "timed_out"):
            return f"run {run.run_id} {said(run.status)}: {run.error or 'no error was told'}"
        case "records" if succeeded and run.records is not None:
            return _moved(rule, run.run_id, run.records, None if run.full_refresh else alert.usual_records)
        case "quarantine" if run.rejected > rule.above:
            return f"run {run.run_id} rejected {_count(run.rejected)} into quarantine, more than {rule.above}"
        case "failed" | "quiet" | "quarantine":
            return "" if succeeded else None
        case _:
            return None


def _moved(rule: Rule, run_id: str, records: int, is_usual: int | None) -> str | None:
    bounded = rule.least is not None or rule.most is not None
    moved = f"run {run_id} moved {_count(records)}"
    if rule.least is not None and records < rule.least:
        return f"{moved}, fewer than {rule.least}"
    if rule.most is not None and records > rule.most:
        return f"{moved}, more than {rule.most}"
    if rule.factor is None or is_usual is None:
        return "" if bounded else None
    if is_usual and not is_usual / rule.factor <= records <= is_usual * rule.factor:
        return f"{moved}; {is_usual} are usual"
    return ""


def over(incident: Incident, run: NoteRunEnded, alert: Alert) -> bool:
    """Return whether the end of this run is the end of the incident."""
    if incident.on in TIMED:
        return incident.run_id == run.run_id
    rule = alert.rule_of(incident)
    return rule is not None and wrong(rule, run, alert) == ""


def said(status: str) -> str:
    """Return the verb for how a run ended."""
    return {"timed_out": "timed out", "cancelled": "was cancelled"}.get(status, status)


def _count(records: int) -> str:
    return f"{records} record{'' if records == 1 else 's'}"
