"""The OpenAPI document: valid, complete, and what is really served."""

import re
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.unit.app.api_client import pipeline_file, serving


async def described() -> dict[str, Any]:
    async with serving() as (client, _platform):
        document: dict[str, Any] = await (await client.get("/v1/openapi.json")).json()
        return document


async def test_the_document_is_valid_openapi() -> None:
    """OpenAPI 3.1, by the specification's own schema; every reference leads somewhere."""
    OpenAPIV31SpecValidator(await described()).validate()


async def test_every_served_route_is_described_and_nothing_else() -> None:
    """Router and document are made from the same declarations; this is the proof."""
    async with serving() as (client, _platform):
        document = await (await client.get("/v1/openapi.json")).json()
        assert client.app is not None
        served = {
            (route.method, resource.canonical)
            for resource in client.app.router.resources()
            for route in resource
            if route.method != "HEAD"
        }
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert served == listed


async def test_every_operation_has_an_id_of_its_own_and_says_what_it_does() -> None:
    """Clients are generated from operation ids."""
    document = await described()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


async def test_the_page_for_people_loads_nothing_from_elsewhere() -> None:
    """It works on a machine without a network."""
    async with serving() as (client, _platform):
        answer = await client.get("/docs")
        page = await answer.text()
    assert answer.content_type == "text/html"
    assert not re.search(r"<(script|link|img|iframe)|src=|url\(|href=['\"]?http", page)
    assert "/v1/pipelines" in page


async def test_answers_are_as_described() -> None:
    """What a write answers fits the schema named for it."""
    from tests.support.described import assert_described

    async with serving() as (client, _platform):
        document = await (await client.get("/v1/openapi.json")).json()
        answer = await client.put("/v1/pipelines/copy", json=pipeline_file())
        assert_described(document, "PUT", "/v1/pipelines/{name}", answer.status, await answer.json())
        refused = await client.put("/v1/pipelines/copy", json={})
        assert_described(document, "PUT", "/v1/pipelines/{name}", refused.status, await refused.json())
        run = await client.post("/v1/pipelines/copy/runs")
        assert_described(document, "POST", "/v1/pipelines/{name}/runs", run.status, await run.json())
