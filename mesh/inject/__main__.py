"""`python -m mesh.inject`: settings, build, run, exit code."""

from __future__ import annotations

import os
import sys

from mesh.inject.role import run
from mesh.inject.settings import Settings
from mesh.runtime import lifecycle, logs
from mesh.runtime.settings import load


async def main() -> int:
    settings = load(Settings, os.environ)
    logs.configure("inject", level=settings.log_level, form=settings.log_format)
    return await run(settings)


if __name__ == "__main__":
    sys.exit(lifecycle.run_role(main))
