"""Builds the wrapped Kubernetes components once and keeps the binary outside the clone.

The folder's name holds the hash of all that decides the binary, so an edit builds a new one and
the next run on the same machine builds nothing. Two runs at a time build once. Also a command:
`python -m tests.cluster.build` prints the binary's path.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "components"
HASHED: Final = ("go.mod", "go.sum", "main.go")
NEEDED_GO: Final = (1, 24)
BUILD_SECONDS: Final = 40 * 60.0
JOBS: Final = 2  # one compiler takes up to 2.4 GB
_VERSION_PACKAGES: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


class BuildError(Exception):
    """No binary: what was expected, what came, and what to do."""


def built_components() -> Path:
    """The multi-call binary, built now if it is not in the cache. Raises BuildError."""
    folder = cache_folder()
    binary = folder / "components"
    if binary.exists():
        return binary
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _build(check_go(), binary, folder / "build.log")
    return binary


def cache_folder() -> Path:
    """Where the binary of these sources is kept, under XDG_CACHE_HOME."""
    digest = hashlib.sha256()
    for name in HASHED:
        content = (SOURCES / name).read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lightmesh" / f"components-{digest.hexdigest()[:16]}"


def kubernetes_version() -> str:
    """The version that go.mod requires, as `v1.34.4`."""
    required = re.search(r"^\s*k8s\.io/kubernetes (v\S+)$", (SOURCES / "go.mod").read_text(), re.M)
    if required is None:
        raise BuildError("components/go.mod: expected a line that requires k8s.io/kubernetes")
    return required[1]


def check_go() -> str:
    """The path of a Go that is new enough. Raises BuildError."""
    wanted = ".".join(map(str, NEEDED_GO))
    advice = f"install Go {wanted} or newer (https://go.dev/dl) and put it into PATH"
    path = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if path is None:
        raise BuildError(f"building kube-apiserver needs Go {wanted}, found none: {advice}")
    said = subprocess.run(
        [path, "env", "GOVERSION"], capture_output=True, text=True, env=_environment(), check=False
    ).stdout.strip()
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < NEEDED_GO:
        raise BuildError(
            f"building kube-apiserver needs Go {wanted}, found {said or 'no version'} "
            f"at {path}: {advice}"
        )
    return path


def _build(go: str, binary: Path, log: Path) -> None:
    sys.stderr.write(f"building Kubernetes {kubernetes_version()}: 5 to 25 minutes, log in {log}\n")
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder, log.open("w") as output:
        made = Path(folder) / "components"
        command = [
            *("nice", "-n", "15", go, "build", "-p", str(JOBS), "-trimpath"),
            *("-ldflags", link_flags(kubernetes_version()), "-o", str(made), "."),
        ]
        try:
            subprocess.run(
                command,
                cwd=SOURCES,
                env=_environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=BUILD_SECONDS,
                check=True,
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(
                f"the build took more than {BUILD_SECONDS / 60:g} minutes: run it again, "
                "it goes on where it stopped"
            ) from error
        except subprocess.CalledProcessError as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise BuildError(
                f"go build ended with {error.returncode}, {log} ends:\n{tail}"
            ) from error
        made.rename(binary)


def link_flags(version: str) -> str:
    """Without debug tables, and with the version that the components report."""
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    sets = [f"-X {p}.{name}={value}" for p in _VERSION_PACKAGES for name, value in values.items()]
    return " ".join(["-s", "-w", *sets])


def _environment() -> dict[str, str]:
    """This machine's Go, never one that it would fetch, and sources exactly as committed."""
    return os.environ | {
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }


if __name__ == "__main__":
    try:
        print(built_components())
    except BuildError as error:
        sys.exit(str(error))
