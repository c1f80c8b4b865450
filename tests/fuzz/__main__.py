"""Fuzz all parsers, or those that are named, one after the other.

`python -m tests.fuzz [--seconds N] [NAME ...]`. With atheris (requirements/fuzz.lock) inputs
are led by the code that they reach, and what was learned is kept outside the clone for the next
run; without it they are seeds, changed blindly. The exit code is 1 when there was a finding.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.cache import cache_home


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each parser")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    has_atheris = importlib.util.find_spec("atheris") is not None
    if args.one:
        (_led if has_atheris else _blind)(args.names[0], args.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    failed = []
    for name in args.names or TARGETS:
        print(f"== {name}: {args.seconds:g} s, {'atheris' if has_atheris else 'blind'}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", "--one", "--seconds", str(args.seconds)]
        if subprocess.run([*command, name], check=False).returncode:
            failed.append(name)
    print(f"findings: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _folder(name: str) -> Path:
    folder = cache_home() / "fuzz" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _led(name: str, seconds: float) -> None:
    """libFuzzer's loop; it ends the process."""
    import atheris  # type: ignore[import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["proxy", "mesh.core"]):
        from tests.fuzz.targets import TARGETS
    target, folder = TARGETS[name], _folder(name)
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)
    flags = [f"-max_total_time={int(seconds)}", "-max_len=4096", "-timeout=20", "-verbosity=0"]
    flags += [f"-artifact_prefix={folder.parent}/{name}-", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *flags, str(folder)], target.run)
    atheris.Fuzz()


def _blind(name: str, seconds: float) -> None:
    from tests.fuzz.mutate import inputs
    from tests.fuzz.targets import TARGETS

    target, began, count = TARGETS[name], time.monotonic(), 0
    for data in inputs(list(target.seeds()), int(time.time())):
        if time.monotonic() - began > seconds:
            break
        count += 1
        try:
            target.run(data)
        except BaseException:
            found = _folder(name).parent / f"{name}-finding"
            found.write_bytes(data)
            print(f"finding in {found}: {data!r}", flush=True)
            raise
    print(f"{count} inputs in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
