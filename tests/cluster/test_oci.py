"""Images as OCI layouts: what a node needs to find, and the same bytes each time."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.oci import Image, write_image, write_layer

IMAGE = Image("docker.io/lab/app:1", ["/app"], user="7:7", environment={"PATH": "/bin"})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    app = tmp_path / "app"
    app.write_text("run")
    app.chmod(0o755)
    write_layer(tmp_path / "layer.tar", {"/opt/app": app})
    write_image(tmp_path / "image.tar", IMAGE, [tmp_path / "layer.tar"])
    return tmp_path / "image.tar"


def read(image: Path, name: str) -> bytes:
    with tarfile.open(image) as tar:
        member = tar.extractfile(name)
        assert member is not None
        return member.read()


def blob(image: Path, descriptor: dict[str, Any]) -> bytes:
    content = read(image, "blobs/" + descriptor["digest"].replace(":", "/"))
    assert len(content) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    return content


def test_everything_is_found_by_its_digest(written: Path) -> None:
    index = json.loads(read(written, "index.json"))
    (entry,) = index["manifests"]
    manifest = json.loads(blob(written, entry))
    config = json.loads(blob(written, manifest["config"]))
    (layer,) = manifest["layers"]

    assert entry["annotations"]["io.containerd.image.name"] == IMAGE.name
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    assert config["config"] == {"Cmd": ["/app"], "Env": ["PATH=/bin"], "User": "7:7"}
    assert blob(written, layer)


def test_a_layer_holds_its_parts_at_their_paths(written: Path) -> None:
    with tarfile.open(written.with_name("layer.tar")) as tar:
        (member,) = tar.getmembers()

    assert (member.name, member.mode, member.mtime) == ("opt/app", 0o755, 0)


def test_the_same_files_are_the_same_image(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"

    (tmp_path / "app").touch()
    write_layer(tmp_path / "second.tar", {"/opt/app": tmp_path / "app"})
    write_image(again, IMAGE, [tmp_path / "second.tar"])

    assert again.read_bytes() == written.read_bytes()
