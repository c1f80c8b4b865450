"""Where issuer and bundle lie: two Secrets, a ConfigMap, or a folder with brought files.

Reads and writes only; what may count is decided in `identity.rotation`. A write says whether
it was the first: `False` means that another replica has just written, and to read again.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from mesh.core import labels
from mesh.core.errors import ApiError, IdentityError
from mesh.pki.authority import Authority

CERTIFICATE, KEY, ROOTS = "tls.crt", "tls.key", "ca.crt"
BUNDLE: Final = f"ConfigMap {labels.TRUST_ROOTS}"  # for messages

Object = dict[str, Any]


class Kube(Protocol):
    """What is needed of `mesh.kube.client.KubeClient`."""

    async def get(self, resource: str, name: str, namespace: str | None = None) -> Object: ...
    async def create(self, resource: str, obj: Object) -> Object: ...
    async def replace(self, resource: str, obj: Object) -> Object: ...


@dataclass(frozen=True, slots=True)
class Material:
    """An issuer as it was found: PEM texts, and where, for messages."""

    certificate: str
    key: str
    roots: str
    where: str


class Storage:
    """The two Secrets and the ConfigMap of the mesh, as texts."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace

    async def read(self, name: str) -> tuple[Material, Object] | None:
        """A Secret's material and the object itself, or None when there is none."""
        secret = await self._get("secrets", name)
        if secret is None:
            return None
        data = secret.get("data") or {}
        texts = {key: _decoded(data.get(key), name, key) for key in (CERTIFICATE, KEY, ROOTS)}
        where = f"Secret {self._namespace}/{name}"
        return Material(texts[CERTIFICATE], texts[KEY], texts[ROOTS], where), secret

    async def create(self, name: str, authority: Authority, *, roots: str) -> bool:
        """Write a new Secret; whether we were first."""
        return await self._create("secrets", self._secret(name, authority, roots))

    async def replace(self, found: Object, name: str, authority: Authority, *, roots: str) -> bool:
        """Replace the Secret as `found`; whether nobody else did so first."""
        secret = self._secret(name, authority, roots)
        version = found["metadata"].get("resourceVersion")
        secret["metadata"] = {**found["metadata"], "resourceVersion": version}
        return await self._replace("secrets", secret)

    async def read_bundle(self) -> tuple[str, Object | None]:
        """The text of the bundle, "" when there is none, and its ConfigMap."""
        found = await self._get("configmaps", labels.TRUST_ROOTS)
        if found is None:
            return "", None
        return str((found.get("data") or {}).get(labels.TRUST_ROOTS_KEY) or ""), found

    async def write_bundle(self, pem: str, found: Object | None) -> bool:
        """Create or update the ConfigMap; whether nobody else did so first."""
        if found is None:
            return await self._create("configmaps", self._bundle(pem))
        changed = {**found, "data": {**(found.get("data") or {}), labels.TRUST_ROOTS_KEY: pem}}
        changed.setdefault("apiVersion", "v1")
        changed.setdefault("kind", "ConfigMap")
        return await self._replace("configmaps", changed)

    async def _get(self, resource: str, name: str) -> Object | None:
        try:
            return await self._kube.get(resource, name, self._namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def _create(self, resource: str, obj: Object) -> bool:
        try:
            await self._kube.create(resource, obj)
        except ApiError as error:
            if error.code == 409:
                return False
            raise
        return True

    async def _replace(self, resource: str, obj: Object) -> bool:
        try:
            await self._kube.replace(resource, obj)
        except ApiError as error:
            if error.code in (404, 409):
                return False
            raise
        return True

    def _meta(self, name: str) -> Object:
        return {
            "name": name,
            "namespace": self._namespace,
            "labels": {labels.L_PART_OF: labels.PART_OF},
        }

    def _secret(self, name: str, authority: Authority, roots: str) -> Object:
        texts = {CERTIFICATE: authority.chain_pem, KEY: authority.key_pem, ROOTS: roots}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": self._meta(name),
            "data": {k: base64.b64encode(v.encode()).decode("ascii") for k, v in texts.items()},
        }

    def _bundle(self, pem: str) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self._meta(labels.TRUST_ROOTS),
            "data": {labels.TRUST_ROOTS_KEY: pem},
        }


def _decoded(text: object, name: str, key: str) -> str:
    if not text:
        return ""
    try:
        return base64.b64decode(str(text), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        raise IdentityError(
            "authority-invalid", f"Secret {name}: {key}: expected base64 of PEM text"
        ) from error


def read_files(folder: Path) -> Material:
    texts = {}
    for name in (CERTIFICATE, KEY, ROOTS):
        try:
            texts[name] = (folder / name).read_text("utf-8")
        except FileNotFoundError as error:
            if name != ROOTS:
                raise IdentityError(
                    "authority-invalid", f"{folder / name}: expected a file in PEM, found none"
                ) from error
            texts[name] = ""
        except (OSError, ValueError) as error:
            raise IdentityError("authority-invalid", f"{folder / name}: {error}") from error
    return Material(texts[CERTIFICATE], texts[KEY], texts[ROOTS], str(folder))
