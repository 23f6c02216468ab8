"""Pipeline files for tests of the domain."""

from typing import Any

from streams.domain.definition import canonical, digest


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
