"""CloudEvents over HTTP: structured, as a batch, and binary; what is none is named."""

from typing import Any

import pytest

from app.ports import Limits
from tests.unit.app.api_client import serving

PATH = "/v1/user-events"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def event(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.shop.Order_Placed", **more}


async def test_a_structured_event_goes_where_its_type_says() -> None:
    """JSON data stays JSON, attributes become text; the answer says where each event is."""
    async with serving() as (client, platform):
        answer = await client.post(
            PATH,
            json=event(data={"n": 1}, retries=3, test=True),
            headers={"Content-Type": STRUCTURED, "Flexcore-Tenant": "acme"},
        )
        body = await answer.json()
    assert answer.status == 200
    assert body["items"] == [
        {"id": "1", "name": "com-shop-order-placed", "topic": "user-events.com-shop-order-placed",
         "partition": 0, "offset": 0}
    ]  # fmt: skip
    ((tenant, taken),) = platform.events.taken
    assert (tenant, taken.data, taken.attributes["retries"], taken.attributes["test"]) == (
        "acme", b'{"n":1}', "3", "true",
    )  # fmt: skip
    assert taken.attributes["datacontenttype"] == "application/json"


async def test_a_batch_keeps_its_order_and_a_name_overrides_types() -> None:
    """Text and Base64 data are bytes as they were."""
    batch = [
        event(id="a", datacontenttype="text/plain", data="hello"),
        event(id="b", data_base64="AP8=", datacontenttype="application/octet-stream"),
        event(id="c"),
    ]
    async with serving() as (client, platform):
        answer = await client.post(f"{PATH}?name=orders", json=batch, headers={"Content-Type": BATCH})
        assert [item["id"] for item in (await answer.json())["items"]] == ["a", "b", "c"]
    assert [taken.data for _tenant, taken in platform.events.taken] == [b"hello", b"\x00\xff", None]
    assert {taken.name for _tenant, taken in platform.events.taken} == {"orders"}


async def test_a_binary_event_is_its_body() -> None:
    """Attributes are headers, percent-encoded; the body is not looked at."""
    headers = {
        "Content-Type": "application/x-thing",
        "ce-specversion": "1.0",
        "ce-id": "7",
        "ce-source": "/shop",
        "ce-type": "thing",
        "ce-subject": "caf%C3%A9",
    }
    async with serving() as (client, platform):
        assert (await client.post(PATH, data=b"\x00\x01", headers=headers)).status == 200
    ((_tenant, taken),) = platform.events.taken
    assert (taken.name, taken.data, taken.attributes["subject"]) == ("thing", b"\x00\x01", "café")
    assert taken.attributes["datacontenttype"] == "application/x-thing"


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code", "pointer"),
    [
        ("application/json", "{}", 415, "unsupported_media_type", None),
        ("application/cloudevents+xml", "<a/>", 415, "unsupported_media_type", None),
        (STRUCTURED, "{", 400, "bad_json", None),
        (STRUCTURED, "[]", 422, "invalid", ""),
        (STRUCTURED, '{"specversion":"1.0","id":"1","source":"/s"}', 422, "invalid", "/type"),
        (STRUCTURED, '{"specversion":"0.3","id":"1","source":"/s","type":"t"}', 422, "invalid", "/specversion"),
        (STRUCTURED, '{"specversion":"1.0","id":"1","source":"/s","type":"t","Upper":"x"}', 422, "invalid", "/Upper"),
        (STRUCTURED, '{"specversion":"1.0","id":"1","source":"/s","type":"..."}', 422, "invalid", "/type"),
        (BATCH, '[{"specversion":"1.0","id":"1","source":"/s","type":"t"},{}]', 422, "invalid", "/1/id"),
        (BATCH, "{}", 422, "invalid", ""),
    ],
)  # fmt: skip
async def test_what_is_no_cloud_event_is_refused(
    content_type: str, body: str, status: int, code: str, pointer: str | None
) -> None:
    """Nothing is written, not even the good ones of a batch; the attribute is named."""
    async with serving() as (client, platform):
        answer = await client.post(PATH, data=body, headers={"Content-Type": content_type})
        said = await answer.json()
    assert (answer.status, said["code"]) == (status, code)
    assert pointer is None or said["errors"][0]["pointer"] == pointer
    assert platform.events.taken == []


async def test_too_much_at_once_is_refused() -> None:
    """413 before it is read to the end."""
    async with serving(Limits(body_bytes_max=1_000)) as (client, _platform):
        answer = await client.post(PATH, json=event(data="x" * 2_000), headers={"Content-Type": STRUCTURED})
        assert (answer.status, (await answer.json())["code"]) == (413, "too_large")
