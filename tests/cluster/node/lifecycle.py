"""Brings a node up, and takes it away without a trace.

`up` is bounded: each wait has a limit, and its error names the log to read. Only one `up` or
`down` of a node runs at a time. The state of a node is thrown away with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.cluster.cache import BuildError, cache_home
from tests.cluster.images import Made
from tests.cluster.node import machine
from tests.cluster.node.configs import CONFIG, node_commands, node_files
from tests.cluster.node.inside import BOUND, COMPONENTS, SHOWN
from tests.cluster.node.parts import Parts, Say, make_parts
from tests.cluster.node.plan import Plan, pick_plan
from tests.cluster.server import ADMIN

READY_SECONDS: Final = 120.0
IMPORT_SECONDS: Final = 120.0
COREDNS: Final = Path(__file__).with_name("coredns.yaml")
_TOOLS: Final = {"ip": "iproute2", **dict.fromkeys(("nsenter", "setsid", "unshare"), "util-linux")}


def up(name: str, say: Say) -> Plan:
    """The node of this name: the running one, or a new one with all that it needs.

    `say` gets one line a step. Raises BuildError; what was started is gone then.
    """
    check_machine()
    with _alone(name):
        running = find(name)
        if running is not None:
            say("the node is already up")
            return running
        parts = make_parts(say)
        _clear(Plan(name, "", ""))
        plan = pick_plan(name, machine.taken_networks())
        try:
            _start(plan, parts)
            _make_ready(plan, parts, say)
        except BaseException:
            _stop(plan, keep_logs=True)
            raise
        return plan


def down(name: str) -> bool:
    """Take the node away; whether there was one. Raises BuildError."""
    check_machine()
    with _alone(name):
        plan = Plan(name, "", "")
        was = plan.folder.exists()
        _clear(plan)
        return was


def find(name: str) -> Plan | None:
    """The node of this name, if it runs."""
    plan = Plan(name, "", "")
    try:
        plan = Plan(**json.loads((plan.folder / "plan.json").read_text()))
    except (OSError, ValueError):
        return None
    return plan if machine.processes(plan) and plan.kubeconfig.exists() else None


def import_image(plan: Plan, made: Made) -> None:
    """Make an image known to the node. Raises BuildError."""
    log = plan.logs / "import.log"
    command = [*_inside(plan), "/usr/bin/ctr", "-n", "k8s.io", "images", "import", "-"]
    with made.file.open("rb") as content, log.open("ab") as output:
        try:
            subprocess.run(
                command,
                stdin=content,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=IMPORT_SECONDS,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"importing {made.name} failed ({error}): see {log}") from error


def check_machine() -> None:
    """Raises BuildError when a node cannot run here, in one line that says why."""
    if os.geteuid() != 0:
        raise BuildError("a node makes namespaces, mounts and links: run it as root")
    if not sys.platform.startswith("linux"):
        raise BuildError(f"a node needs Linux, this is {sys.platform}")
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is not there: install the package {package}")
    if shutil.which("kubectl") is None:
        raise BuildError("kubectl is not in PATH: install 1.28 or newer")


def _start(plan: Plan, parts: Parts) -> None:
    """The processes, with mounts and network. They are not ready when this returns."""
    _write_state(plan, parts)
    machine.make_groups(plan)
    with _waiting_process(plan) as pid:
        machine.enter_groups(plan, pid)
        machine.join_network(plan, pid)
    (plan.folder / "plan.json").write_text(json.dumps(asdict(plan)))


@contextmanager
def _waiting_process(plan: Plan) -> Iterator[int]:
    """PID 1 of the node, a child of nobody here; it goes on when the block has ended."""
    namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
    inside = [sys.executable, "-m", f"{__package__}.inside", str(plan.folder)]
    file, (ear, mouth) = plan.folder / "pid", os.pipe()
    with (
        open(ear, "rb") as waits,
        open(mouth, "wb") as tells,
        (plan.logs / "node.log").open("wb") as log,
    ):
        subprocess.run(
            ["setsid", "--fork", "unshare", *namespaces, *inside],
            cwd=Path(__file__).parents[3],
            stdin=waits,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )
        yield int(_await(lambda: file.exists() and file.read_text(), 20.0, f"see {log.name}"))
        tells.write(b"go\n")


def _write_state(plan: Plan, parts: Parts) -> None:
    upper = plan.folder / "root" / "upper"
    for name in (*BOUND, "root/upper", "root/work", "root/merged"):
        (plan.folder / name).mkdir(parents=True)
    for key, value in SHOWN.items():
        file = plan.folder / "shown" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    files = node_files(plan)
    for path, content in files.items():
        file = upper / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_bytes(content)
    components = upper / COMPONENTS.lstrip("/")
    for folder in (components, upper / "mnt", *(upper / at.lstrip("/") for at in BOUND.values())):
        folder.mkdir(parents=True)
    (components / ".all").touch()
    commands = node_commands(plan)
    for name in commands:
        if name.startswith("kube"):
            (components / name).symlink_to(".all")
    inside = {
        "name": plan.name,
        "root": str(parts.root),
        "components": str(parts.components),
    }
    (plan.folder / "inside.json").write_text(json.dumps(inside))
    (plan.folder / "commands.json").write_text(json.dumps(commands))
    plan.kubeconfig.touch(mode=0o600)
    plan.kubeconfig.write_bytes(files[f"{CONFIG}/{ADMIN}.kubeconfig"])


def _make_ready(plan: Plan, parts: Parts, say: Say) -> None:
    log = plan.logs
    socket = f"/proc/{_pid(plan)}/root/run/containerd/containerd.sock"
    _await(lambda: os.path.exists(socket), 30.0, f"containerd did not start: see {log}")
    for image in parts.images:
        import_image(plan, image)
    _await(lambda: _answers(plan), READY_SECONDS, f"the API server is not ready: see {log}")
    say(f"API server at {plan.url}")
    manifests = COREDNS.read_text().replace("DNS_ADDRESS", plan.dns)
    _await(
        lambda: kubectl(plan, "apply", "-f", "-", text=manifests), 30.0, f"no CoreDNS: see {log}"
    )
    import_image(plan, parts.mesh)
    say("images imported")
    _await(
        lambda: kubectl(plan, "wait", "--for=condition=Ready", "node", plan.name, "--timeout=5s"),
        READY_SECONDS,
        f"the node is not Ready: see {log}/kubelet.log",
    )
    say("node Ready")
    ready = ("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s")
    _await(lambda: kubectl(plan, *ready), READY_SECONDS, f"CoreDNS is not Ready: see {log}")
    say("CoreDNS Ready")


def kubectl(plan: Plan, *arguments: str, text: str = "") -> bool:
    """Run kubectl as administrator; whether it went well."""
    done = subprocess.run(
        ["kubectl", f"--kubeconfig={plan.kubeconfig}", "--request-timeout=20s", *arguments],
        input=text,
        text=True,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _answers(plan: Plan) -> bool:
    anchor = (plan.folder / "root" / "upper" / CONFIG.lstrip("/") / "serving-ca.crt").read_text()
    context = ssl.create_default_context(cadata=anchor)
    try:
        with urllib.request.urlopen(f"{plan.url}/readyz", context=context, timeout=5):
            return True
    except OSError:
        return False


def _await(probe: Callable[[], Any], seconds: float, problem: str) -> Any:
    """The first true value of `probe`. Raises BuildError with `problem` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise BuildError(f"{problem} (waited {seconds:g} s)")
        time.sleep(0.1)  # what is waited for has no other way to say so
    return value


def _inside(plan: Plan) -> list[str]:
    return ["nsenter", f"--target={_pid(plan)}", "--mount", "--net", "--pid", "--uts", "--ipc"]


def _pid(plan: Plan) -> int:
    return int((plan.folder / "pid").read_text())


def _clear(plan: Plan) -> None:
    _stop(plan, keep_logs=False)


def _stop(plan: Plan, *, keep_logs: bool) -> None:
    machine.end_processes(plan)
    machine.leave_network(plan)
    if not plan.folder.exists():
        return
    for path in plan.folder.iterdir():
        if not (keep_logs and path == plan.logs):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not keep_logs:
        plan.folder.rmdir()


def lock_file(name: str) -> Path:
    """Held while a node comes or goes."""
    return cache_home() / "nodes" / f"{name}.lock"


@contextmanager
def _alone(name: str) -> Iterator[None]:
    file = lock_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
