"""`python -m proxy [--workers N]`: settings, build, run, exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run one proxy until it is told to stop."""
    # msgspec asks for typing_extensions and falls back to typing, which has all it needs here.
    # Every pod would pay 5.5 MB and 25 ms of its start for that import.
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]
    import asyncio

    import uvloop

    from mesh.core.errors import ConfigError
    from mesh.runtime import logs
    from mesh.runtime.settings import load, usage
    from proxy import server
    from proxy.settings import Settings

    if arguments in (["-h"], ["--help"]):
        print(usage(Settings, "python -m proxy"))
        return 0
    try:
        settings = load(Settings, os.environ, arguments)
        logs.configure("proxy", level=settings.log_level, form=settings.log_format)
        if settings.workers > 1:
            from proxy import workers

            return workers.run(settings, os.environ)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(server.run(settings, os.environ))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
