"""A full disk under the embedded cluster's state and logs costs log lines, never a request."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mesh.local.shop import manifests
from tests.e2e.backends import embedded
from tests.e2e.stage import eventually
from tests.local.node.machine import fill

pytestmark = [
    pytest.mark.root,
    pytest.mark.embedded,
    pytest.mark.long,
    pytest.mark.timeout(300),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounts a file system: run it as root")
    options = ["-t", "tmpfs", "-o", "size=64m"]
    subprocess.run(["mount", *options, "tmpfs", str(tmp_path)], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_proxies_go_on_serving_while_the_disk_is_full(small_disk: Path) -> None:
    with embedded(small_disk) as stage:
        stage.apply(stage.mesh("install", "--set", "proxy.accessLog=json"))
        stage.mesh("check", "--wait", "60s")
        stage.apply(yaml.safe_dump_all(manifests.shop(stage.image)))
        eventually(lambda: stage.load("/stats")["ok"] > 20)

        fill(small_disk / "filler")
        before = stage.load("/stats")
        after = eventually(lambda: (s := stage.load("/stats"))["ok"] > before["ok"] + 200 and s)

        assert after["failed"] == before["failed"]
        assert os.statvfs(small_disk).f_bavail == 0
        (small_disk / "filler").unlink()
        stage.mesh("check", "--proxy", "--wait", "60s")
