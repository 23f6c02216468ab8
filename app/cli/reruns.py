"""Running many runs again, on the command line."""

from collections.abc import Mapping
from typing import Any

from app.cli.failure import Failed
from app.cli.many import EVERYTHING, moment, paced, per_second
from app.cli.output import is_terminal, say, show_list
from app.cli.session import Session
from app.errors import EXIT_CONFLICT, EXIT_OK, EXIT_USAGE

FILTERS = ("pipeline", "status", "since")


def rerun_many(session: Session, options: Mapping[str, Any]) -> int:
    """Run all again that pass the filters, a page at a time; show which went and why the others did not.

    They are chosen once, at the beginning; each is run again by this only once, however often it is repeated.
    """
    query = {name: options[name] for name in FILTERS}
    if options["run_id"] is not None or options["watch"] or not any(query.values()):
        text = "say which runs: one by its id, or many with --pipeline, --status, --since"
        hint = "--from-failed and --dry-run are for many, --watch is for one"
        raise Failed(text, hint=hint, exit_code=EXIT_USAGE)
    deed = {name: options[name] for name in ("from_failed", "dry_run")} | {"from": options["from_step"]}
    if deed["from"] is not None and deed["from_failed"]:
        raise Failed("either --from or --from-failed, not both", exit_code=EXIT_USAGE)
    pace, dry_run = per_second(options["rate"]), deed["dry_run"]
    query["since"] = moment(query["since"])
    chosen = {row["id"]: row for row in reversed(session.api.items("/v1/runs", query, EVERYTHING))}
    rows = []
    for page in paced([*chosen], None if dry_run else pace):
        answer = session.api.call(
            "POST", "/v1/runs/rerun", {**deed, "runs": page}, timeout_s=session.timeout_s + 60
        ).body
        rows += [{**chosen[item["id"]], **item} for item in answer["items"]]
        if is_terminal() and len(rows) < len(chosen):
            say(f"{len(rows):,} of {len(chosen):,}")
    show_list(
        session.output, rows, ("id", "done", "why_not", "from", "run"), ("pipeline", "status", "error"), "id"
    )
    done = sum(row["why_not"] is None for row in rows)
    say(f"{done:,} {'would be ' if dry_run else ''}run again, {len(rows) - done:,} not")
    return EXIT_OK if dry_run or done == len(rows) else EXIT_CONFLICT
