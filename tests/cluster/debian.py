"""Roots made of Debian packages, for the node and for the image, and commands inside them.

mmdebstrap needs no running system of that release; a root is made once and kept in the cache.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.cluster.cache import BuildError

MIRROR: Final = "http://deb.debian.org/debian"
ROOT_SECONDS: Final = 15 * 60.0
_PASSED: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_BOUND: Final = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")


def make_root(
    root: Path, release: str, packages: Sequence[str], log: Path, *, variant: str
) -> None:
    """A folder with these packages; `extract` only unpacks them, `apt` installs them too.

    Raises BuildError.
    """
    check_mmdebstrap()
    mirror = os.environ.get("DEBIAN_MIRROR", MIRROR)
    options = ["--quiet", f"--variant={variant}", f"--include={','.join(packages)}"]
    run_logged(["mmdebstrap", *options, release, str(root), mirror], log)


def check_mmdebstrap() -> None:
    """Raises BuildError when the tool that makes roots is missing."""
    if shutil.which("mmdebstrap") is None:
        raise BuildError("mmdebstrap is not there: install the package mmdebstrap")


def run_logged(
    command: Sequence[str], log: Path, *, environ: Mapping[str, str] | None = None
) -> None:
    """Run a command that takes long, its output in `log`. Raises BuildError with the log's end."""
    try:
        with log.open("a") as output:
            subprocess.run(
                ["nice", "-n", "10", *command],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=ROOT_SECONDS,
                check=True,
            )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"{command[0]} took more than {ROOT_SECONDS / 60:g} minutes; log in {log}"
        ) from error
    except subprocess.CalledProcessError as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BuildError(
            f"{command[0]} ended with {error.returncode}, {log} ends:\n{tail}"
        ) from error


def run_inside(
    root: Path,
    command: Sequence[str],
    log: Path,
    *,
    binds: Mapping[str, Path],
    changes: Path | None = None,
) -> None:
    """Run a command in a root, with this machine's network, names and pip settings.

    `binds` maps folders of the root to folders of this machine, which it sees read-only. With
    `changes`, an empty folder, the root itself stays as it is and what the command writes is in
    `changes/upper`. All mounts end with the command. Raises BuildError.
    """
    wanted = {path: Path(path) for path in _BOUND if Path(path).exists()}
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    if wheels.startswith("/") and Path(wheels).is_dir():
        wanted[wheels] = Path(wheels)
    lines = ["set -e"]
    if changes is not None:
        lines += _overlay(root, changes)
        root = changes / "merged"
    lines += _mounts(root, wanted | dict(binds))
    lines.append(f"exec chroot {shlex.quote(str(root))} {shlex.join(command)}")
    script = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(lines)]
    passed = {name: value for name, value in os.environ.items() if name in _PASSED}
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    run_logged(script, log, environ=path | pip | passed | {"LANG": "C.UTF-8"})


def _overlay(lower: Path, changes: Path) -> list[str]:
    for name in ("upper", "work", "merged"):
        (changes / name).mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={changes}/upper,workdir={changes}/work"
    return [
        f"mount -t overlay overlay -o {shlex.quote(options)} {shlex.quote(f'{changes}/merged')}"
    ]


def _mounts(root: Path, binds: Mapping[str, Path]) -> list[str]:
    lines = [f"mount -t proc proc {shlex.quote(str(root / 'proc'))}"]
    for device in ("null", "zero", "random", "urandom"):
        target = shlex.quote(str(root / "dev" / device))
        lines += [f"touch {target}", f"mount --bind /dev/{device} {target}"]
    for inside, outside in binds.items():
        target, source = shlex.quote(f"{root}{inside}"), shlex.quote(str(outside.resolve()))
        if outside.is_dir():
            lines.append(f"mkdir -p {target}")
        else:
            folder = shlex.quote(str(Path(f"{root}{inside}").parent))
            lines.append(f"mkdir -p {folder}; rm -f {target}; touch {target}")
        lines += [f"mount --bind {source} {target}", f"mount -o remount,bind,ro {target}"]
    return lines
