"""`python -m init [--remove]`: program the redirect from the environment, prove it, exit.

Exit code 0: it stands (or is gone, with --remove). 1: it does not, and no rule of ours is left.
2: a setting or an argument is wrong, and nothing was touched.
"""

from __future__ import annotations

import logging
import os
import sys

from init.apply import remove, set_up
from init.backend import RedirectError
from init.settings import read_settings
from mesh.core.errors import ConfigError
from mesh.runtime import logs

USAGE = """usage: python -m init [--remove]

Redirect this pod's TCP connections to the proxy; with --remove, take the rules away again.
Configuration comes from the environment (MESH_INIT_*). Example:

  MESH_INIT_SKIP_OUTBOUND_PORTS=3306,5432-5439 python -m init
"""

log = logging.getLogger("init")


def main(arguments: list[str]) -> int:
    """Run and give the exit code."""
    if arguments in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    if arguments not in ([], ["--remove"]):
        sys.stderr.write(f"expected --remove or nothing, got {' '.join(arguments)}\n{USAGE}")
        return 2
    logs.configure("init")
    try:
        settings = read_settings(os.environ)
    except ConfigError as error:
        for problem in error.problems:
            log.error("%s", problem)
        return 2
    logs.configure("init", level=settings.log_level, form=settings.log_format)
    try:
        if arguments:
            log.info("redirect removed from=%s", ",".join(remove()) or "nowhere")
            return 0
        outcome = set_up(settings)
    except RedirectError as error:
        log.error("%s", error)
        return 1
    log.info(
        "redirect stands backend=%s changed=%s outbound=%s inbound=compared",
        outcome.backend,
        ",".join(outcome.changed) or "nothing",
        ",".join(f"{family}:{proof.value}" for family, proof in outcome.proofs.items()),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
