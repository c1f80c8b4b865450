"""One pod on the node, from its binding to its removal: the shell around `podstate.decide`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

from mesh.core.errors import ApiError, ConfigError, MeshError
from mesh.local.node import podplan, volumes
from mesh.local.node.capabilities import CreateError
from mesh.local.node.containers import Container
from mesh.local.node.context import Node, machine_size
from mesh.local.node.podstate import Record, State, decide, is_sidecar
from mesh.local.node.podstatus import Facts, pod_status
from mesh.local.node.spawn import SpawnError

Object = dict[str, Any]
_RETRY = 1.0  # seconds until a mount or a network that failed is tried again
_REFRESH = 0.7  # of a token's life
_LAST_GRACE = 2.0  # seconds for a sidecar when the applications used up the grace period

log = logging.getLogger(__name__)


class PodWorker:
    """Runs one pod. `update` and `removed` tell what the API says; `run` does the work."""

    def __init__(self, node: Node, pod: Object) -> None:
        self.node = node
        self._stored = pod
        self.pod = pod
        meta = pod["metadata"]
        self.uid: str = meta["uid"]
        self.folder = node.run / "pods" / self.uid
        self.network = -1
        self._addresses: tuple[str, ...] = ()
        self._wake = asyncio.Event()
        self._removed = False
        self._stale_volumes = False
        self._refresh_at: float | None = None
        self._initialized = False
        self._phase = ""
        self._start_time = time.time()
        self._starter: asyncio.Task[None] | None = None
        spec = self.pod["spec"]
        self.containers: dict[str, Container] = {}
        for init, entries in (
            (True, spec.get("initContainers") or ()),
            (False, spec["containers"]),
        ):
            for entry in entries:
                self.containers[entry["name"]] = Container(self, entry, init=init)
        self._recall(pod.get("status") or {})

    # -- what others say -------------------------------------------------------------------

    def update(self, pod: Object) -> None:
        """A newer version of the pod from the API."""
        self._stored = pod
        self.pod = {**pod, "spec": self.pod["spec"]}
        self._wake.set()

    def removed(self) -> None:
        """The pod is no longer in the API: end everything now."""
        self._removed = True
        self._wake.set()

    def refresh(self) -> None:
        """A ConfigMap or Secret of the namespace changed."""
        self._stale_volumes = True
        self._wake.set()

    def changed(self) -> None:
        """A container changed."""
        self._wake.set()

    @property
    def address(self) -> str:
        """The pod's first address, where probes go."""
        return self._addresses[0] if self._addresses else ""

    @property
    def _deleting(self) -> bool:
        return "deletionTimestamp" in self._stored["metadata"]

    def _recall(self, status: Object) -> None:
        """After a restart of the node: what the last run's status says about containers."""
        self._phase = status.get("phase", "") if status.get("phase") in _OVER else ""
        entries = [
            *(status.get("initContainerStatuses") or ()),
            *(status.get("containerStatuses") or ()),
        ]
        for entry in entries:
            container = self.containers.get(entry.get("name", ""))
            if container is None:
                continue
            container.record.restarts = int(entry.get("restartCount") or 0)
            if "waiting" in (entry.get("state") or {}):
                continue
            _lost(container.record, entry, again=container.init)

    # -- the loop --------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the pod is gone. Never raises but for cancellation."""
        try:
            if not self._phase:
                await self._set_up()
                await self._live()
            await self._wait_for_deletion()
            await self._end()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("pod worker failed pod=%s", self._name)
        finally:
            self._tear_down()

    @property
    def _name(self) -> str:
        meta = self._stored["metadata"]
        return f"{meta['namespace']}/{meta['name']}"

    async def _set_up(self) -> None:
        while not (self._deleting or self._removed):
            try:
                await self._make_network()
                self._make_etc()
                await self._make_volumes()
                return
            except (CreateError, ApiError) as error:
                self.node.recorder.event(
                    self._stored,
                    "FailedMount",
                    f"MountVolume.SetUp failed: {error}",
                    warning=True,
                )
            except (SpawnError, ConfigError, OSError) as error:
                self.node.recorder.event(
                    self._stored,
                    "FailedCreatePodSandBox",
                    f"Failed to create pod sandbox: {error}",
                    warning=True,
                )
            for container in self.containers.values():
                container.record.reason = "ContainerCreating"
            self._publish()
            await self._pause(time.time() + _RETRY)

    async def _make_network(self) -> None:
        if self.network >= 0:
            return
        node = self.node
        if self.pod["spec"].get("hostNetwork"):
            self.network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._addresses = node.host_addresses
            return
        taken = [node.pod_addresses.take()]
        if node.pod_addresses6 is not None:
            taken.append(node.pod_addresses6.take())
        self._addresses = tuple(taken)
        pair = (taken[0], taken[1] if len(taken) > 1 else "")
        link = "p" + self.uid.replace("-", "")[:12]
        host = (node.ranges.node, node.ranges.node6)
        try:
            self.network = await node.spawner.sandbox(link, pair, host)
        except BaseException:
            self._release_addresses()
            raise

    def _release_addresses(self) -> None:
        for address in self._addresses:
            self.node.pod_addresses.release(address)
            if self.node.pod_addresses6 is not None:
                self.node.pod_addresses6.release(address)
        self._addresses = ()

    def _make_etc(self) -> None:
        folder = self.folder / "etc"
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in podplan.etc_files(self.node, self.pod, self._addresses).items():
            (folder / name).write_text(text)

    async def _make_volumes(self) -> None:
        pod = self._with_addresses()
        tokens: dict[volumes.TokenKey, str] = {}
        for key in volumes.wanted_tokens(pod):
            tokens[key] = await self.node.issue_token(self._stored, *key)
            due = time.time() + key[1] * _REFRESH
            self._refresh_at = min(due, self._refresh_at or due)
        lookup = self.node.lookup(pod["metadata"]["namespace"])
        for volume in volumes.volumes(pod):
            made = volumes.files(pod, volume, lookup, tokens, machine_size())
            folder = self.folder / "volumes" / volume["name"]
            if made is not None:
                volumes.write_files(folder, made, pod)
            elif "hostPath" not in volume:
                volumes.make_empty(folder, volume, pod)

    def _with_addresses(self) -> Object:
        """The pod with the addresses in its status, which fieldRefs read."""
        status = {
            **(self.pod.get("status") or {}),
            "podIP": self.address,
            "podIPs": [{"ip": address} for address in self._addresses],
            "hostIP": self.node.ranges.node,
            "hostIPs": [{"ip": address} for address in self.node.host_addresses],
        }
        return {**self.pod, "status": status}

    async def _live(self) -> None:
        while not (self._deleting or self._removed):
            self._wake.clear()
            if self._volumes_due():
                await self._update_volumes()
            busy = self.containers if self._starting else ()
            decision = decide(
                self.pod["spec"],
                self._records,
                now=time.time(),
                busy=busy,
                initialized=self._initialized,
            )
            self._initialized = self._initialized or decision.initialized
            if decision.finishing:
                await self._finish(decision.phase)
                return
            if decision.start:
                self.pod = self._with_addresses()
                work = self._start_all(decision.start)
                self._starter = asyncio.get_running_loop().create_task(work)
            self._publish()
            wakes = [at for at in (decision.wake_at, self._refresh_at) if at is not None]
            await self._pause(min(wakes) if wakes else None)

    @property
    def _records(self) -> dict[str, Record]:
        return {name: container.record for name, container in self.containers.items()}

    @property
    def _starting(self) -> bool:
        return self._starter is not None and not self._starter.done()

    async def _start_all(self, names: tuple[str, ...]) -> None:
        """One after the other: a postStart hook holds back the containers behind it."""
        try:
            for name in names:
                await self.containers[name].start()
        finally:
            self._wake.set()

    def _volumes_due(self) -> bool:
        return self._stale_volumes or (
            self._refresh_at is not None and self._refresh_at <= time.time()
        )

    async def _update_volumes(self) -> None:
        self._stale_volumes, self._refresh_at = False, None
        try:
            await self._make_volumes()
        except (MeshError, OSError) as error:
            self._refresh_at = time.time() + 10 * _RETRY
            log.warning("volumes not refreshed pod=%s error=%s", self._name, error)

    async def _pause(self, until: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if until is None else max(0.0, until - time.time())):
                await self._wake.wait()

    # -- ends ------------------------------------------------------------------------------

    async def _finish(self, phase: str) -> None:
        """The applications are done: end the sidecars, then say so."""
        await self._stop_all(self._grace())
        self._phase = phase
        self._publish()
        self._release_network()

    async def _wait_for_deletion(self) -> None:
        while not (self._deleting or self._removed):
            self._wake.clear()
            await self._wake.wait()

    def _grace(self) -> float:
        meta, spec = self._stored["metadata"], self._stored["spec"]
        value = meta.get("deletionGracePeriodSeconds")
        if value is None:
            value = spec.get("terminationGracePeriodSeconds")
        return 30.0 if value is None else float(value)

    async def _end(self) -> None:
        if self._starter is not None:
            self._starter.cancel()
            await asyncio.wait([self._starter])
        stopping = asyncio.get_running_loop().create_task(self._stop_all(self._grace()))
        while not stopping.done():
            self._wake.clear()
            if self._removed:
                for container in self.containers.values():
                    container.kill()
            else:
                self._publish()
            woken = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait([stopping, woken], return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
        if self._removed:
            return
        self._publish()
        meta = self._stored["metadata"]
        while not self._removed:
            self._wake.clear()
            try:
                self.node.api.store.finalize_delete(
                    "pods", meta["namespace"], meta["name"], uid=self.uid
                )
                return
            except ApiError as error:
                if error.code in (404, 409):
                    return
                log.warning("pod not removed pod=%s error=%s", self._name, error)
            await self._pause(time.time() + _RETRY)

    async def _stop_all(self, grace: float) -> None:
        """Applications together, then native sidecars from the last to the first."""
        deadline = time.monotonic() + grace
        inits = {entry["name"]: entry for entry in self.pod["spec"].get("initContainers") or ()}
        first = [
            container
            for name, container in self.containers.items()
            if not (name in inits and is_sidecar(inits[name]))
        ]
        for container in self.containers.values():
            if container.record.state is State.RUNNING:
                text = f"Stopping container {container.name}"
                self.node.recorder.event(self._stored, "Killing", text)
        await asyncio.gather(*(container.stop(grace) for container in first))
        for name in reversed(inits):
            if is_sidecar(inits[name]):
                left = max(deadline - time.monotonic(), _LAST_GRACE) if grace > 0 else 0.0
                await self.containers[name].stop(left)

    def _publish(self) -> None:
        """Write the pod's status where it differs from the stored one."""
        meta = self._stored["metadata"]
        try:
            current = self.node.api.store.peek("pods", meta["namespace"], meta["name"])
        except ApiError:
            return
        if current["metadata"]["uid"] != self.uid:
            return
        facts = Facts(
            addresses=self._addresses,
            host=self.node.host_addresses,
            initialized=self._initialized,
            phase=self._phase,
            start_time=self._start_time,
        )
        status = pod_status(current, self._records, facts, now=time.time())
        if status == current.get("status"):
            return
        with contextlib.suppress(ApiError):
            self.node.api.store.update("pods", {**current, "status": status}, subresource="status")

    def _release_network(self) -> None:
        if self.network >= 0:
            os.close(self.network)
            self.network = -1
        if not self.pod["spec"].get("hostNetwork"):
            self._release_addresses()

    def _tear_down(self) -> None:
        for container in self.containers.values():
            container.kill()
        self._release_network()
        volumes.remove(self.folder / "volumes")
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._deleting or self._removed:
            meta = self._stored["metadata"]
            logs: Path = self.node.logs / meta["namespace"] / meta["name"]
            shutil.rmtree(logs, ignore_errors=True)


_OVER = ("Succeeded", "Failed")


def _lost(record: Record, entry: Object, *, again: bool) -> None:
    """A container that ran before the node was restarted: its end is not known."""
    state = entry.get("state") or {}
    record.container_id = entry.get("containerID", "")
    if again:
        record.restarts += 1
        return
    old = state.get("terminated") or {}
    record.state = State.TERMINATED
    record.exit_code = int(old.get("exitCode", 255))
    record.reason = old.get("reason") or "ContainerStatusUnknown"
    record.message = old.get("message") or "the node was restarted"
    record.started_at = record.finished_at = time.time()
