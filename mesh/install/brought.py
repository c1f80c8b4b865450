"""An issuer that the operator brings as three files -> the Secret that identity mounts.

The only case in which `mesh install` prints key material. Everything that would make peers
refuse each other is found here, before anything is applied.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.core import labels
from mesh.core.errors import ConfigError, IdentityError
from mesh.core.names import WorkloadId
from mesh.install.values import Values

_HINT = "bring a root, an issuer signed by it, and the issuer's key"


@dataclass(frozen=True)
class Files:
    """Paths of trust anchors, issuer certificate (with intermediates) and issuer key, all PEM."""

    anchors: Path
    certificate: Path
    key: Path


def issuer_secret(files: Files, values: Values, *, now: float) -> dict[str, Any]:
    """The Secret, checked. `now` is unix seconds. Raises ConfigError with every fault."""
    texts = {
        "ca.crt": _read(files.anchors),
        "tls.crt": _read(files.certificate),
        "tls.key": _read(files.key),
    }
    problems = check_files(files, texts, values, now=now)
    if problems:
        raise ConfigError([*problems, _HINT])
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": labels.ISSUER_SECRET, "namespace": values.namespace},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()},
    }


def check_files(files: Files, texts: dict[str, str], values: Values, *, now: float) -> list[str]:
    """What is wrong with the three texts, each fault a sentence that names its file."""
    from mesh.pki.authority import load_authority, load_certificates  # 80 ms, seldom needed
    from mesh.pki.chain import check_anchors, check_issuer

    try:
        anchors = load_certificates(texts["ca.crt"], where=str(files.anchors))
        issuer = load_authority(texts["tls.crt"], texts["tls.key"], where=str(files.certificate))
    except IdentityError as error:
        return [str(error)]
    identity = WorkloadId(values.trust_domain, values.namespace, labels.IDENTITY)
    return [
        *check_anchors(anchors, now=now, where=str(files.anchors)),
        *check_issuer(issuer, anchors, workload=identity, now=now, where=str(files.certificate)),
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected PEM text: {error}") from error
