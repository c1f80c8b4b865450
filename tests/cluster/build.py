"""Builds our wrapper programs from Go modules, once, and keeps them outside the clone.

Also a command: `python -m tests.cluster.build` prints the path of Kubernetes' components.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.cache import BuildError, folder_of, kept

HERE: Final = Path(__file__).parent
HASHED: Final = ("go.mod", "go.sum", "main.go")
BUILD_SECONDS: Final = 40 * 60.0
JOBS: Final = 2  # one compiler takes up to 2.4 GB
_VERSION_PACKAGES: Final = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True)
class Program:
    """A folder with go.mod and main.go; what it is for, how long it takes, and -X of its link."""

    sources: Path
    title: str
    duration: str = "some seconds"
    version_of: str = ""  # the required module whose version it shows
    package: str = "."  # what to build, where it is not main.go but a tool of another module

    @property
    def name(self) -> str:
        tool = self.package.rpartition("/")[2]
        return self.sources.name if tool == "." else f"{self.sources.name}-{tool}"

    @property
    def folder(self) -> Path:
        """Where the binary of these sources is kept."""
        files = [self.sources / name for name in HASHED]
        return folder_of(self.name, {f.name: f.read_bytes() for f in files if f.exists()})

    @property
    def needed_go(self) -> tuple[int, int]:
        found = re.search(r"^go (\d+)\.(\d+)", (self.sources / "go.mod").read_text(), re.M)
        if found is None:
            raise BuildError(f"{self.name}/go.mod: expected a line such as go 1.24.0")
        return int(found[1]), int(found[2])


COMPONENTS: Final = Program(
    HERE / "components", "Kubernetes", "3 to 25 minutes", "k8s.io/kubernetes"
)
COREDNS: Final = Program(HERE / "coredns", "CoreDNS", "2 to 6 minutes")
PAUSE: Final = Program(HERE / "pause", "pause")


def built(program: Program) -> Path:
    """The program's binary, built now if it is not in the cache. Raises BuildError."""
    folder = program.folder
    return kept(folder, program.name, lambda made: _build(program, made, folder / "build.log"))


def built_components() -> Path:
    """The multi-call binary of Kubernetes' components. Raises BuildError."""
    return built(COMPONENTS)


def kubernetes_version() -> str:
    """The version that go.mod requires, as `v1.34.4`."""
    return required_version(COMPONENTS)


def required_version(program: Program) -> str:
    """The version of the module that gives the program its own: v0.34.4 of Kubernetes' parts
    stands for v1.34.4."""
    module = re.escape(program.version_of)
    required = re.search(rf"^\s*{module} (v\S+)$", (program.sources / "go.mod").read_text(), re.M)
    if required is None:
        raise BuildError(
            f"{program.name}/go.mod: expected a line that requires {program.version_of}"
        )
    is_part = program.version_of.startswith("k8s.io/")
    return required[1].replace("v0.", "v1.", 1) if is_part else required[1]


def check_go(program: Program) -> str:
    """The path of a Go that is new enough. Raises BuildError."""
    wanted = ".".join(map(str, program.needed_go))
    advice = f"install Go {wanted} or newer (https://go.dev/dl) and put it into PATH"
    path = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if path is None:
        raise BuildError(f"building {program.title} needs Go {wanted}, found none: {advice}")
    said = subprocess.run(
        [path, "env", "GOVERSION"], capture_output=True, text=True, env=_environment(), check=False
    ).stdout.strip()
    version = re.match(r"go(\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < program.needed_go:
        raise BuildError(
            f"building {program.title} needs Go {wanted}, found {said or 'no version'} "
            f"at {path}: {advice}"
        )
    return path


def _build(program: Program, made: Path, log: Path) -> None:
    go = check_go(program)
    sys.stderr.write(f"building {program.title}: {program.duration}, log in {log}\n")
    command = [
        *("nice", "-n", "15", go, "build", "-p", str(JOBS), "-trimpath"),
        *("-ldflags", link_flags(program), "-o", str(made), program.package),
    ]
    try:
        with log.open("w") as output:
            subprocess.run(
                command,
                cwd=program.sources,
                env=_environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=BUILD_SECONDS,
                check=True,
            )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"building {program.title} took more than {BUILD_SECONDS / 60:g} minutes: run it "
            f"again, it goes on where it stopped; log in {log}"
        ) from error
    except subprocess.CalledProcessError as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildError(f"go build ended with {error.returncode}, {log} ends:\n{tail}") from error


def link_flags(program: Program) -> str:
    """Without debug tables, and with the version that the program reports."""
    if not program.version_of:
        return "-s -w"
    version = required_version(program)
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
