"""Reads of datasets: what is known of them from their bookmarks, and records from Kafka on request."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from app.errors import not_found
from app.ports import Row
from app.routes import Query, Route
from app.security import principal
from app.views.answers import FRESHNESS, LISTING, complete, fresh, json_answer, listing, many, one
from app.views.ports import ViewDependencies

_ENDS = ("first", "last")


class DatasetViews:
    """Handlers of ``GET /v1/datasets…``."""

    def __init__(self, needs: ViewDependencies) -> None:
        self._needs = needs

    def routes(self) -> tuple[Route, ...]:
        """Return the routes of this noun."""
        path = "/v1/datasets/{pipeline}/{step}"
        shown = (
            Query("limit", "So many records", "integer", maximum=500),
            Query("from", "The first records that are kept, or the last", choices=_ENDS),
        )
        return (
            Route(
                "GET", "/v1/datasets", self.list, "listDatasets", "Datasets by pipeline and step", "datasets",
                query=(Query("pipeline", "Only of this pipeline"), *LISTING, *FRESHNESS), response="DatasetList",
            ),
            Route(
                "GET", path, self.get, "getDataset", "One dataset: topic, generation, counts", "datasets",
                query=FRESHNESS, response="Dataset", statuses=(200, 304),
            ),
            Route(
                "GET", f"{path}/records", self.records, "listDatasetRecords",
                "Records of the present generation", "datasets", query=shown, response="RecordList",
            ),
            Route(
                "GET", f"{path}/rejects", self.rejects, "listDatasetRejects",
                "Records that were rejected, each with its cause", "datasets", query=shown, response="RecordList",
            ),
        )  # fmt: skip

    async def list(self, request: web.Request) -> web.Response:
        """Answer with datasets by pipeline and step."""
        limit, cursor = listing(request)
        await fresh(request, self._needs, "bookmark")
        tenant, pipeline = principal(request).tenant, request.query.get("pipeline")
        rows, following = await self._needs.store.bookmarks(tenant, pipeline, True, limit, cursor)
        await complete(request, self._needs, "bookmark")
        return many(request, ([self._dataset(row) for row in rows], following))

    async def get(self, request: web.Request) -> web.Response:
        """Answer with one dataset, and where its partitions begin and end now."""
        dataset = await self._found(request)
        ranges = await self._needs.records.ranges(dataset["topic"])
        kept = {str(partition): {"first": low, "end": end} for partition, (low, end) in ranges.items()}
        return one(request, {**dataset, "partitions": kept}, "dataset", dataset["name"])

    async def records(self, request: web.Request) -> web.Response:
        """Answer with the first or last records of the present generation, as far as they are kept."""
        dataset = await self._found(request)
        starts = {int(partition): offset for partition, offset in dataset["starts"].items()}
        return await self._read(request, dataset["topic"], starts)

    async def rejects(self, request: web.Request) -> web.Response:
        """Answer with rejected records; the cause is in their headers."""
        return await self._read(request, (await self._found(request))["rejects_topic"], {})

    async def _read(self, request: web.Request, topic: str, starts: Mapping[int, int]) -> web.Response:
        limit, _ = listing(request)
        read = self._needs.records.last if request.query.get("from") == "last" else self._needs.records.first
        return json_answer({"items": await read(topic, starts, limit)})

    async def _found(self, request: web.Request) -> Row:
        pipeline, step = request.match_info["pipeline"], request.match_info["step"]
        await fresh(request, self._needs, "bookmark")
        row = await self._needs.store.bookmark(principal(request).tenant, pipeline, step)
        await complete(request, self._needs, "bookmark")
        if row is None or not row["topic_id"]:
            raise not_found("dataset", f"{pipeline}/{step}")
        return self._dataset(row)

    def _dataset(self, row: Mapping[str, Any]) -> Row:
        place = (row["tenant"], row["pipeline"], row["step"])
        same = (
            "tenant",
            "pipeline",
            "step",
            "topic_id",
            "generation",
            "starts",
            "counts",
            "records",
            "rejected",
        )
        return {
            "name": f"{row['pipeline']}/{row['step']}",
            **{field: row[field] for field in same},
            "topic": self._needs.records.dataset(*place),
            "rejects_topic": self._needs.records.rejects(*place),
            "begun_by": row["generation_run"],
            "begun_at": row["generation_at"],
            "updated_at": row["updated_at"],
            "version": row["version"],
            "position": row["position"],
        }
