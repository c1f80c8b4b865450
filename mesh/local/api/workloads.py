"""Jobs, CronJobs, StatefulSets and DaemonSets: how each begins, what is refused, what is frozen.

Pure. What the controllers here do not carry out is refused with a name, never ignored.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mesh.local.api.podvalidation import pod_spec_faults
from mesh.local.api.resources import Object
from mesh.local.api.schedule import parse_schedule
from mesh.local.api.status import Fault, bad, forbidden_field, required, unsupported

JOB_UID: Final = ("batch.kubernetes.io/controller-uid", "controller-uid")
JOB_NAME: Final = ("batch.kubernetes.io/job-name", "job-name")
DAEMON_SET_NUMBERS: Final = (
    *("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"),
)
LONGEST_CRON_NAME: Final = 52  # a Job's name adds eleven characters
_NO_JOB: Final = ("podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "maxFailedIndexes")
_FREE: Final = ("replicas", "template", "updateStrategy", "minReadySeconds", "ordinals")


def begin_job(job: Object) -> None:
    """Give a new Job the selector and labels by which it finds its pods; needs its uid."""
    spec, meta = job["spec"], job["metadata"]
    template = spec.setdefault("template", {})
    marks = dict.fromkeys(JOB_UID, meta["uid"]) | dict.fromkeys(JOB_NAME, meta["name"])
    given = template.setdefault("metadata", {})
    given["labels"] = {**(given.get("labels") or {}), **marks}
    if not spec.get("manualSelector"):
        spec["selector"] = {"matchLabels": {JOB_UID[0]: meta["uid"]}}
    if not meta.get("labels"):
        meta["labels"] = dict(given["labels"])
    job["status"] = {}


def job_faults(spec: Object, path: str) -> Iterator[Fault]:
    """What is wrong with a Job's spec, also in a template."""
    for field in ("parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished"):
        value = spec.get(field)
        if isinstance(value, int) and value < 0:
            yield bad(f"{path}.{field}", value, "must be greater than or equal to 0")
    for field in _NO_JOB:
        if spec.get(field) is not None:
            yield forbidden_field(f"{path}.{field}", f"mesh local has no {field}")
    if spec.get("completionMode") not in (None, "NonIndexed"):
        yield unsupported(f"{path}.completionMode", spec["completionMode"], ("NonIndexed",))
    inner = (spec.get("template") or {}).get("spec")
    if not isinstance(inner, dict):
        yield required(f"{path}.template.spec.containers")
        return
    yield from pod_spec_faults(inner, f"{path}.template.spec")
    if inner.get("restartPolicy") not in ("OnFailure", "Never"):
        known = ("OnFailure", "Never")
        yield unsupported(f"{path}.template.spec.restartPolicy", inner.get("restartPolicy"), known)


def cron_job_faults(cron_job: Object) -> Iterator[Fault]:
    """What is wrong with a CronJob."""
    spec, name = cron_job["spec"], cron_job["metadata"].get("name") or ""
    if len(name) > LONGEST_CRON_NAME:
        yield bad("metadata.name", name, f"must be no more than {LONGEST_CRON_NAME} characters")
    try:
        parse_schedule(str(spec.get("schedule") or ""))
    except ValueError as error:
        yield bad("spec.schedule", spec.get("schedule"), str(error))
    if spec.get("timeZone"):
        try:
            zoneinfo.ZoneInfo(spec["timeZone"])
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            yield bad("spec.timeZone", spec["timeZone"], f"unknown time zone {spec['timeZone']}")
    policies = ("Allow", "Forbid", "Replace")
    if spec.get("concurrencyPolicy") not in policies:
        yield unsupported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), policies)
    yield from job_faults(
        (spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec"
    )


def stateful_set_faults(stateful_set: Object) -> Iterator[Fault]:
    """What is wrong with a StatefulSet beyond what is wrong with any workload."""
    spec = stateful_set["spec"]
    if spec.get("volumeClaimTemplates"):
        yield forbidden_field("spec.volumeClaimTemplates", "mesh local has no volume claims")
    strategy = spec.get("updateStrategy") or {}
    if (strategy.get("rollingUpdate") or {}).get("partition"):
        path = "spec.updateStrategy.rollingUpdate.partition"
        yield forbidden_field(path, "mesh local has no partitions")
    known = ("OrderedReady", "Parallel")
    if spec.get("podManagementPolicy") not in known:
        yield unsupported("spec.podManagementPolicy", spec.get("podManagementPolicy"), known)
    yield from _strategy_faults(strategy)


def daemon_set_faults(daemon_set: Object) -> Iterator[Fault]:
    """What is wrong with a DaemonSet beyond what is wrong with any workload."""
    yield from _strategy_faults(daemon_set["spec"].get("updateStrategy") or {})


def _strategy_faults(strategy: Mapping[str, Any]) -> Iterator[Fault]:
    known = ("RollingUpdate", "OnDelete")
    if strategy.get("type") not in known:
        yield unsupported("spec.updateStrategy.type", strategy.get("type"), known)


def stateful_set_change(obj: Object, old: Object) -> Iterator[Fault]:
    """What may not change."""
    frozen = [
        {key: value for key, value in item["spec"].items() if key not in _FREE}
        for item in (obj, old)
    ]
    if frozen[0] != frozen[1]:
        words = ", ".join(f"'{field}'" for field in sorted(_FREE))
        yield forbidden_field(
            "spec", f"updates to statefulset spec for fields other than {words} are forbidden"
        )


def job_change(obj: Object, old: Object) -> Iterator[Fault]:
    """What may not change."""
    for field in ("selector", "completions", "template", "completionMode"):
        new, before = obj["spec"].get(field), old["spec"].get(field)
        if new != before:
            yield bad(f"spec.{field}", new, "field is immutable")
