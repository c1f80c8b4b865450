"""Writes container images as OCI layouts in one tar, from folders, with no daemon or registry.

Follows the OCI image specification 1.0: image-layout.md, manifest.md, config.md. A layer is a
tar of a folder in which times are zero and names are sorted, so the same files are the same
layer. Layers stay uncompressed: importing them is faster, and nothing travels.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_EPOCH: Final = "1970-01-01T00:00:00Z"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Image:
    """What runs by default in an image, and under which name a node finds it."""

    name: str  # docker.io/lightmesh/mesh:0.2.0
    command: Sequence[str]
    user: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()  # what `args` of a container are given to


def write_layer(layer: Path, parts: Mapping[str, Path]) -> None:
    """A layer with each folder or file of `parts` at its path in the image."""
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        for target in sorted(parts):
            tar.add(parts[target], target.strip("/") or ".", filter=_plain)


def write_image(path: Path, image: Image, layers: Sequence[Path]) -> None:
    """The image as one file that `ctr images import` takes; `layers` are tars, lowest first."""
    blobs = [_digest(layer) for layer in layers]
    config = _json(_config(image, blobs))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [
                {"mediaType": _LAYER, "digest": f"sha256:{digest}", "size": layer.stat().st_size}
                for digest, layer in zip(blobs, layers, strict=True)
            ],
        }
    )
    names = {
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name,
    }
    listed = _descriptor(_MANIFEST, manifest) | {"annotations": names}
    index = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [listed]})
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(tar, "index.json", index)
        for content in (config, manifest):
            _add(tar, f"blobs/sha256/{hashlib.sha256(content).hexdigest()}", content)
        for digest, layer in dict(zip(blobs, layers, strict=True)).items():
            tar.add(layer, f"blobs/sha256/{digest}", filter=_plain)


def _config(image: Image, layers: Sequence[str]) -> dict[str, Any]:
    run: dict[str, Any] = {
        "Cmd": list(image.command),
        "Env": [f"{name}={value}" for name, value in image.environment.items()],
    }
    if image.entrypoint:
        run["Entrypoint"] = list(image.entrypoint)
    if image.user:
        run["User"] = image.user
    return {
        "created": _EPOCH,
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in layers]},
    }


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without what differs from one making to the next."""
    member.mtime = 0
    member.uname = member.gname = ""
    return member


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _descriptor(media: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
