"""Jobs: pods until enough of them have succeeded, or too many have failed.

`Tally` and `decide` are pure. A pod carries a finalizer until its end has been counted, so that
each counts once, also over a restart and when somebody deletes it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api.server import Api
from mesh.local.controllers.loop import Key, controller_of
from mesh.local.controllers.owners import AGAIN, PodOwners, pod_from
from mesh.local.controllers.pods import parse_time, ready_since
from mesh.local.node.events import Recorder
from mesh.local.node.podstatus import timestamp

Object = dict[str, Any]
RESOURCE = "jobs.batch"
FINALIZER = "batch.kubernetes.io/job-tracking"
BACKOFF_FIRST, BACKOFF_LONGEST = 1.0, 30.0  # seconds after a pod that failed; shorter than a real
_OVER = ("Succeeded", "Failed")


def new_pod(job: Object) -> Object:
    """A pod from the template."""
    made = pod_from(job, job["spec"]["template"])
    meta = made["metadata"]
    meta["generateName"] = f"{job['metadata']['name']}-"
    meta["finalizers"] = [FINALIZER, *meta.get("finalizers", ())]
    return made


@dataclass(frozen=True, slots=True)
class Tally:
    """A Job's pods: `fresh` have ended and were not counted yet, `active` go on."""

    succeeded: int
    failed: int
    active: tuple[Object, ...]
    fresh: tuple[Object, ...]
    restarts: int  # of containers in pods that are started again in place


def tally(job: Object, pods: Iterable[Object]) -> Tally:
    """Count; what was counted before stands in the status."""
    state = job.get("status") or {}
    succeeded, failed = int(state.get("succeeded") or 0), int(state.get("failed") or 0)
    active, fresh, restarts = [], [], 0
    for pod in pods:
        meta, phase = pod["metadata"], (pod.get("status") or {}).get("phase")
        is_over = phase in _OVER or "deletionTimestamp" in meta
        if not is_over:
            active.append(pod)
            restarts += _restarts(pod)
        elif FINALIZER in (meta.get("finalizers") or ()):
            fresh.append(pod)
            succeeded += phase == "Succeeded"
            failed += phase != "Succeeded"
    return Tally(succeeded, failed, tuple(active), tuple(fresh), restarts)


def _restarts(pod: Object) -> int:
    state = pod.get("status") or {}
    listed = [*(state.get("initContainerStatuses") or ()), *(state.get("containerStatuses") or ())]
    sidecars = {
        entry["name"]
        for entry in pod["spec"].get("initContainers") or ()
        if entry.get("restartPolicy") == "Always"
    }
    return sum(int(one.get("restartCount") or 0) for one in listed if one["name"] not in sidecars)


def outcome(job: Object, count: Tally, now: float) -> tuple[str, str, str]:
    """(Complete or Failed, reason, message) once a Job is over; empty before."""
    spec, state = job["spec"], job.get("status") or {}
    wanted = spec.get("completions")
    if wanted is None:
        if count.succeeded and not count.active:
            return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    elif count.succeeded >= wanted:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    limit = int(spec.get("backoffLimit", 6))
    if count.failed > limit or count.restarts > limit or (count.restarts and not limit):
        text = "Job has reached the specified backoff limit"
        return "Failed", "BackoffLimitExceeded", text
    deadline, begun = spec.get("activeDeadlineSeconds"), state.get("startTime")
    if deadline is not None and begun and now - parse_time(begun) >= deadline:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    return "", "", ""


def missing(job: Object, count: Tally) -> int:
    """How many pods to make now; less than nothing: to end."""
    spec = job["spec"]
    if spec.get("suspend"):
        return -len(count.active)
    parallel = int(spec.get("parallelism", 1))
    if spec.get("completions") is None:
        wanted = len(count.active) if count.succeeded else parallel
    else:
        wanted = int(spec["completions"]) - count.succeeded
    return min(parallel, wanted) - len(count.active)


def status(job: Object, count: Tally, now: float) -> Object:
    """The status, with how the Job ended once it did."""
    made = {**(job.get("status") or {}), "uncountedTerminatedPods": {}}
    if not job["spec"].get("suspend"):
        made.setdefault("startTime", timestamp(now))
    numbers = {
        "active": len(count.active),
        "ready": sum(ready_since(pod) is not None for pod in count.active),
        "succeeded": count.succeeded,
        "failed": count.failed,
    }
    for key, value in numbers.items():
        if value or key == "ready":
            made[key] = value
        else:
            made.pop(key, None)
    kind, reason, message = outcome(job, count, now)
    conditions = list(made.get("conditions") or ())
    if kind:
        made["ready"] = 0
        made.pop("active", None)
        if kind == "Complete":
            conditions.append(_condition("SuccessCriteriaMet", reason, message, now))
            made["completionTime"] = timestamp(now)
        conditions.append(_condition(kind, reason, message, now))
    made["conditions"] = conditions
    return {key: value for key, value in made.items() if value != []}


