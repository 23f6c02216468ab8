"""Component schemas of the OpenAPI document: request bodies from their types, answers as the views give them."""

from typing import Any


def component_schemas() -> dict[str, Any]:
    return {}
