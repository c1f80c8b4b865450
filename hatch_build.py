"""Compiles the data path into the wheel with mypyc, where there is a compiler.

The modules named here are the ones that every request crosses; the rest stays Python. A wheel
built without a compiler is pure and behaves the same. A checkout that is installed in place
(`pip install --editable`) never compiles: objects would go stale behind its sources.

LIGHTMESH_COMPILE=0 asks for a pure wheel, 1 fails where it could not be compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "answer",
    "attempts",
    "backends",
    "balance",
    "batching",
    "budget",
    "client_connection",
    "client_stream",
    "client_streams",
    "deadline",
    "exchange",
    "grpc",
    "guard",
    "heads",
    "heads2",
    "heads2_app",
    "held",
    "hop",
    "hpack",
    "http1",
    "http1_request",
    "http1_response",
    "http2",
    "http2_frames",
    "http2_sending",
    "inbound",
    "lineage",
    "mirror",
    "observed",
    "outbound",
    "plan",
    "pool",
    "retry",
    "server_connection",
    "server_streams",
    "targets",
    "telemetry",
    "tls",
)
_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

options = ["--config-file=mypyc.ini"]
modules = mypycify([*options, *{files!r}], group_name="lightmesh", debug_level="0")
setup(name="lightmesh", packages=[], ext_modules=modules)
"""
_SETTINGS = "[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n"


class CompileError(Exception):
    """The modules could not be compiled: what the compiler said."""


class CompileHook(BuildHookInterface[Any]):
    """Adds the extension modules of `COMPILED` to a wheel, and its tags."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get("LIGHTMESH_COMPILE", "")
        if self.target_name != "wheel" or version == "editable" or wish == "0":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="lightmesh-build-"))
        try:
            compile_into(self._folder / "packages", Path(self.root))
        except CompileError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            if wish == "1":
                raise
            last = str(error).strip().splitlines()[-1]
            self.app.display_warning(f"a pure wheel, as nothing could be compiled: {last}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        packages = self._folder / "packages"
        for built in packages.rglob("*.so"):
            build_data["force_include"][str(built)] = str(built.relative_to(packages))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def compile_into(folder: Path, root: Path) -> None:
    """Put the packages `mesh` and `proxy` into a new `folder`, compiled. Raises CompileError."""
    pure = shutil.ignore_patterns("__pycache__")
    for package in ("mesh", "proxy"):
        shutil.copytree(root / package, folder / package, ignore=pure)
    files = [f"proxy/{name}.py" for name in COMPILED]
    (folder / "setup.py").write_text(_SETUP.format(files=files))
    (folder / "mypyc.ini").write_text(_SETTINGS)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stdout + done.stderr)
    for rest in ("build", ".mypy_cache"):
        shutil.rmtree(folder / rest, ignore_errors=True)
    (folder / "setup.py").unlink()
    (folder / "mypyc.ini").unlink()


if __name__ == "__main__":  # python hatch_build.py FOLDER: only compile, for tests and benchmarks
    try:
        compile_into(Path(sys.argv[1]), Path(__file__).parent)
    except CompileError as error:
        sys.exit(str(error))
