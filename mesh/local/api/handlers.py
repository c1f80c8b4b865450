"""What each verb on a resource does, between HTTP and `server.Api`. A shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from aiohttp import web

from mesh.local.api import (
    bodies,
    execute,
    kinds,
    negotiate,
    podlogs,
    scale,
    selectors,
    status,
    tables,
)
from mesh.local.api.paths import Target
from mesh.local.api.proxying import Forwarder
from mesh.local.api.rbac import Action
from mesh.local.api.resources import Object, Resource
from mesh.local.api.reviews import Reviews
from mesh.local.api.server import Api, Options
from mesh.local.api.store import Watch, parse_selectors
from mesh.local.api.users import User
from mesh.local.api.watching import Stream, View, WatchRequest

_PATCHES: Final = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
}
_APPLY: Final = ("application/apply-patch+yaml", "application/apply-patch+cbor")


@dataclass(slots=True)
class Call:
    """One request to a resource, with what all handlers need of it."""

    request: web.Request
    row: Resource
    target: Target
    user: User
    warnings: list[str] = field(default_factory=list)

    @property
    def query(self) -> dict[str, str]:
        return dict(self.request.query)

    @property
    def namespace(self) -> str | None:
        return self.target.namespace or None

    def options(self, repeated: list[str] | None = None) -> Options:
        """Raises ApiError 400 on a value that the query may not have."""
        query = self.request.query
        dry = query.getall("dryRun", [])
        if any(value != "All" for value in dry):
            raise status.bad_request(f"dryRun: expected All, got {dry}")
        mode = query.get("fieldValidation", "Warn")
        if mode not in ("Strict", "Warn", "Ignore"):
            raise status.bad_request(
                f"fieldValidation: expected Strict, Warn or Ignore, got {mode}"
            )
        return Options(
            dry_run=bool(dry),
            validation=mode,
            warn=self.warn,
            version=self.target.version,
            repeated=repeated or [],
        )

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    async def body(self) -> bodies.Body:
        return bodies.decode(self.request.content_type, await self.raw_body())

    async def raw_body(self) -> bytes:
        """Raises ApiError 413."""
        try:
            return await self.request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise bodies.too_large() from error


class Handlers:
    """The verbs. Permissions were checked before."""

    def __init__(self, api: Api, reviews: Reviews, forwarder: Forwarder) -> None:
        self.api = api
        self._reviews = reviews
        self._forwarder = forwarder
        self._closing = asyncio.Event()
        self._watches: set[Watch] = set()
        self._verbs: dict[str, Callable[[Call], Any]] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_all,
        }

    def close(self) -> None:
        """End what would go on for ever: watches and followed logs."""
        self._closing.set()
        for watch in tuple(self._watches):
            watch.close()

    async def handle(
        self, request: web.Request, row: Resource, target: Target, action: Action, user: User
    ) -> web.StreamResponse:
        """Answer a request that is allowed. Raises ApiError."""
        call = Call(request, row, target, user)
        custom = row.custom_version(target.version)
        if custom is not None and custom.warning:
            call.warn(custom.warning)
        if target.subresource == "proxy":
            return await self._forwarder.forward(request, target)
        if target.subresource == "log":
            return await self._log(call)
        if target.subresource == "exec":
            return await execute.serve(self.api.store, self.api.execute, request, target)
        if not target.subresource and action.verb not in row.verbs:
            raise status.method_not_allowed()
        found: web.StreamResponse = await self._verbs[action.verb](call)
        if not found.prepared:
            for text in call.warnings:
                found.headers.add("Warning", f"299 - {_quoted(text)}")
        return found

    # -- reading ---------------------------------------------------------------------------

    async def _get(self, call: Call) -> web.StreamResponse:
        row, target = call.row, call.target
        found = self.api.read(row, target.version, call.namespace, target.name)
        if target.subresource == "scale":
            return self._answer(call, scale.show(row, target.version, found), plain=True)
        return self._answer(call, found)

    async def _list(self, call: Call) -> web.StreamResponse:
        row, version = call.row, call.target.version
        test = self._test(call)
        store = self.api.store
        found = [
            shown
            for obj in store.scan(row.store_key, call.namespace)
            if test(shown := kinds.to_version(row, version, obj))
        ]
        revision = str(store.revision)
        wanted = negotiate.transformed(call.request.headers.get("Accept", ""))
        if wanted is not None and wanted.kind == "Table":
            return self._table(call, found, wanted, revision)
        if wanted is not None:
            shown = tables.partial_list(found, revision, wanted.version)
            return json_response(shown, content_type=wanted.content_type)
        return json_response(
            {
                "kind": row.lists,
                "apiVersion": _api_version(row, version),
                "metadata": {"resourceVersion": revision},
                "items": found,
            }
        )

    async def _watch(self, call: Call) -> web.StreamResponse:
        row, version = call.row, call.target.version
        asked = WatchRequest.parse(call.query)
        test = self._test(call)
        store = self.api.store
        if asked.since is not None and asked.since > store.revision:
            raise status.expired(asked.since, store.revision)
        if asked.since == -1:
            asked = replace(asked, since=store.revision)
        wanted = negotiate.transformed(call.request.headers.get("Accept", ""))
        watch = store.watch(
            row.store_key,
            call.namespace,
            since=asked.since,
            test=lambda obj: test(kinds.to_version(row, version, obj)),
        )
        self._watches.add(watch)
        shown = _Shown(self, call, wanted)
        media = wanted.content_type if wanted is not None else "application/json"
        view = View(shown.show, shown.bookmark, row.kind, _api_version(row, version), media)
        try:
            return await Stream(store, watch, asked, view).run(call.request)
        finally:
            self._watches.discard(watch)
            watch.close()

    def _test(self, call: Call) -> Callable[[Object], bool]:
        row, query = call.row, call.query
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        custom = row.custom_version(call.target.version)
        try:
            more = custom.selectable if custom is not None else ()
            selectors.check_fields(row.key, selectors.parse_fields(fields), more)
        except ValueError as error:
            raise status.bad_request(str(error)) from error
        return parse_selectors(labels, fields)

    def _answer(
        self, call: Call, found: Object, *, code: int = 200, plain: bool = False
    ) -> web.Response:
        wanted = negotiate.transformed(call.request.headers.get("Accept", ""))
        if wanted is None or plain:
            return json_response(found, code=code)
        if wanted.kind == "Table":
            return self._table(call, [found], wanted, found["metadata"].get("resourceVersion", ""))
        return json_response(
            tables.partial(found, wanted.version), content_type=wanted.content_type
        )

    def _table(
        self, call: Call, found: list[Object], wanted: negotiate.Wanted, revision: str
    ) -> web.Response:
        return json_response(
            tables.table(
                call.row,
                call.target.version,
                found,
                now=self.api.clock(),
                revision=revision,
                include=call.query.get("includeObject", "Metadata"),
                meta_version=wanted.version,
            ),
            content_type=wanted.content_type,
        )

    # -- writing ---------------------------------------------------------------------------

    async def _create(self, call: Call) -> web.StreamResponse:
        row, target = call.row, call.target
        body = await call.body()
        obj = bodies.as_object(body)
        if target.subresource == "token":
            return json_response(self._reviews.issue(target.namespace, target.name, obj), code=201)
        if target.name:
            raise status.method_not_allowed()
        if self._reviews.answers(row.kind) and row.verbs == ("create",):
            obj = {**obj, "apiVersion": _api_version(row, target.version), "kind": row.kind}
            return json_response(self._reviews.answer(obj, call.user), code=201)
        if row.namespaced:
            _set_namespace(obj, target.namespace)
        done = await self.api.create(
            row.key, obj, user=call.user, options=call.options(body.repeated)
        )
        return self._answer(call, done, code=201)

    async def _update(self, call: Call) -> web.StreamResponse:
        row, target = call.row, call.target
        body = await call.body()
        obj = bodies.as_object(body)
        if target.subresource == "scale":
            return await self._scale(call, obj)
        _set_namespace(obj, target.namespace)
        meta = obj["metadata"]
        if meta.get("name") not in (None, "", target.name):
            raise status.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL "
                f"({target.name})"
            )
        meta["name"] = target.name
        done = await self.api.update(
            row.key,
            obj,
            user=call.user,
            subresource=target.subresource or None,
            options=call.options(body.repeated),
        )
        return self._answer(call, done)

    async def _patch(self, call: Call) -> web.StreamResponse:
        row, target = call.row, call.target
        media = call.request.content_type
        if media in _APPLY:
            raise status.unsupported_media("mesh local has no server-side apply")
        how = _PATCHES.get(media)
        if how is None:
            raise status.unsupported_media(
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(_PATCHES)
            )
        body = bodies.decode("application/json", await call.raw_body())
        if bodies.too_deep([body.value]):
            raise status.bad_request("the patch is nested too deeply")
        if target.subresource == "scale":
            old = self.api.read(row, target.version, call.namespace, target.name)
            shown = scale.show(row, target.version, old)
            return await self._scale(call, scale.patched(shown, body.value, how))
        done = await self.api.patch(
            row.key,
            call.namespace,
            target.name,
            body.value,
            how=how,
            user=call.user,
            subresource=target.subresource or None,
            options=call.options(body.repeated),
        )
        return self._answer(call, done)

    async def _scale(self, call: Call, wanted: Object) -> web.StreamResponse:
        row, target = call.row, call.target
        old = self.api.read(row, target.version, call.namespace, target.name)
        fresh = scale.set_replicas(row, target.version, old, wanted)
        done = await self.api.update(row.key, fresh, user=call.user, options=call.options())
        return json_response(scale.show(row, target.version, done))

    async def _delete(self, call: Call) -> web.StreamResponse:
        row, target = call.row, call.target
        if target.subresource:
            raise status.method_not_allowed()
        asked = await _delete_options(call)
        done = await self._delete_one(call, target.name, asked)
        gone = self.api.store.find(row.store_key, call.namespace, target.name) is None
        if gone and row.key != "pods":
            uid = done["metadata"].get("uid", "")
            return json_response(status.success(row, target.name, uid))
        return self._answer(call, done)

    async def _delete_all(self, call: Call) -> web.StreamResponse:
        row, version = call.row, call.target.version
        asked = await _delete_options(call)
        test = self._test(call)
        done = []
        for obj in list(self.api.store.scan(row.store_key, call.namespace)):
            if test(kinds.to_version(row, version, obj)):
                meta = obj["metadata"]
                scoped = replace(call.target, namespace=meta.get("namespace", ""))
                one = replace(call, target=scoped)
                done.append(await self._delete_one(one, meta["name"], asked))
        return json_response(
            {
                "kind": row.lists,
                "apiVersion": _api_version(row, version),
                "metadata": {"resourceVersion": str(self.api.store.revision)},
                "items": done,
            }
        )

    async def _delete_one(self, call: Call, name: str, asked: _DeleteRequest) -> Object:
        options = call.options()
        if asked.dry_run:
            options = replace(options, dry_run=True)
        return await self.api.delete(
            call.row.key,
            call.namespace,
            name,
            user=call.user,
            grace=asked.grace,
            uid=asked.uid,
            orphan=asked.orphan,
            options=options,
        )

    # -- logs --------------------------------------------------------------------------------

    async def _log(self, call: Call) -> web.StreamResponse:
        target, store = call.target, self.api.store
        if call.request.method != "GET":
            raise status.method_not_allowed()
        pod = store.get("pods", target.namespace, target.name)
        asked = podlogs.LogRequest.parse(call.query, self.api.clock())
        container = podlogs.choose_container(pod, asked.container)
        podlogs.check_started(pod, container, previous=asked.previous)
        path = podlogs.log_file(
            self.api.logs, target.namespace, target.name, container, previous=asked.previous
        )
        uid = pod["metadata"]["uid"]

        def is_running() -> bool:
            now = store.find("pods", target.namespace, target.name)
            if now is None or now["metadata"]["uid"] != uid or self._closing.is_set():
                return False
            return podlogs.may_write(now, container)

        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(call.request)
        async for chunk in podlogs.lines(path, asked, is_running):
            await response.write(chunk)
        await response.write_eof()
        return response


class _Shown:
    """How the objects of one watch are shown; the first Table carries the columns."""

    def __init__(self, handlers: Handlers, call: Call, wanted: negotiate.Wanted | None) -> None:
        self._handlers = handlers
        self._call = call
        self._wanted = wanted
        self._first = True

    def show(self, obj: Object) -> Object:
        row, version = self._call.row, self._call.target.version
        return self._transformed(kinds.to_version(row, version, obj), is_bookmark=False)

    def bookmark(self, obj: Object) -> Object:
        return self._transformed(obj, is_bookmark=True)

    def _transformed(self, obj: Object, *, is_bookmark: bool) -> Object:
        wanted = self._wanted
        if wanted is None:
            return obj
        if wanted.kind != "Table":
            return tables.partial(obj, wanted.version)
        first, self._first = self._first, False
        meta = obj["metadata"]
        found = tables.table(
            self._call.row,
            self._call.target.version,
            [obj],
            now=self._handlers.api.clock(),
            revision=meta.get("resourceVersion", ""),
            include=self._call.query.get("includeObject", "Metadata"),
            meta_version=wanted.version,
            with_columns=first,
        )
        return found


@dataclass(frozen=True, slots=True)
class _DeleteRequest:
    grace: int | None = None
    uid: str | None = None
    orphan: bool = False
    dry_run: bool = False


async def _delete_options(call: Call) -> _DeleteRequest:
    """DeleteOptions from body and query. Raises ApiError 400."""
    raw = await call.raw_body()
    given: Object = {}
    if raw.strip():
        given = bodies.as_object(bodies.decode(call.request.content_type, raw))
    grace = given.get("gracePeriodSeconds")
    if grace is None and call.query.get("gracePeriodSeconds", "").isdigit():
        grace = int(call.query["gracePeriodSeconds"])
    if grace is not None and not isinstance(grace, int):
        raise status.bad_request("gracePeriodSeconds is not a number")
    policy = given.get("propagationPolicy") or call.query.get("propagationPolicy") or ""
    if policy not in ("", "Background", "Foreground", "Orphan"):
        raise status.bad_request(f"propagationPolicy: got {policy!r}")
    preconditions = given.get("preconditions") or {}
    return _DeleteRequest(
        grace,
        preconditions.get("uid"),
        policy == "Orphan" or given.get("orphanDependents") is True,
        "All" in (given.get("dryRun") or ()),
    )


def _set_namespace(obj: Object, namespace: str) -> None:
    """The URL's namespace, into the object. Raises ApiError 400 when the body names another."""
    meta = obj.get("metadata")
    if meta is None:
        meta = obj["metadata"] = {}
    if not isinstance(meta, dict):
        raise status.bad_request("metadata is not an object")
    if namespace and meta.get("namespace") not in (None, "", namespace):
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if namespace:
        meta["namespace"] = namespace


def _api_version(row: Resource, version: str) -> str:
    return f"{row.group}/{version}" if row.group else version


def json_response(
    body: Object,
    *,
    code: int = 200,
    headers: dict[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    """A JSON answer; `content_type` may carry parameters."""
    fields = {"Content-Type": content_type, **(headers or {})}
    return web.Response(body=msgspec.json.encode(body), status=code, headers=fields)


def _quoted(text: str) -> str:
    """A Warning header's text: RFC 7234 §5.5, one line of printable characters."""
    plain = " ".join(text.split())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
