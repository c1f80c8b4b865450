"""Admission webhooks: which apply, what they are sent, and what their answers mean.

The choice and the reading of answers are pure; `Webhooks` runs the calls, in order for
mutating ones and at once for validating ones, over a `Caller` that does the HTTPS.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh.core.errors import ApiError
from mesh.local.api import patch, selectors, status
from mesh.local.api.resources import Object, Resource
from mesh.local.api.store import Store, copy
from mesh.local.api.users import User

_GROUP: Final = "admissionregistration.k8s.io"
MUTATING: Final = f"mutatingwebhookconfigurations.{_GROUP}"
VALIDATING: Final = f"validatingwebhookconfigurations.{_GROUP}"
MAX_WARNING: Final = 256  # characters of one warning
_LOG: Final = logging.getLogger("mesh.local.api")

Caller = Callable[[Mapping[str, Any], Object, float], Awaitable[Object]]
"""(webhook, AdmissionReview, timeout in seconds) -> AdmissionReview. Raises CallError."""


class CallError(Exception):
    """A webhook could not be asked; the text says what failed."""


@dataclass(frozen=True, slots=True)
class Request:
    """One operation that is to be admitted."""

    operation: str  # CREATE, UPDATE, DELETE, CONNECT
    resource: Resource
    version: str
    namespace: str
    name: str
    user: User
    subresource: str = ""
    kind: tuple[str, str, str] | None = None  # of the object, where it is not the resource's
    dry_run: bool = False
    old: Object | None = None
    options: Object | None = None

    def review(self, obj: Object | None) -> Object:
        """The AdmissionReview v1 that a webhook gets."""
        resource = self.resource
        group, version, kind = self.kind or (resource.group, self.version, resource.kind)
        gvk = {"group": group, "version": version, "kind": kind}
        gvr = {"group": resource.group, "version": self.version, "resource": resource.plural}
        request: Object = {
            "uid": str(uuid.uuid4()),
            "kind": gvk,
            "resource": gvr,
            "requestKind": gvk,
            "requestResource": gvr,
            "operation": self.operation,
            "userInfo": self.user.info(),
            "object": obj,
            "oldObject": self.old,
            "dryRun": self.dry_run,
            "options": self.options,
        }
        if self.name:
            request["name"] = self.name
        if self.namespace:
            request["namespace"] = self.namespace
        if self.subresource:
            request["subResource"] = request["requestSubResource"] = self.subresource
        return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a webhook said: the object after it, and warnings for the client."""

    obj: Object | None
    warnings: tuple[str, ...] = ()


def applies(
    webhook: Mapping[str, Any], request: Request, obj: Object | None, labels: Mapping[str, str]
) -> bool:
    """Whether a webhook wants the request. `labels` are the namespace's."""
    if not any(_rule_matches(rule, request) for rule in webhook.get("rules") or ()):
        return False
    scoped = request.namespace or request.resource.key == "namespaces"
    if scoped and not selectors.matches(
        selectors.parse_selector(webhook.get("namespaceSelector")), labels
    ):
        return False
    chosen = selectors.parse_selector(webhook.get("objectSelector"))
    return not chosen or any(
        selectors.matches(chosen, (one.get("metadata") or {}).get("labels"))
        for one in (obj, request.old)
        if one is not None
    )


def _rule_matches(rule: Mapping[str, Any], request: Request) -> bool:
    resource = request.resource
    scope = rule.get("scope", "*")
    if scope != "*" and (scope == "Namespaced") != bool(request.namespace):
        return False
    plural = resource.plural
    wanted = f"{plural}/{request.subresource}" if request.subresource else plural
    names = {wanted, "*/*"}
    names |= (
        {f"{plural}/*", f"*/{request.subresource}"} if request.subresource else {"*", f"{plural}/*"}
    )
    if request.subresource:
        names.discard("*")
    return (
        _has(rule.get("operations"), request.operation)
        and _has(rule.get("apiGroups"), resource.group)
        and _has(rule.get("apiVersions"), request.version)
        and any(name in names for name in rule.get("resources") or ())
    )


def _has(values: Any, wanted: str) -> bool:
    return "*" in (values or ()) or wanted in (values or ())


