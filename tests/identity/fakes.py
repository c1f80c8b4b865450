"""A Kubernetes API in memory, as far as identity uses it: objects, conflicts, token reviews.

The embedded API server is used where the wire matters (test_process.py); here a test wants to
say what goes wrong, and when.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mesh.core.errors import ApiError
from mesh.kube.client import Reviewed

Object = dict[str, Any]


class FakeKube:
    """Objects by (resource, name); `before_write` lets a test act in between."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Object] = {}
        self.events: list[Object] = []
        self.fail: ApiError | None = None
        self.before_write: Callable[[], None] = lambda: None
        self._versions = itertools.count(1)

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object:
        await asyncio.sleep(0)
        self._check()
        try:
            return copy.deepcopy(self.objects[resource, name])
        except KeyError:
            raise ApiError(404, "NotFound", f"{resource} {name} not found") from None

    async def create(self, resource: str, obj: Object) -> Object:
        await asyncio.sleep(0)
        self._check()
        if resource == "events":
            self.events.append(obj)
            return obj
        self.before_write()
        key = (resource, obj["metadata"]["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f"{key} already exists")
        return self.put(resource, obj)

    async def replace(self, resource: str, obj: Object) -> Object:
        await asyncio.sleep(0)
        self._check()
        self.before_write()
        meta = obj["metadata"]
        current = self.objects.get((resource, meta["name"]))
        if current is None:
            raise ApiError(404, "NotFound", "gone")
        if meta.get("resourceVersion") != current["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        return self.put(resource, obj)

    def put(self, resource: str, obj: Object) -> Object:
        """Store without any check, as somebody with kubectl would."""
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[resource, obj["metadata"]["name"]] = obj
        return obj

    def text(self, resource: str, name: str, key: str) -> str:
        text: str = self.objects[resource, name]["data"][key]
        return base64.b64decode(text).decode() if resource == "secrets" else text

    def edit(self, resource: str, name: str, **data: str) -> None:
        """Change data of an object; values are plain text. `tls_crt` means `tls.crt`."""
        obj = copy.deepcopy(self.objects[resource, name])
        for key, text in data.items():
            value = base64.b64encode(text.encode()).decode() if resource == "secrets" else text
            obj["data"][key.replace("_", ".")] = value
        self.put(resource, obj)

    def _check(self) -> None:
        if self.fail is not None:
            raise self.fail


def secret(name: str, **data: str) -> Object:
    """A Secret with text values; `tls_crt` means `tls.crt`."""
    encoded = {k.replace("_", "."): base64.b64encode(v.encode()).decode() for k, v in data.items()}
    return {"metadata": {"name": name, "namespace": "mesh"}, "data": encoded}


def config_map(name: str, data: dict[str, str]) -> Object:
    return {"metadata": {"name": name, "namespace": "mesh"}, "data": data}


class FakeReviewer:
    """Vouches for the tokens it made, as an API server does."""

    def __init__(self) -> None:
        self.known: dict[str, Reviewed] = {}
        self.asked = 0
        self.fail: Exception | None = None
        self.seconds = 0.0
        self.most_at_once = 0
        self._at_once = 0

    def token(
        self,
        account: str = "web",
        namespace: str = "shop",
        *,
        pod: str = "uid-1",
        audiences: Sequence[str] = ("mesh-identity",),
        life: float = 3600.0,
        is_known: bool = True,
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """A token; `claims` replace what it says of itself, not what the review says."""
        token = make_token(
            {
                "aud": list(audiences),
                "exp": int(time.time() + life),
                "jti": str(len(self.known)),
                "kubernetes.io": {
                    "namespace": namespace,
                    "pod": {"name": "p", "uid": pod},
                    "serviceaccount": {"name": account, "uid": "u"},
                },
            }
            | dict(claims or {})
        )
        if is_known:
            self.known[token] = Reviewed(
                username=f"system:serviceaccount:{namespace}:{account}",
                audiences=tuple(audiences),
                extra={"authentication.kubernetes.io/pod-uid": [pod]},
            )
        return token

    async def review(self, token: str, audiences: Sequence[str] = ()) -> Reviewed:
        self.asked += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(self.seconds)
        self._at_once -= 1
        if self.fail is not None:
            raise self.fail
        reviewed = self.known.get(token)
        if reviewed is None or not set(audiences) & set(reviewed.audiences):
            return Reviewed("", error="token not authenticated")
        return reviewed


def make_token(claims: object) -> str:
    """Any JSON as the payload of a token whose signature nobody has checked."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.c2ln"