def _condition(kind: str, reason: str, message: str, now: float) -> Object:
    at = timestamp(now)
    times = {"lastProbeTime": at, "lastTransitionTime": at}
    return {"type": kind, "status": "True", "reason": reason, "message": message, **times}


def is_over(job: Object) -> bool:
    """Whether a Job has ended, well or not."""
    return bool(end_of(job))


def end_of(job: Object) -> str:
    """Complete or Failed; empty for a Job that goes on."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def wait_for_retry(pods: Iterable[Object], failed: int, now: float) -> float:
    """Seconds until the next pod may be made after the last one that failed."""
    ended = [
        parse_time(state["terminated"]["finishedAt"])
        for pod in pods
        if (pod.get("status") or {}).get("phase") == "Failed"
        for one in pod["status"].get("containerStatuses") or ()
        if "terminated" in (state := one["state"]) and state["terminated"].get("finishedAt")
    ]
    if not failed or not ended:
        return 0.0
    pause = min(BACKOFF_FIRST * 2 ** min(failed - 1, 10), BACKOFF_LONGEST)
    return float(max(0.0, max(ended) + pause - now))


class Jobs:
    """The controller of Jobs."""

    def __init__(self, api: Api, recorder: Recorder) -> None:
        self._api = api
        self._recorder = recorder
        self._owners = PodOwners(api, recorder, RESOURCE, "Job", self._reconcile)

    async def run(self) -> None:
        """Until cancelled."""
        await self._owners.run()

    async def _reconcile(self, key: Key) -> float | None:
        owners, now = self._owners, time.time()
        job = owners.find(key)
        if job is None or "deletionTimestamp" in job["metadata"]:
            self._let_go(key)
            return None
        pods = owners.pods(job)
        if is_over(job):
            count = tally(job, pods)
            owners.delete(job, count.active)
            self._counted(count.fresh)
            return self._expire(job, now)
        count = tally(job, pods)
        pause = wait_for_retry(pods, count.failed, now)
        owners.publish(job, status(job, count, now))
        self._counted(count.fresh)
        job = owners.find(key)
        if job is None:
            return None
        if is_over(job):
            return self._ended(job, count)
        return await self._scale(job, count, pause, now)

    async def _scale(self, job: Object, count: Tally, pause: float, now: float) -> float | None:
        wanted = missing(job, count)
        if wanted < 0:
            self._owners.delete(job, count.active[wanted:])
        if wanted > 0 and pause > 0:
            return pause
        failure = await self._owners.create(job, [new_pod(job)] * max(0, wanted))
        if failure:
            return AGAIN
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline is None:
            return None
        begun: str | None = (job.get("status") or {}).get("startTime")
        return max(0.1, (parse_time(begun) if begun else now) + float(deadline) - now)

    def _ended(self, job: Object, count: Tally) -> float:
        if end_of(job) == "Complete":
            self._recorder.event(job, "Completed", "Job completed")
        else:
            last = job["status"]["conditions"][-1]
            self._recorder.event(job, last["reason"], last["message"], warning=True)
        self._owners.delete(job, count.active)
        return 0.0

    def _expire(self, job: Object, now: float) -> float | None:
        """Delete a Job whose time after its end is over; seconds until then."""
        after = job["spec"].get("ttlSecondsAfterFinished")
        if after is None:
            return None
        (ended,) = (
            parse_time(item["lastTransitionTime"])
            for item in job["status"]["conditions"]
            if item["type"] == end_of(job)
        )
        left = ended + float(after) - now
        if left > 0:
            return left
        meta = job["metadata"]
        self._api.store.delete(RESOURCE, meta["namespace"], meta["name"], uid=meta["uid"])
        return None

    def _counted(self, pods: Iterable[Object]) -> None:
        for pod in pods:
            self._release(pod)

    def _let_go(self, key: Key) -> None:
        """The Job is gone: its pods may go as well."""
        for pod in tuple(self._api.store.scan("pods", key[0])):
            if controller_of(pod, "Job") == key:
                self._release(pod)

    def _release(self, pod: Mapping[str, Any]) -> None:
        meta = pod["metadata"]
        left = [name for name in meta.get("finalizers") or () if name != FINALIZER]
        if left == list(meta.get("finalizers") or ()):
            return
        found = self._api.store.find("pods", meta["namespace"], meta["name"])
        if found is None or found["metadata"]["uid"] != meta["uid"]:
            return
        found["metadata"]["finalizers"] = left
        try:
            self._api.store.update("pods", found)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
