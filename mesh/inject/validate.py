"""Routing objects as `kubectl apply` shows them: warned about, or refused where nothing reads.

The readers of destination judge, through the rules of lint. An object is refused only when
nothing of it could take effect, and never an update that leaves its content as it was, nor one
on its way out: finalizers and labels must stay changeable. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh.core import labels
from mesh.lint.rules.alone import judge_alone


@dataclass(frozen=True, slots=True)
class Validation:
    """Warnings, and the reason for a refusal ("" for none)."""

    warnings: tuple[str, ...] = ()
    refusal: str = ""


def validate(
    obj: Mapping[str, Any],
    old: Mapping[str, Any] | None = None,
    cluster_domain: str = labels.CLUSTER_DOMAIN,
) -> Validation:
    """Judge one object; `old` is what an update changes."""
    judged = judge_alone(obj, cluster_domain)
    if not judged.is_rejected:
        return Validation(judged.texts)
    meta = obj.get("metadata")
    is_leaving = isinstance(meta, Mapping) and bool(meta.get("deletionTimestamp"))
    is_same = old is not None and _content(old) == _content(obj)
    if is_leaving or is_same:
        return Validation(judged.texts)
    return Validation((), "; ".join(judged.texts) or "nothing in this object can be honoured")


def _content(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in ("metadata", "status")}
