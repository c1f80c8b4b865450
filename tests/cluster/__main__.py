"""`python -m tests.cluster ACTION`: one whole Kubernetes node, from nothing.

For developers and for `make cluster`. Exit 0 fine, 1 it did not work, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

from tests.cluster.cache import BuildError
from tests.cluster.figures import print_figures
from tests.cluster.images import mesh_image, previous_image
from tests.cluster.node import lifecycle
from tests.cluster.node.parts import Say, make_parts
from tests.cluster.node.plan import Plan

NAME = "lightmesh"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("action", choices=sorted(ACTIONS))
    parser.add_argument("--name", default=NAME, help="of the node; default: %(default)s")
    given = parser.parse_args()
    try:
        return ACTIONS[given.action](given.name)
    except BuildError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def _timed() -> Say:
    started = time.monotonic()
    return lambda text: print(f"{time.monotonic() - started:6.1f} s  {text}", flush=True)


def _parts(_: str) -> int:
    """Only make what takes long: programs, roots and images."""
    lifecycle.check_machine()
    say = _timed()
    make_parts(say)
    say(f"the release before, {previous_image().name}")
    return 0


def _up(name: str) -> int:
    plan = lifecycle.up(name, _timed())
    print(f"up: export KUBECONFIG={plan.kubeconfig}")
    return 0


def _down(name: str) -> int:
    print("down" if lifecycle.down(name) else "nothing to stop")
    return 0


def _status(name: str) -> int:
    plan = lifecycle.find(name)
    if plan is None:
        print("not running: start it with  make cluster")
        return 1
    print(f"running: {plan.url}, logs in {plan.logs}, export KUBECONFIG={plan.kubeconfig}")
    return 0


def _image(name: str) -> int:
    """Make our image of the sources as they are, and import it if the node runs."""
    made = mesh_image()
    plan = lifecycle.find(name)
    if plan is not None:
        lifecycle.import_image(plan, made)
    print(made.name)
    return 0


def _figures(name: str) -> int:
    """Sizes, memory and start of the mesh on the running node, as the README has them."""
    print_figures(_running(name))
    return 0


def _shell(name: str) -> int:
    """A shell of this machine in the node's network, for looking around."""
    plan = _running(name)
    pid = (plan.folder / "pid").read_text()
    return subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net"], check=False).returncode


def _running(name: str) -> Plan:
    plan = lifecycle.find(name)
    if plan is None:
        raise BuildError("not running: start it with  make cluster")
    return plan


ACTIONS: dict[str, Callable[[str], int]] = {
    "down": _down,
    "figures": _figures,
    "image": _image,
    "parts": _parts,
    "shell": _shell,
    "status": _status,
    "up": _up,
}

if __name__ == "__main__":
    sys.exit(main())
