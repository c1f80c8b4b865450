"""CronJobs: a Job each time one is due, and no more old ones than wanted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from mesh.core.errors import ApiError
from mesh.local.api.schedule import parse_schedule
from mesh.local.api.server import Api
from mesh.local.controllers.jobs import RESOURCE as JOBS
from mesh.local.controllers.jobs import end_of, is_over
from mesh.local.controllers.loop import Key, Loop, controller_of, key_of, owned_by, owner_reference
from mesh.local.controllers.pods import parse_time
from mesh.local.node.events import Recorder
from mesh.local.node.follow import follow
from mesh.local.node.podstatus import timestamp

Object = dict[str, Any]
RESOURCE = "cronjobs.batch"
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_LONGEST = 3600.0  # seconds until a look at the clock again


def due_at(cron_job: Object, now: float) -> tuple[float | None, float | None]:
    """(the last due time that was not served, the next one); unix seconds, None for none."""
    spec, state = cron_job["spec"], cron_job.get("status") or {}
    schedule = parse_schedule(spec["schedule"])
    zone = ZoneInfo(spec["timeZone"]) if spec.get("timeZone") else UTC
    since = state.get("lastScheduleTime") or cron_job["metadata"]["creationTimestamp"]
    begun = parse_time(since)
    deadline = spec.get("startingDeadlineSeconds")
    if deadline is not None:
        begun = max(begun, now - float(deadline))
    begun = max(begun, now - 86400.0)  # a node that was down for long serves only the last one
    last: float | None = None
    due = schedule.next_after(datetime.fromtimestamp(begun, zone))
    while due is not None and due.timestamp() <= now:
        last = due.timestamp()
        due = schedule.next_after(due)
    return last, None if due is None else due.timestamp()


def new_job(cron_job: Object, at: float) -> Object:
    """The Job of one due time: named by its minute, so that it is made once."""
    template, meta = cron_job["spec"]["jobTemplate"], cron_job["metadata"]
    given = template.get("metadata") or {}
    annotations = {**(given.get("annotations") or {}), SCHEDULED_AT: timestamp(at)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{meta['name']}-{int(at) // 60}",
            "namespace": meta["namespace"],
            "labels": dict(given.get("labels") or {}),
            "annotations": annotations,
            "ownerReferences": [owner_reference(cron_job)],
        },
        "spec": template["spec"],
    }


def surplus(cron_job: Object, jobs: Iterable[Object]) -> list[Object]:
    """Jobs that have ended and are more than the history keeps."""
    found: list[Object] = []
    limits = {"Complete": "successfulJobsHistoryLimit", "Failed": "failedJobsHistoryLimit"}
    jobs = sorted(jobs, key=lambda job: str((job.get("status") or {}).get("startTime", "")))
    for end, limit in limits.items():
        ended = [job for job in jobs if end_of(job) == end]
        found += ended[: max(0, len(ended) - int(cron_job["spec"][limit]))]
    return found


def status(cron_job: Object, jobs: Iterable[Object], scheduled: float | None) -> Object:
    """The status: Jobs that go on, the last time one was made, the last good end."""
    made = dict(cron_job.get("status") or {})
    active, ends = [], [made.get("lastSuccessfulTime") or ""]
    for job in jobs:
        if not is_over(job):
            meta = job["metadata"]
            kept = {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion")}
            active.append({"apiVersion": "batch/v1", "kind": "Job", **kept})
        elif end_of(job) == "Complete":
            ends.append(job["status"]["completionTime"])
    if scheduled is not None:
        made["lastScheduleTime"] = timestamp(scheduled)
    made["active"], made["lastSuccessfulTime"] = active, max(ends)
    return {key: value for key, value in made.items() if value}


class CronJobs:
    """The controller of CronJobs."""

    def __init__(self, api: Api, recorder: Recorder) -> None:
        self._api = api
        self._recorder = recorder
        self._loop = Loop("cronjob", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(self._api.store, RESOURCE, self._saw))
                group.create_task(follow(self._api.store, JOBS, self._saw_job))
        finally:
            self._loop.stop()

    def _saw(self, _: str, cron_job: Object) -> None:
        self._loop.add(key_of(cron_job))

    def _saw_job(self, _: str, job: Object) -> None:
        key = controller_of(job, "CronJob")
        if key is not None:
            self._loop.add(key)

    def _jobs(self, cron_job: Object) -> list[Object]:
        meta = cron_job["metadata"]
        found = self._api.store.list(JOBS, meta["namespace"])
        return [job for job in found if owned_by(job, meta["uid"])]

    async def _reconcile(self, key: Key) -> float | None:
        store, now = self._api.store, time.time()
        cron_job = store.find(RESOURCE, *key)
        if cron_job is None or "deletionTimestamp" in cron_job["metadata"]:
            return None
        for job in surplus(cron_job, self._jobs(cron_job)):
            self._delete(cron_job, job)
        last, following = due_at(cron_job, now)
        if cron_job["spec"].get("suspend"):
            last = None
        if last is not None and not await self._start(cron_job, last):
            last = None
        fresh = status(cron_job, self._jobs(cron_job), last)
        if fresh != cron_job.get("status"):
            store.update(RESOURCE, {**cron_job, "status": fresh}, subresource="status")
        return None if following is None else min(max(0.1, following - now), _LONGEST)

    async def _start(self, cron_job: Object, at: float) -> bool:
        """Make the Job of a due time, as the policy has it; whether that time is served."""
        policy = cron_job["spec"]["concurrencyPolicy"]
        active = [job for job in self._jobs(cron_job) if not is_over(job)]
        if active and policy == "Forbid":
            text = "Not starting job because prior execution is running and concurrency policy is"
            self._recorder.event(cron_job, "JobAlreadyActive", f"{text} Forbid")
            return False
        if policy == "Replace":
            for job in active:
                self._delete(cron_job, job)
        try:
            made = await self._api.create(JOBS, new_job(cron_job, at))
        except ApiError as error:
            if error.code == 409:
                return True
            text = f"Error creating job: {error.message}"
            self._recorder.event(cron_job, "FailedCreate", text, warning=True)
            return False
        self._recorder.event(
            cron_job, "SuccessfulCreate", f"Created job {made['metadata']['name']}"
        )
        return True

    def _delete(self, cron_job: Object, job: Object) -> None:
        meta = job["metadata"]
        self._api.store.delete(JOBS, meta["namespace"], meta["name"], uid=meta["uid"])
        text = f"Deleted job {meta['name']}"
        self._recorder.event(cron_job, "SuccessfulDelete", text)
