"""Confluent's REST API over a :class:`RegistryStore`: the subset that clients, serializers and consoles use."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web

from app.errors import Problem
from app.registry import failures
from app.registry.failures import RegistryFailure
from app.registry.records import AVRO, Draft, Reference, Version
from app.registry.store import RegistryStore
from app.registry.subjects import SCHEMA_TYPES
from app.security import guard

_log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
_THREADS = 4
_OPEN_MAX = 256
_BODY_BYTES_MAX = 4 << 20

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_registry_app(store: RegistryStore) -> web.Application:
    """Return the application; ``store`` is started and stopped by the caller, the application owns only threads.

    Calls of the store block on Kafka, so they run on threads of the application's own: a slow broker holds up the
    registry's clients and nobody else.
    """
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="registry-http")
    app = web.Application(middlewares=[_told_as_confluent_does], client_max_size=_BODY_BYTES_MAX)
    app.router.add_routes(_Routes(store, threads).all())

    async def end_threads(_app: web.Application) -> None:
        threads.shutdown(wait=False, cancel_futures=True)

    app.on_cleanup.append(end_threads)
    return app


@web.middleware
async def _told_as_confluent_does(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        guard(request)
        return await handler(request)
    except Problem as problem:
        return _answer({"error_code": problem.status, "message": str(problem)}, problem.status)
    except RegistryFailure as failure:
        return _answer({"error_code": failure.code, "message": failure.message}, failure.status)
    except web.HTTPException as error:
        reason = f"HTTP {error.status} {error.reason}: {request.method} {request.path}"
        return _answer({"error_code": error.status, "message": reason}, error.status)
    except Exception:  # noqa: BLE001  # the last resort: logged with its trace, told in the shape clients expect
        _log.exception("The schema registry failed to answer %s %s", request.method, request.path)
        return _answer(
            {"error_code": failures.STORE_FAILED, "message": "Internal error; the node's log has it"}, 500
        )


def _answer(document: Any, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(document).encode(), status=status, content_type=CONTENT_TYPE)


class _Routes:
    def __init__(self, store: RegistryStore, threads: ThreadPoolExecutor) -> None:
        self._store = store
        self._threads = threads
        self._open = 0

    def all(self) -> list[web.RouteDef]:
        subject, versions = "/subjects/{subject}", "/subjects/{subject}/versions"
        compatibility = "/compatibility/subjects/{subject}/versions"
        return [
            web.get("/", self.root),
            web.get("/subjects", self.subjects),
            web.post(subject, self.lookup),
            web.delete(subject, self.delete_subject),
            web.get(versions, self.versions),
            web.post(versions, self.register),
            web.get(versions + "/{version}", self.version),
            web.get(versions + "/{version}/schema", self.version_text),
            web.get(versions + "/{version}/referencedby", self.referenced_by),
            web.delete(versions + "/{version}", self.delete_version),
            web.get("/schemas", self.schemas),
            web.get("/schemas/types", self.types),
            web.get("/schemas/ids/{id}", self.by_id),
            web.get("/schemas/ids/{id}/schema", self.text_by_id),
            web.get("/schemas/ids/{id}/subjects", self.subjects_of_id),
            web.get("/schemas/ids/{id}/versions", self.versions_of_id),
            web.post(compatibility, self.check_all),
            web.post(compatibility + "/{version}", self.check_one),
            *_setting("/config", self.level, self.set_level, self.clear_level),
            *_setting("/mode", self.mode, self.set_mode, self.clear_mode),
            web.delete("/config", self.clear_level),
            web.get("/contexts", self.contexts),
        ]

    async def _run(self, call: Callable[[], T]) -> T:
        if self._open >= _OPEN_MAX:
            raise RegistryFailure(failures.OVERLOADED, f"{self._open} requests are open already; try again")
        self._open += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self._open -= 1

    # ---------------------------------------------------------------- about itself
    async def root(self, _request: web.Request) -> web.Response:
        return _answer({})

    async def types(self, _request: web.Request) -> web.Response:
        return _answer(SCHEMA_TYPES)

    async def contexts(self, _request: web.Request) -> web.Response:
        return _answer(["."])

    # ---------------------------------------------------------------- subjects and versions
    async def subjects(self, request: web.Request) -> web.Response:
        prefix, deleted = request.query.get("subjectPrefix", ""), _flag(request, "deleted")
        return _answer(await self._run(lambda: self._store.subjects(prefix, deleted=deleted)))

    async def versions(self, request: web.Request) -> web.Response:
        subject, deleted = _subject(request), _flag(request, "deleted")
        return _answer(await self._run(lambda: self._store.versions(subject, deleted=deleted)))

    async def version(self, request: web.Request) -> web.Response:
        return _answer(_version_document(await self._version(request)))

    async def version_text(self, request: web.Request) -> web.Response:
        return _answer(_plain_text((await self._version(request)).draft))

    async def _version(self, request: web.Request) -> Version:
        subject, number, deleted = _subject(request), _number(request), _flag(request, "deleted")
        return await self._run(lambda: self._store.version(subject, number, deleted=deleted))

    async def referenced_by(self, request: web.Request) -> web.Response:
        subject, number = _subject(request), _number(request)
        return _answer(await self._run(lambda: self._store.referring_to(subject, number)))

    async def register(self, request: web.Request) -> web.Response:
        subject, draft = _subject(request), await _draft(request)
        version = await self._run(lambda: self._store.add(subject, draft))
        return _answer({"id": version.id, "version": version.number, **_draft_document(version.draft)})

    async def lookup(self, request: web.Request) -> web.Response:
        subject, draft, deleted = _subject(request), await _draft(request), _flag(request, "deleted")
        return _answer(
            _version_document(await self._run(lambda: self._store.lookup(subject, draft, deleted=deleted)))
        )

    async def delete_subject(self, request: web.Request) -> web.Response:
        subject, permanent = _subject(request), _flag(request, "permanent")
        return _answer(await self._run(lambda: self._store.delete_subject(subject, permanent=permanent)))

    async def delete_version(self, request: web.Request) -> web.Response:
        subject, number, permanent = _subject(request), _number(request), _flag(request, "permanent")
        return _answer(
            await self._run(lambda: self._store.delete_version(subject, number, permanent=permanent))
        )

    # ---------------------------------------------------------------- schemas by id
    async def schemas(self, request: web.Request) -> web.Response:
        prefix, deleted = request.query.get("subjectPrefix", ""), _flag(request, "deleted")
        found = await self._run(lambda: self._store.all_versions(deleted=deleted))
        found = [version for version in found if version.subject.startswith(prefix)]
        if _flag(request, "latestOnly"):
            found = list({version.subject: version for version in found}.values())
        return _answer([_version_document(version) for version in found])

    async def by_id(self, request: web.Request) -> web.Response:
        return _answer(_draft_document((await self._by_id(request)).draft))

    async def text_by_id(self, request: web.Request) -> web.Response:
        return _answer(_plain_text((await self._by_id(request)).draft))

    async def _by_id(self, request: web.Request) -> Version:
        schema_id = _id(request)
        return await self._run(lambda: self._store.by_id(schema_id))

    async def subjects_of_id(self, request: web.Request) -> web.Response:
        return _answer(sorted({version.subject for version in await self._users_of(request)}))

    async def versions_of_id(self, request: web.Request) -> web.Response:
        return _answer(
            [{"subject": one.subject, "version": one.number} for one in await self._users_of(request)]
        )

    async def _users_of(self, request: web.Request) -> list[Version]:
        schema_id, deleted = _id(request), _flag(request, "deleted")
        return await self._run(lambda: self._store.users_of(schema_id, deleted=deleted))

    # ---------------------------------------------------------------- compatibility, levels, modes
    async def check_one(self, request: web.Request) -> web.Response:
        subject, number, draft = _subject(request), _number(request), await _draft(request)
        problems = await self._run(lambda: self._store.incompatibilities(subject, number, draft))
        return _answer(_verdict(request, problems))

    async def check_all(self, request: web.Request) -> web.Response:
        subject, draft = _subject(request), await _draft(request)
        problems = await self._run(lambda: self._store.incompatibilities(subject, None, draft, every=True))
        return _answer(_verdict(request, problems))

    async def level(self, request: web.Request) -> web.Response:
        subject, or_global = _optional_subject(request), _flag(request, "defaultToGlobal")
        return _answer(
            {"compatibilityLevel": await self._run(lambda: self._store.level(subject, or_global=or_global))}
        )

    async def set_level(self, request: web.Request) -> web.Response:
        subject, level = _optional_subject(request), (await _document(request)).get("compatibility")
        return _answer({"compatibility": await self._run(lambda: self._store.set_level(subject, level))})

    async def clear_level(self, request: web.Request) -> web.Response:
        subject = _optional_subject(request)
        return _answer({"compatibilityLevel": await self._run(lambda: self._store.clear_level(subject))})

    async def mode(self, request: web.Request) -> web.Response:
        subject, or_global = _optional_subject(request), _flag(request, "defaultToGlobal")
        return _answer({"mode": await self._run(lambda: self._store.mode(subject, or_global=or_global))})

    async def set_mode(self, request: web.Request) -> web.Response:
        subject, mode = _optional_subject(request), (await _document(request)).get("mode")
        return _answer({"mode": await self._run(lambda: self._store.set_mode(subject, mode))})

    async def clear_mode(self, request: web.Request) -> web.Response:
        subject = _subject(request)
        return _answer({"mode": await self._run(lambda: self._store.clear_mode(subject))})


def _setting(path: str, get: Handler, put: Handler, delete: Handler) -> list[web.RouteDef]:
    return [
        web.get(path, get),
        web.put(path, put),
        web.get(path + "/{subject}", get),
        web.put(path + "/{subject}", put),
        web.delete(path + "/{subject}", delete),
    ]


# ---------------------------------------------------------------- out
def _draft_document(draft: Draft) -> dict[str, Any]:
    document: dict[str, Any] = {"schema": draft.text}
    if draft.kind != AVRO:
        document["schemaType"] = draft.kind
    if draft.references:
        document["references"] = [reference.document() for reference in draft.references]
    return document


def _version_document(version: Version) -> dict[str, Any]:
    numbers = {"subject": version.subject, "version": version.number, "id": version.id}
    return {**numbers, **_draft_document(version.draft), **({"deleted": True} if version.deleted else {})}


def _plain_text(draft: Draft) -> Any:
    return draft.text if draft.kind == "PROTOBUF" else json.loads(draft.text)


def _verdict(request: web.Request, problems: list[str]) -> dict[str, Any]:
    verdict: dict[str, Any] = {"is_compatible": not problems}
    return {**verdict, "messages": problems} if _flag(request, "verbose") else verdict


# ---------------------------------------------------------------- in
def _subject(request: web.Request) -> str:
    return request.match_info["subject"]


def _optional_subject(request: web.Request) -> str | None:
    return request.match_info.get("subject")


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() == "true"


def _number(request: web.Request) -> int | None:
    """Return the version asked for, None for the newest."""
    text = request.match_info["version"]
    if text in ("latest", "-1"):
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 31:
        return int(text)
    raise RegistryFailure(
        failures.INVALID_VERSION,
        f"The specified version '{text}' is not a valid version id. Allowed values are between [1, 2^31-1] and"
        ' the string "latest"',
    )


def _id(request: web.Request) -> int:
    text = request.match_info["id"]
    if text.isascii() and text.isdigit():
        return int(text)
    raise RegistryFailure(404, f"HTTP 404 Not Found: {text!r} is no schema id")


async def _document(request: web.Request) -> dict[str, Any]:
    try:
        document = json.loads(await request.read())
    except ValueError as error:
        raise RegistryFailure(400, f"The body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RegistryFailure(400, "The body must be a JSON object")
    return document


async def _draft(request: web.Request) -> Draft:
    document = await _document(request)
    text, kind = document.get("schema"), document.get("schemaType") or AVRO
    if not isinstance(text, str) or not text:
        raise RegistryFailure(failures.INVALID_SCHEMA, "Invalid schema: `schema` must be the schema as text")
    try:
        references = tuple(
            Reference(str(one["name"]), str(one["subject"]), int(one["version"]))
            for one in document.get("references") or ()
        )
    except (TypeError, KeyError, ValueError) as error:
        raise RegistryFailure(
            failures.INVALID_SCHEMA, "Invalid schema: a reference needs `name`, `subject` and `version`"
        ) from error
    return Draft(text, str(kind), references)
