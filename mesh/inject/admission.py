"""AdmissionReview (admission.k8s.io/v1) in, AdmissionReview out. Pure: no sockets, no clock.

A review that is not one is a PeerError with status 400. Pods are always allowed; of routing
objects only those are refused of which nothing could take effect.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mesh.core.errors import PeerError
from mesh.inject.jsonpatch import Op

API_VERSION: Final = "admission.k8s.io/v1"
MAX_WARNINGS: Final = 16
MAX_REFUSAL: Final = 1000  # characters
MAX_WARNING: Final = 250  # characters; kubectl prints each on one line


@dataclass(frozen=True)
class Review:
    """What the API server asks about."""

    uid: str
    kind: str
    namespace: str
    obj: Mapping[str, Any]
    dry_run: bool
    user: str = ""
    old: Mapping[str, Any] | None = None


def parse_review(body: bytes) -> Review:
    """Raises PeerError, with a reason and status 400, for anything but an AdmissionReview v1."""
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PeerError("not-json", f"expected an AdmissionReview as JSON: {error}") from error
    request = review.get("request") if isinstance(review, dict) else None
    if not isinstance(request, dict) or review.get("apiVersion") != API_VERSION:
        raise PeerError("not-a-review", f"expected an AdmissionReview of {API_VERSION}")
    uid, obj = request.get("uid"), request.get("object")
    if not isinstance(uid, str) or not isinstance(obj, dict):
        raise PeerError("not-a-review", "expected a request with uid and object")
    return Review(
        uid=uid,
        kind=_text(obj.get("kind")) or _text(_map(request.get("kind")).get("kind")),
        namespace=_text(request.get("namespace")),
        obj=obj,
        dry_run=request.get("dryRun") is True,
        user=_text(_map(request.get("userInfo")).get("username")),
        old=old if isinstance(old := request.get("oldObject"), dict) else None,
    )


def answer(
    uid: str,
    *,
    patch: Sequence[Op] = (),
    warnings: Sequence[str] = (),
    refusal: str = "",
) -> dict[str, Any]:
    """Allowed, with a patch when there is something to change, or refused with a reason."""
    response: dict[str, Any] = {"uid": uid, "allowed": not refusal}
    if refusal:
        response["status"] = {
            "code": 422,
            "reason": "Invalid",
            "message": f"mesh: {refusal[:MAX_REFUSAL]}",
        }
    if patch:
        text = json.dumps(list(patch), separators=(",", ":"))
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(text.encode()).decode("ascii")
    if warnings:
        response["warnings"] = clip_warnings(warnings)
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def clip_warnings(warnings: Sequence[str]) -> list[str]:
    """Short single lines, at most 16, the last of which tells how many were left out."""
    lines = [" ".join(f"mesh: {text}".split())[:MAX_WARNING] for text in warnings]
    if len(lines) > MAX_WARNINGS:
        more = len(lines) - MAX_WARNINGS + 1
        lines = [*lines[: MAX_WARNINGS - 1], f"mesh: {more} more warnings"]
    return lines


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
