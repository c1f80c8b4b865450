"""Issuer and trust bundle: made on first start or brought, kept up to date afterwards.

Whoever creates an object first wins: `create`, and on 409 read what is there. Everything is
read again every few seconds (a poll cannot miss a change, as a watch can). A new issuer counts
only once it chains to the bundle in force; otherwise the old one stays, with an event. An
issuer of our own making is replaced under the same root at 70 % of its life. Roots are only
ever added to the bundle here: the operator drops one when no leaf needs it any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography import x509

from identity.issue import Trust
from identity.storage import BUNDLE, ROOTS, Kube, Material, Storage, read_files
from mesh.core import labels
from mesh.core.errors import ApiError, ConfigError, IdentityError
from mesh.core.names import WorkloadId
from mesh.pki import authority as pki
from mesh.pki.authority import Authority
from mesh.pki.bundle import merge_bundles, read_bundle
from mesh.pki.chain import check_anchors, check_issuer, find_anchor
from mesh.runtime.bundle import bundle_version, hash_bundle, stamp_bundle

POLL_SECONDS: Final = 5.0
RENEW_AT: Final = 0.70  # of the issuer's life
WARN_SECONDS: Final = 2 * pki.DAY
_TRIES: Final = 20
_RETRY_SECONDS: Final = 1.0

Announce = Callable[[str, str, bool], None]  # reason, message, is_warning

log = logging.getLogger(__name__)


class TrustKeeper:
    """Holds the trust in force and keeps it in step with Secrets, files and ConfigMap."""

    def __init__(
        self,
        kube: Kube,
        *,
        workload: WorkloadId,
        issuer_dir: str = "",
        clock: Callable[[], float] = time.time,
        announce: Announce = lambda reason, message, is_warning: None,
        on_change: Callable[[Trust], None] = lambda trust: None,
    ) -> None:
        self.trust: Trust | None = None
        self._storage = Storage(kube, workload.namespace)
        self._workload = workload
        self._files = Path(issuer_dir) if issuer_dir else None
        self._clock = clock
        self._announce = announce
        self._on_change = on_change
        self._material: Material | None = None  # what the issuer in force was made of
        self._anchor: x509.Certificate | None = None  # above it
        self._told: dict[str, str] = {}  # warnings by reason, each announced once
        self._version = 0  # highest version of the bundle that was seen

    async def start(self) -> None:
        """Have an issuer and a bundle in force. Waits while the API server is away.

        Raises ConfigError for what an operator must mend: an issuer that cannot be read, does
        not chain or has ended, or rights that are missing.
        """
        waited = False
        while True:
            try:
                await self.refresh()
                return
            except IdentityError as error:
                self._tell("IssuerRefused", str(error), is_warning=True)
                raise ConfigError(str(error)) from error
            except ApiError as error:
                if error.code in (401, 403):
                    raise ConfigError(f"Kubernetes API: {error.message}") from error
                if not waited:
                    log.warning("waiting for the API server error=%s", error.message)
                waited = True
            await asyncio.sleep(_RETRY_SECONDS)

    async def run(self) -> None:
        """Look again every few seconds, until cancelled; failures are logged and outlived."""
        is_away = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
                if is_away:
                    log.info("trust read again")
                is_away = False
            except ApiError as error:
                if not is_away:  # once an outage
                    log.warning("trust not read again error=%s", error.message)
                is_away = True
            except Exception:
                log.exception("trust not read again")

    async def refresh(self) -> None:
        """One look at everything. Raises ApiError, or IdentityError when there is no issuer."""
        for _ in range(_TRIES):
            if await self._settle():
                return
        raise ApiError(409, "Conflict", "other replicas keep changing issuer and bundle")

    async def _settle(self) -> bool:
        """Bring issuer and bundle in force; False when another replica was first: look again."""
        text, found = await self._storage.read_bundle()
        base = self._usable_bundle(text)
        try:
            material = await self._find_material()
            if material is None or await self._replace_ageing(material):
                return False
            issuer, anchor, needed = self._choose(material, base)
        except IdentityError as error:
            if self.trust is None or self._anchor is None:
                raise
            self._tell_once("IssuerRefused", f"{error}; the old issuer stays")
            material = self._material
            issuer, anchor = self.trust.issuer, self._anchor
            needed = pki.certificate_pem(anchor)
        bundle = self._mend_bundle(base, needed)
        if bundle != text and not await self._storage.write_bundle(bundle, found):
            return False
        self._version = max(self._version, bundle_version(bundle) or 0)
        self._material, self._anchor = material, anchor
        self._put_in_force(Trust(issuer, pki.not_after(anchor), bundle))
        return True

    # -- issuer -----------------------------------------------------------------------------

    async def _find_material(self) -> Material | None:
        """What to sign with; None when it has only now been made."""
        if self._files is not None:
            return read_files(self._files)
        found = await self._storage.read(labels.ISSUER_SECRET)
        if found is not None:
            return found[0]
        if self._material is not None:
            return self._material  # deleted under us: what is in force stays until a restart
        root = await self._find_root()
        if root is not None:
            issuer = self._make_issuer(root)
            if await self._storage.create(labels.ISSUER_SECRET, issuer, roots=root.certificate_pem):
                self._tell("IssuerCreated", f"the issuer ends at {pki.when(issuer.not_after)}")
        return None

    async def _find_root(self) -> Authority | None:
        """The root in its Secret; None when it has only now been made."""
        found = await self._storage.read(labels.ROOT_SECRET)
        if found is not None:
            return pki.load_authority(found[0].certificate, found[0].key, where=found[0].where)
        root = pki.make_root(now=self._clock())
        if await self._storage.create(labels.ROOT_SECRET, root, roots=root.certificate_pem):
            self._tell("RootCreated", f"the trust anchor ends at {pki.when(root.not_after)}")
        return None

    def _make_issuer(self, root: Authority) -> Authority:
        return pki.make_issuer(root, now=self._clock(), trust_domain=self._workload.trust_domain)

    def _choose(self, material: Material, bundle: str) -> tuple[Authority, x509.Certificate, str]:
        """The issuer to use, the anchor above it, and the roots that the bundle must have.

        While there is no bundle yet, the roots that lie beside the issuer count. Raises
        IdentityError that names every fault.
        """
        if self.trust is not None and self._anchor is not None and material == self._material:
            return self.trust.issuer, self._anchor, pki.certificate_pem(self._anchor)
        issuer = pki.load_authority(material.certificate, material.key, where=material.where)
        roots, where = bundle, BUNDLE
        if not bundle:
            roots, where = material.roots, f"{material.where} {ROOTS}"
        anchors = read_bundle(roots, where=where)
        now = self._clock()
        problems = check_issuer(
            issuer, anchors, workload=self._workload, now=now, where=material.where
        )
        if roots is not bundle:
            problems += check_anchors(anchors, now=now, where=where)
        anchor = find_anchor(issuer, anchors)
        if problems or anchor is None:
            raise IdentityError("issuer-refused", "; ".join(problems))
        return issuer, anchor, roots

    async def _replace_ageing(self, material: Material) -> bool:
        """Whether an issuer of our own making was near its end and has been replaced."""
        if self._files is not None:
            return False
        issuer = pki.load_authority(material.certificate, material.key, where=material.where)
        begin, end = pki.not_before(issuer.certificate), pki.not_after(issuer.certificate)
        if self._clock() < begin + RENEW_AT * (end - begin):
            return False
        found = await self._storage.read(labels.ROOT_SECRET)
        if found is None:
            return False  # brought: its owner replaces it
        root = pki.load_authority(found[0].certificate, found[0].key, where=found[0].where)
        if find_anchor(issuer, [root.certificate]) is None or root.not_after <= end:
            return False  # not ours, or it lives as long as its root already
        current = await self._storage.read(labels.ISSUER_SECRET)
        if current is None or current[0] != material:
            return True
        new = self._make_issuer(root)
        if await self._storage.replace(
            current[1], labels.ISSUER_SECRET, new, roots=root.certificate_pem
        ):
            self._tell("IssuerRenewed", f"the new issuer ends at {pki.when(new.not_after)}")
        return True

    # -- bundle -----------------------------------------------------------------------------

    def _usable_bundle(self, text: str) -> str:
        """`text` if all of it can be read, else the bundle in force, "" at first start."""
        if not text.strip():
            return self.trust.bundle if self.trust else ""
        try:
            read_bundle(text, where=BUNDLE)
        except IdentityError as error:
            self._tell_once("BundleRefused", f"{error}; the old bundle stays")
            return self.trust.bundle if self.trust else ""
        return text

    def _mend_bundle(self, text: str, needed: str) -> str:
        """The bundle with what the issuer needs, under a valid stamp; `text` if it has both."""
        merged = merge_bundles(text, needed)
        version = bundle_version(text)
        is_current = version is not None and version >= self._version
        if is_current and hash_bundle(merged) == hash_bundle(text):
            return text
        return stamp_bundle(merged, max(int(self._clock() * 1000), self._version + 1))

    # -- in force ---------------------------------------------------------------------------

    def _put_in_force(self, trust: Trust) -> None:
        old, self.trust = self.trust, trust
        if trust.ends - self._clock() < WARN_SECONDS:
            self._tell_once("IssuerEnding", f"the issuer ends at {pki.when(trust.ends)}")
        if old is None:
            self._on_change(trust)
            return
        is_new = old.issuer.certificate != trust.issuer.certificate
        if is_new:
            self._told.clear()
            self._tell("IssuerUpdated", f"the issuer in force ends at {pki.when(trust.ends)}")
        if old.bundle != trust.bundle:
            self._tell("BundleUpdated", f"sha256 {hash_bundle(trust.bundle)}")
        if is_new or old.bundle != trust.bundle:
            self._on_change(trust)

    def _tell_once(self, reason: str, message: str) -> None:
        if self._told.get(reason) != message:
            self._told[reason] = message
            self._tell(reason, message, is_warning=True)

    def _tell(self, reason: str, message: str, *, is_warning: bool = False) -> None:
        level = logging.WARNING if is_warning else logging.INFO
        log.log(level, "%s message=%s", reason, message)
        self._announce(reason, message, is_warning)
