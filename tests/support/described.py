"""Does an answer fit what the OpenAPI document says about it?"""

import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator


def assert_described(document: Mapping[str, Any], method: str, path: str, status: int, body: Any) -> None:
    """Fail unless the document describes the operation and status, and ``body`` fits the schema given there."""
    operation = document["paths"][path][method.lower()]
    responses = operation["responses"]
    answer = responses.get(str(status), responses["default"] if status >= 400 else None)
    assert answer is not None, f"{method} {path} does not say that it answers {status}"
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    (content,) = answer["content"].values()
    schema = {**content["schema"], "components": document["components"]}
    errors = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(body)
    ]
    assert not errors, f"{method} {path} {status}: {errors[:5]}"


def path_of(document: Mapping[str, Any], method: str, url: str) -> str:
    """Return the described path that serves ``url`` (without its query)."""
    for path, operations in document["paths"].items():
        # The id of an aggregate may hold a slash: a bookmark's does.
        pattern = re.sub(
            r"{\w+}", "[^/]+", path.replace("/v1/aggregates/{type}/{id}", "/v1/aggregates/{type}/.+")
        )
        if re.fullmatch(pattern, url) and method.lower() in operations:
            return str(path)
    raise AssertionError(f"{method} {url} is not described")
