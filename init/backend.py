"""What `apply` needs of a backend, the errors both raise, and the tools both read back with."""

from __future__ import annotations

import os
import subprocess
from typing import Final, Protocol

from init.plan import Family, FamilyPlan
from init.restore import Standing, read_nat
from mesh.core.errors import MeshError

TOOL_SECONDS: Final = 10.0  # longest run of one tool; they take milliseconds
CAPABILITIES: Final = (
    "run the init container as uid 0 with the capabilities NET_ADMIN and NET_RAW "
    "and an emptyDir on /run"
)
_REFUSED: Final = ("permission denied", "operation not permitted", "must be root")
_TOOL_PATH: Final = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin")


class RedirectError(MeshError):
    """The redirect does not stand. The text says what failed and ends with what to do."""


class MissingTool(RedirectError):
    """A program of Debian's package iptables is not there."""


class NotAllowed(RedirectError):
    """The kernel refused us: capabilities are missing. No other backend would fare better."""


class NotProven(RedirectError):
    """Rules were put in, but they do not do what they should."""


class Backend(Protocol):
    """One way to the kernel's nat tables. Each call that changes is one transaction."""

    name: str

    def read(self, family: Family) -> Standing:
        """What stands; never creates a table. Raises RedirectError when the kernel has none."""

    def apply(self, plan: FamilyPlan, standing: Standing) -> None:
        """Turn `standing` into the plan. Raises RedirectError, and then nothing has changed."""

    def remove(self, family: Family, standing: Standing) -> None:
        """Take away all of ours that `standing` lists."""


def find_tool(name: str) -> str:
    """The path of a tool, looked up in PATH and in the sbin folders. Raises MissingTool."""
    for folder in (*os.get_exec_path(), *_TOOL_PATH):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    raise MissingTool(f"{name} is not there: install the package iptables in the image")


def run_tool(name: str, *arguments: str, given: str = "") -> str:
    """The output of one tool. Raises RedirectError with what it said."""
    command = [find_tool(name), *arguments]
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RedirectError(
            f"{name} did not end within {TOOL_SECONDS:g} s: restart the pod"
        ) from error
    except OSError as error:
        raise RedirectError(f"{name} could not be started: {error.strerror}") from error
    if done.returncode != 0:
        raise refusal(name, done.stderr)
    return done.stdout


def refusal(what: str, said: str) -> RedirectError:
    """The error for a refusal by the kernel, in one line."""
    text = "; ".join(line.strip() for line in said.splitlines() if line.strip()) or "no message"
    if any(word in text.lower() for word in _REFUSED):
        return NotAllowed(f"{what}: {text}: {CAPABILITIES}")
    return RedirectError(f"{what}: {text}")


def save_nat(family: Family, variant: str) -> Standing:
    """What of ours stands, as the `nft` or `legacy` variant of iptables-save tells."""
    return read_nat(run_tool(f"{family.tools}-{variant}-save", "-t", "nat"))
