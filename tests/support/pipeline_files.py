"""Pipeline files for tests of the domain."""

from typing import Any

from streams.cron import mistake
from streams.domain.definition import canonical, digest, problems

SURFACE_EXAMPLE: dict[str, Any] = {
    "apiVersion": "flexcore/v1",
    "kind": "Pipeline",
    "metadata": {
        "name": "customer-data-synchronization",
        "owner": "data-team",
        "description": "customers, every two hours",
        "tags": ["crm"],
    },
    "spec": {
        "schedule": {
            "cron": "0 */2 * * *",
            "timezone": "America/Sao_Paulo",
            "overlap": "skip",
            "catch_up": "1h",
        },
        "limits": [{"name": "crm-database", "max": 1}],
        "timeout": "1h",
        "steps": [
            {"name": "extract-customers", "extract": {"tap": "tap-jsonl==0.3.1", "config": {"paths": ["a"]}}},
            {
                "name": "clean-customers",
                "after": ["extract-customers"],
                "transform": {"python": "transforms.clean:customer"},
            },
            {
                "name": "sync-customers",
                "after": ["clean-customers"],
                "load": {
                    "sink": "postgres",
                    "config": {"url": "${env:CRM_URL}", "table": "c", "mode": "upsert"},
                },
                "retry": {"attempts": 5, "initial": "2s", "multiplier": 2, "max": "60s", "jitter": "full"},
            },
            {
                "name": "update-directory",
                "after": ["clean-customers"],
                "load": {"sink": "http", "config": {}},
                "retry": {"attempts": 3},
            },
            {
                "name": "rebuild-marts",
                "after": ["sync-customers"],
                "command": {"argv": ["dbt", "build"], "timeout": "20m"},
            },
        ],
        "alerts": [{"on": "failed", "notify": "webhook"}, {"on": "quiet", "for": "3h", "notify": "webhook"}],
    },
}


def pipeline(*steps: dict[str, Any], name: str = "customers", **spec: Any) -> dict[str, Any]:
    """Return a pipeline file with these steps."""
    return {
        "apiVersion": "flexcore/v1",
        "kind": "Pipeline",
        "metadata": {"name": name},
        "spec": {**spec, "steps": list(steps)},
    }


def command(name: str, *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that runs a program."""
    return {"name": name, "command": {"argv": ["true"]}, **({"after": list(after)} if after else {}), **more}


def extract(name: str, *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that reads a source."""
    return {"name": name, "extract": {"source": "file"}, **({"after": list(after)} if after else {}), **more}


def load(name: str, *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that writes a sink."""
    return {"name": name, "after": list(after), "load": {"sink": "postgres"}, **more}


def transform(name: str, *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that changes records."""
    return {"name": name, "after": list(after), "transform": {"python": "transforms.clean:customer"}, **more}


def text_and_hash(document: dict[str, Any]) -> tuple[str, str]:
    """Return a file's canonical text and its hash."""
    text = canonical(document)
    return text, digest(text)


def found(document: object) -> dict[str, str]:
    """Return message and fix of each problem of a file by its place."""
    return {problem.path: f"{problem.message} | {problem.fix}" for problem in problems(document, mistake)}


def step_problems(step: Any, *others: Any) -> dict[str, str]:
    """Return the problems of a file with this step after the others."""
    return found(pipeline(*others, step))