def read_answer(webhook: Mapping[str, Any], review: Object, answer: Object) -> Answer:
    """The object after a webhook. Raises ApiError when it refuses, CallError on nonsense."""
    response = answer.get("response")
    if not isinstance(response, dict):
        raise CallError("the answer has no response")
    if response.get("uid") != review["request"]["uid"]:
        raise CallError(f"expected response.uid={review['request']['uid']!r}")
    warnings = tuple(str(w)[:MAX_WARNING] for w in response.get("warnings") or ())
    if not response.get("allowed"):
        raise _refusal(str(webhook.get("name")), response.get("status") or {})
    obj = review["request"]["object"]
    if not response.get("patch"):
        return Answer(obj, warnings)
    if response.get("patchType") != "JSONPatch":
        raise CallError(f"unsupported patchType {response.get('patchType')!r}")
    try:
        operations = json.loads(base64.b64decode(response["patch"], validate=True))
        return Answer(patch.apply(obj, operations), warnings)
    except (binascii.Error, ValueError) as error:
        raise CallError(f"its patch does not apply: {error}") from error


def _refusal(name: str, given: Mapping[str, Any]) -> ApiError:
    code = given.get("code") or 0
    if code < 400:
        code = 400 if code else 403
    words = given.get("message") or given.get("reason")
    reason = given.get("reason") or {403: "Forbidden", 400: "BadRequest"}.get(code, "")
    said = f"denied the request: {words}" if words else "denied the request without explanation"
    return status.StatusError(code, reason, f'admission webhook "{name}" {said}')


class Webhooks:
    """Runs the webhooks that are configured in the store."""

    def __init__(self, store: Store, call: Caller) -> None:
        self._store = store
        self._call = call

    async def mutate(
        self,
        request: Request,
        obj: Object,
        warn: Callable[[str], None],
        readmit: Callable[[Object], None],
    ) -> Object:
        """The object after all mutating webhooks; `readmit` completes it after each change.

        A webhook with `reinvocationPolicy: IfNeeded` runs once more when a later one changed
        the object.
        """
        called: list[tuple[Mapping[str, Any], Object]] = []
        for webhook in self._chosen(MUTATING, request):
            if not self._wants(webhook, request, obj):
                continue
            obj = await self._mutate_once(webhook, request, obj, warn, readmit)
            called.append((webhook, obj))
        for webhook, seen in called:
            if webhook.get("reinvocationPolicy") == "IfNeeded" and obj != seen:
                obj = await self._mutate_once(webhook, request, obj, warn, readmit)
        return obj

    async def validate(
        self, request: Request, obj: Object | None, warn: Callable[[str], None]
    ) -> None:
        """Ask all validating webhooks at once. Raises the first refusal.

        Nothing is changed by a DELETE, so there the mutating ones are asked here as well.
        """
        names = (MUTATING, VALIDATING) if request.operation == "DELETE" else (VALIDATING,)
        chosen = [
            webhook
            for name in names
            for webhook in self._chosen(name, request)
            if self._wants(webhook, request, obj)
        ]
        if chosen:
            calls = (self._ask(webhook, request, obj, warn) for webhook in chosen)
            results = await asyncio.gather(*calls, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _mutate_once(
        self,
        webhook: Mapping[str, Any],
        request: Request,
        obj: Object,
        warn: Callable[[str], None],
        readmit: Callable[[Object], None],
    ) -> Object:
        answer = await self._ask(webhook, request, obj, warn)
        if answer is None or answer.obj is None or answer.obj == obj:
            return obj
        fresh = copy(answer.obj)
        readmit(fresh)
        return fresh

    async def _ask(
        self,
        webhook: Mapping[str, Any],
        request: Request,
        obj: Object | None,
        warn: Callable[[str], None],
    ) -> Answer | None:
        name = str(webhook.get("name"))
        review = request.review(copy(obj))
        try:
            if request.dry_run and webhook.get("sideEffects") not in ("None", "NoneOnDryRun"):
                raise status.bad_request(f'admission webhook "{name}" does not support dry run')
            timeout = float(webhook.get("timeoutSeconds") or 10)
            answer = read_answer(webhook, review, await self._call(webhook, review, timeout))
        except CallError as error:
            if webhook.get("failurePolicy") == "Ignore":
                _LOG.warning("webhook passed over name=%s error=%s", name, error)
                return None
            raise status.internal(f'failed calling webhook "{name}": {error}') from error
        for text in answer.warnings:
            warn(text)
        return answer

    def _chosen(self, kind: str, request: Request) -> Iterator[Mapping[str, Any]]:
        if request.resource.group == _GROUP:
            return  # configurations themselves are never sent to webhooks
        for configuration in list(self._store.scan(kind)):
            yield from configuration.get("webhooks") or ()

    def _wants(self, webhook: Mapping[str, Any], request: Request, obj: Object | None) -> bool:
        return applies(webhook, request, obj, self._labels(request, obj))

    def _labels(self, request: Request, obj: Object | None) -> Mapping[str, str]:
        if request.resource.key == "namespaces":
            found = obj if obj is not None else request.old
        else:
            found = self._store.find("namespaces", None, request.namespace)
        return ((found or {}).get("metadata") or {}).get("labels") or {}
