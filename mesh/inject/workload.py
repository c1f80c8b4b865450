"""Which workload a pod belongs to, from the pod alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_CRON_MINUTES: Final = range(25_000_000, 45_000_000)  # minutes since 1970: 2017 to 2055
_LABEL_LENGTH: Final = 63


@dataclass(frozen=True)
class Workload:
    """Kind in lower case (`deployment`, `pod`) and name (may be "" for a pod still unnamed)."""

    kind: str
    name: str

    @property
    def label(self) -> str:
        """The name as a label's value: at most 63 characters, ending in a letter or digit."""
        return self.name[:_LABEL_LENGTH].rstrip("-_.")


def find_workload(pod: Mapping[str, Any]) -> Workload:
    """The controller that a person would name.

    A ReplicaSet whose name ends in the pod's own template hash is its Deployment's; a Job
    whose name ends in the minute of its schedule is its CronJob's (dates such as 20240131 lie
    outside the minutes that can occur).
    """
    meta = pod.get("metadata") or {}
    owner = controller_of(pod)
    if owner is None:
        name = meta.get("name") or str(meta.get("generateName") or "").rstrip("-")
        return Workload("pod", name)
    kind, name = str(owner.get("kind", "")).lower(), str(owner.get("name", ""))
    stem, _, tail = name.rpartition("-")
    if (
        kind == "replicaset"
        and stem
        and tail == (meta.get("labels") or {}).get("pod-template-hash")
    ):
        return Workload("deployment", stem)
    if kind == "job" and stem and re.fullmatch(r"\d{8}", tail) and int(tail) in _CRON_MINUTES:
        return Workload("cronjob", stem)
    return Workload(kind, name)


def controller_of(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner reference of the pod's controller, or None for a bare pod."""
    for owner in (pod.get("metadata") or {}).get("ownerReferences") or []:
        if isinstance(owner, Mapping) and owner.get("controller"):
            return owner
    return None
