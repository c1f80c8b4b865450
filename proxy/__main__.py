"""`python -m proxy`: settings, build, run, exit code."""

from __future__ import annotations

import asyncio
import os
import sys

import uvloop

from mesh.core.errors import ConfigError
from mesh.runtime import logs
from mesh.runtime.credentials import Credentials, TrustSettings
from mesh.runtime.settings import load
from proxy import server
from proxy.discovery import Discovery
from proxy.settings import Settings


def main() -> int:
    """Run one proxy until it is told to stop."""
    try:
        settings = load(Settings, os.environ)
        logs.configure("proxy", level=settings.log_level, form=settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1


async def _run(settings: Settings) -> int:
    credentials = Credentials.from_settings(load(TrustSettings, os.environ))
    discovery = Discovery(settings, credentials)
    return await server.run(settings, discovery=discovery, credentials=credentials)


if __name__ == "__main__":
    sys.exit(main())
