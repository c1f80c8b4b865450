"""Key, CSR, leaf and bundle of this process: get, hold, renew before the end.

Used by every role that speaks mesh TLS. The key is made anew for each leaf, by a short-lived
child (`python -m mesh.pki.csr`), so this process never imports cryptography. Key and chain lie
in one file, 0600, in a memory volume: one rename replaces both, and a restarted container goes
on with the leaf it had. Bundles that are pushed later lie in a disk volume; the newer of that
and the one in the environment counts at start (`mesh.runtime.bundle.choose_bundle`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import mesh
from mesh.core import labels
from mesh.core.errors import IdentityError
from mesh.core.names import WorkloadId
from mesh.runtime import tls
from mesh.runtime.bundle import choose_bundle, hash_bundle, is_older
from mesh.runtime.certify import Certifier, IdentityClient
from mesh.runtime.settings import setting
from mesh.runtime.tls import FilePath

RENEW_AT: Final = 0.70  # of the leaf's remaining life
RENEW_JITTER: Final = 0.05  # of that point
ALARM_AT: Final = 0.75
_FIRST_RETRY: Final = 0.2  # seconds; doubles
_MAX_RETRY: Final = 5.0  # without a valid leaf
_MAX_RENEW_RETRY: Final = 60.0  # with one
_MIN_RENEW: Final = 1.0
_LONGEST_SLEEP: Final = 30.0  # the wall clock may be set meanwhile
_CHILD_SECONDS: Final = 20.0

log = logging.getLogger(__name__)

# Makes a P-256 key (PKCS#8 PEM) in the given file, 0600, and gives the CSR in PEM.
MakeRequest = Callable[[str, WorkloadId], Awaitable[str]]


@dataclass(frozen=True)
class TrustSettings:
    """What a process needs to get a leaf. Roles inherit it; the injector writes it."""

    service_account: str = setting("MESH_SERVICE_ACCOUNT", "the pod's service account")
    namespace: str = setting("MESH_POD_NAMESPACE", "the pod's namespace")
    mesh_namespace: str = setting(
        "MESH_NAMESPACE", "the namespace of the control plane", default=labels.MESH_NAMESPACE
    )
    trust_domain: str = setting(
        "MESH_TRUST_DOMAIN", "the trust domain of all identities", default=labels.TRUST_DOMAIN
    )
    trust_bundle: str = setting("MESH_TRUST_BUNDLE", "the trust anchors in PEM", default="")
    identity_address: str = setting(
        "MESH_IDENTITY_ADDRESS",
        "host:port of identity",
        default=f"{labels.IDENTITY}.{labels.MESH_NAMESPACE}.svc.{labels.CLUSTER_DOMAIN}"
        f":{labels.IDENTITY_PORT}",
    )
    token_file: str = setting(
        "MESH_TOKEN_FILE",
        "the projected service account token with audience mesh-identity",
        default="/var/run/secrets/mesh/token",
    )
    key_dir: str = setting(
        "MESH_KEY_DIR",
        "a folder in memory for the private key",
        default="/var/run/mesh/keys",
    )
    state_dir: str = setting(
        "MESH_STATE_DIR",
        "a folder on disk for bundles pushed later",
        default="/var/run/mesh/state",
    )


class Credentials:
    """The credentials of one workload. All methods belong to the event loop's thread."""

    def __init__(
        self,
        *,
        workload: WorkloadId,
        certifier: Certifier,
        bundle: str,
        key_dir: FilePath,
        state_dir: FilePath,
        mesh_namespace: str = labels.MESH_NAMESPACE,
        make_request: MakeRequest | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.workload = workload
        self.identity = workload.dns(mesh_namespace)
        self.not_after = 0.0
        self.renew_at = 0.0  # unix seconds of the next attempt
        self.renewals = 0
        self.failures = 0
        self.last_reason = ""  # why the last attempt failed, "" after a success
        self._certifier = certifier
        self._make_request = make_request or run_request_child
        self._clock = clock
        self._key_dir = os.fspath(key_dir)
        self._leaf = os.path.join(key_dir, "credentials.pem")
        self._store = BundleStore(os.path.join(state_dir, "bundle.pem"), given=bundle)
        self.bundle = self._store.load()
        self._contexts: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._alarm_at = 0.0
        self._woken = asyncio.Event()

    @classmethod
    def from_settings(cls, settings: TrustSettings) -> Credentials:
        """The credentials of a process that asks identity over the network."""
        workload = WorkloadId(settings.trust_domain, settings.namespace, settings.service_account)
        return cls(
            workload=workload,
            certifier=IdentityClient(
                address=settings.identity_address,
                token_file=settings.token_file,
                trust_domain=settings.trust_domain,
                mesh_namespace=settings.mesh_namespace,
            ),
            bundle=settings.trust_bundle,
            key_dir=settings.key_dir,
            state_dir=settings.state_dir,
            mesh_namespace=settings.mesh_namespace,
        )

    @property
    def ready(self) -> bool:
        """Whether there is a leaf that has not ended."""
        return self.not_after > self._clock()

    def client_context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """The context for connections to mesh peers. Raises IdentityError without a leaf."""
        return self._context("client", tuple(alpn))

    def server_context(self, alpn: Sequence[str], *, require_client: bool = True) -> ssl.SSLContext:
        """The context for connections from mesh peers. Raises IdentityError without a leaf.

        `require_client=False` is for identity, whom peers ask before they have a leaf.
        """
        return self._context("server" if require_client else "open server", tuple(alpn))

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after each new leaf or bundle; contexts got before are then out of date."""
        self._callbacks.append(callback)

    def set_bundle(self, pem: str) -> None:
        """Put a pushed bundle in force. Never raises: an unusable or older one is ignored,
        which `hash_bundle(credentials.bundle)` then shows.
        """
        if pem == self.bundle:
            return
        digest = hash_bundle(pem)
        if not digest:
            log.error("bundle ignored reason=%s", "expected PEM certificates, got none")
            return
        if is_older(pem, than=self.bundle):
            log.info("bundle ignored reason=older sha256=%s", digest)
            return
        changed = digest != hash_bundle(self.bundle)
        if changed and not self._is_usable(pem):
            return
        self._store.save(pem)
        self.bundle = pem
        if changed:
            log.info("bundle in force sha256=%s", digest)
            self._check_leaf()
            self._changed()

    def renew_now(self) -> None:
        """Have `run` get a new leaf at once."""
        self.renew_at = 0.0
        self._woken.set()

    async def run(self) -> None:
        """Get the first leaf, then renew each in time, until cancelled. Never raises."""
        self._restore()
        while True:
            wait = self.renew_at - self._clock()
            if not hash_bundle(self.bundle):
                await self._wait_for_bundle()
                continue
            if wait > 0:
                await self._sleep(min(wait, _LONGEST_SLEEP))
                continue
            try:
                await self._renew()
            except IdentityError as error:
                self._failed(error.reason, str(error))
            except Exception as error:
                log.exception("leaf not renewed identity=%s", self.identity)
                self._failed("bug", str(error))

    async def _wait_for_bundle(self) -> None:
        if self.last_reason != "no-bundle":
            self.last_reason = "no-bundle"
            log.info("waiting for the trust bundle identity=%s", self.identity)
        await self._sleep(_LONGEST_SLEEP)

    # -- leaf -------------------------------------------------------------------------------

    async def _renew(self) -> None:
        key = os.path.join(self._key_dir, "key.pem")
        try:
            prepare_key_dir(self._key_dir)
            csr = await self._make_request(key, self.workload)
            issued = await self._certifier.certify(csr, self.bundle)
            candidate = os.path.join(self._key_dir, "candidate.pem")
            write_private(candidate, _read_text(key, "ascii") + issued.chain)
            if hash_bundle(issued.bundle) and not is_older(issued.bundle, than=self.bundle):
                bundle = issued.bundle
            else:
                bundle = self.bundle
            not_after = self._prove(candidate, bundle)
            os.replace(candidate, self._leaf)
            os.unlink(key)
        except OSError as error:
            raise IdentityError("key-dir", f"{self._key_dir}: {error}") from error
        self._accept(not_after)
        self.renewals += 1
        self.failures, self.last_reason = 0, ""
        log.info("leaf renewed identity=%s not_after=%s", self.identity, _stamp(not_after))
        self.set_bundle(bundle)
        self._changed()

    def _accept(self, not_after: float) -> None:
        now = self._clock()
        self.not_after = not_after
        life = not_after - now
        share = RENEW_AT * random.uniform(1 - RENEW_JITTER, 1 + RENEW_JITTER)
        self.renew_at = now + max(_MIN_RENEW, life * share)
        self._alarm_at = now + life * ALARM_AT

    def _failed(self, reason: str, message: str) -> None:
        now = self._clock()
        self.failures += 1
        self.last_reason = reason
        longest = _MAX_RENEW_RETRY if self.ready else _MAX_RETRY
        wait = min(longest, _FIRST_RETRY * 2 ** min(self.failures - 1, 16))
        self.renew_at = now + wait * random.uniform(0.5, 1.0)
        urgent = (now >= self._alarm_at) if self.not_after else self.failures > 5
        log.log(
            logging.ERROR if urgent else logging.WARNING,
            "leaf not renewed identity=%s reason=%s not_after=%s message=%s",
            self.identity,
            reason,
            _stamp(self.not_after) if self.not_after else "none",
            message,
        )

    def _restore(self) -> None:
        """Go on with the leaf of an earlier run of this container, if it still proves us."""
        if self.not_after or not os.path.exists(self._leaf):
            return
        try:
            not_after = self._prove(self._leaf, self.bundle)
        except IdentityError as error:
            log.info("earlier leaf not used reason=%s", error.reason)
            return
        self._accept(not_after)
        log.info("earlier leaf in use identity=%s not_after=%s", self.identity, _stamp(not_after))
        self._changed()

    def _check_leaf(self) -> None:
        """Renew at once when peers with the bundle in force would refuse the leaf."""
        if not self.not_after:
            self.renew_now()
            return
        try:
            self._prove(self._leaf, self.bundle)
        except IdentityError as error:
            log.warning("leaf no longer verifies reason=%s", error.reason)
            self.renew_now()

    def _prove(self, leaf: str, bundle: str) -> float:
        return tls.prove_leaf(
            tls.client_context(bundle, leaf), tls.server_context(bundle, leaf), self.workload
        )

    # -- contexts ---------------------------------------------------------------------------

    def _context(self, side: str, alpn: tuple[str, ...]) -> ssl.SSLContext:
        context = self._contexts.get((side, alpn))
        if context is not None:
            return context
        if not self.not_after:
            raise IdentityError("no-leaf", f"{self.identity} has no leaf yet")
        if side == "client":
            context = tls.client_context(self.bundle, self._leaf, alpn)
        else:
            context = tls.server_context(
                self.bundle, self._leaf, alpn, require_client=side == "server"
            )
        self._contexts[side, alpn] = context
        return context

    def _is_usable(self, pem: str) -> bool:
        try:
            tls.client_context(pem, None)
        except IdentityError as error:
            log.error("bundle ignored reason=%s", error)
            return False
        return True

    def _changed(self) -> None:
        self._contexts.clear()
        for callback in self._callbacks:
            try:
                callback()
            except Exception:
                log.exception("callback after a change of credentials failed")

    async def _sleep(self, seconds: float) -> None:
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


class BundleStore:
    """The last pushed bundle on disk, with the hash of the given one that it superseded."""

    def __init__(self, path: FilePath, *, given: str) -> None:
        self._path = os.fspath(path)
        self._given = given

    def load(self) -> str:
        """The newer of the given and the stored bundle. A damaged file counts as none."""
        try:
            head, _, stored = _read_text(self._path, "utf-8").partition("\n")
        except (OSError, ValueError):
            return self._given
        words = dict(word.partition("=")[::2] for word in head.split())
        if words.get("sha256") != hash_bundle(stored):
            return self._given
        return choose_bundle(self._given, stored, words.get("supersedes", ""))

    def save(self, pem: str) -> None:
        """Store atomically. A full disk costs a log line: the bundle is in force all the same."""
        head = f"# stored supersedes={hash_bundle(self._given)} sha256={hash_bundle(pem)}\n"
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            write_private(self._path, head + pem)
        except OSError as error:
            log.error("bundle not stored path=%s error=%s", self._path, error)


def prepare_key_dir(folder: FilePath) -> None:
    """Make sure that the folder of the private key exists; 0700 when it is made here."""
    os.makedirs(folder, mode=0o700, exist_ok=True)


def write_private(path: FilePath, text: str) -> None:
    """Replace `path` by one rename with a file that only we can read."""
    # as tempfile would do it, which costs each proxy 0.8 MB
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}-{os.urandom(6).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _read_text(path: str, encoding: str) -> str:
    with open(path, encoding=encoding) as file:
        return file.read()


async def run_request_child(key: str, workload: WorkloadId) -> str:
    """Have `python -m mesh.pki.csr` make the key and give the CSR. Raises IdentityError."""
    environment = {"PYTHONPATH": _import_root(), "PATH": os.environ.get("PATH", os.defpath)}
    command = (sys.executable, "-m", "mesh.pki.csr", key, workload.uri())
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(_CHILD_SECONDS):
            out, err = await child.communicate()
    except TimeoutError as error:
        raise IdentityError(
            "key-timeout", f"no key after {_CHILD_SECONDS:.0f} s: is the node overloaded?"
        ) from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        last = err.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise IdentityError("key-failed", f"making the key failed: {last[:300]}")
    return out.decode("ascii")


def _import_root() -> str:
    return os.path.dirname(os.path.dirname(os.path.realpath(mesh.__file__)))


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
