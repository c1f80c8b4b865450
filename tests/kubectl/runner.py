"""Runs the blocks of `commands.txt` with a real kubectl and compares what it prints.

The file's form:

    ## a block's name: its commands run in order, blocks stand alone
    --- file app.yaml          lines until "--- end" are a file for the block's commands
    --- end
    $ kubectl apply -f app.yaml
    deployment.apps/web created
    [1]                        the exit code, where it is not 0
    ? kubectl logs web         as $, but only against the embedded API server

Outputs are normalised before they are compared: ages, times, uids, revisions, addresses,
random suffixes and column widths. `python -m tests.kubectl.runner --kubeconfig FILE` prints
what differs; with `--update` it writes what was seen into the file.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

COMMANDS: Final = Path(__file__).with_name("commands.txt")
TIMEOUT: Final = 30.0  # seconds for one command

_RULES: Final = (
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uid>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "<time>"),
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000", "<time>"),
    (r"(resourceVersion: |Resource Version: +)\"?\d+\"?", r"\1<revision>"),
    (r"\b(\d+[smhd])+\b(?! life)", "<age>"),
    (r"\b(?!0\.0\.0\.0)\d{1,3}(\.\d{1,3}){3}\b(:\d+)?", "<ip>"),
    (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-<random>"),
    (r"/tmp/(LIVE|MERGED)-\d+", r"/tmp/\1"),
    (r"\t\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000", "\t<time>"),
    (r"(?s)(previously negative\)\n)@@.*", r"\1"),
    (r", application/apply-patch\+yaml", ""),
    # what kubectl's own versions word differently
    (r" from \S+ namespace\n", "\n"),
    (r"ConfigMapOptional: +<nil>", "Optional:  false"),
    (r"(success|failure)Threshold=", r"#\1="),
    (r"(is not valid for pod \w+) out of: .*", r"\1"),
    (r"(Error from server \(NotFound\)|error: unable to upgrade connection): mesh", "error: mesh"),
    (r"[ \t]+\n", "\n"),
    (r"(?<=\S)  +", "  "),
)


@dataclass(slots=True)
class Command:
    """One line that is run, and the output that is expected, exit code included."""

    line: str
    expected: str
    local_only: bool = False


@dataclass(slots=True)
class Block:
    name: str
    head: str = ""  # comments and files, as they stand in the file
    files: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Difference:
    """A command whose output was not the expected one."""

    command: Command
    seen: str

    def __str__(self) -> str:
        return f"$ {self.command.line}\n-- expected\n{self.command.expected}\n-- seen\n{self.seen}"


def parse(text: str) -> list[Block]:
    """The blocks of a commands file. Raises ValueError on a line outside of any block."""
    blocks: list[Block] = []
    name = ""
    for line in text.splitlines():
        if name:
            if line == "--- end":
                name = ""
            else:
                blocks[-1].files[name] += line + "\n"
            blocks[-1].head += line + "\n"
        elif line.startswith("## "):
            blocks.append(Block(line[3:]))
        elif not blocks:
            if line and not line.startswith("#"):
                raise ValueError(f"a line outside of any block: {line}")
        elif line.startswith("--- file "):
            name = line.removeprefix("--- file ")
            blocks[-1].files[name] = ""
            blocks[-1].head += line + "\n"
        elif line.startswith(("$ ", "? ")):
            blocks[-1].commands.append(Command(line[2:], "", line[0] == "?"))
        elif blocks[-1].commands:
            blocks[-1].commands[-1].expected += line + "\n"
        else:
            blocks[-1].head += line + "\n"
    for block in blocks:
        for command in block.commands:
            command.expected = command.expected.rstrip("\n")
    return blocks


def normalise(text: str) -> str:
    """The output without what differs from run to run."""
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    lines = [line.rstrip() for line in text.rstrip().splitlines()]
    faults = sorted(line for line in lines if line.startswith("* "))  # Go walks maps at random
    return "\n".join(faults.pop(0) if line.startswith("* ") else line for line in lines)


def run_block(block: Block, *, kubeconfig: Path, kubectl: str, real: bool) -> list[Difference]:
    """Run a block's commands; gives those whose output differs."""
    found = []
    with tempfile.TemporaryDirectory(prefix="mesh-kubectl-") as folder:
        for name, content in block.files.items():
            (Path(folder) / name).write_text(content)
        for command in block.commands:
            if real and command.local_only:
                continue
            seen = run(command.line, Path(folder), kubeconfig, kubectl)
            if seen != command.expected:
                found.append(Difference(command, seen))
    return found


def run(line: str, folder: Path, kubeconfig: Path, kubectl: str) -> str:
    """The normalised output of one command line, and its exit code where it is not 0."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(kubeconfig.parent / "kubectl-cache"),
    }
    words = shlex.split(line)
    if words[0] == "kubectl":
        words[0] = kubectl
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
        check=False,
    )
    seen = normalise(done.stdout.decode(errors="replace"))
    return f"{seen}\n[{done.returncode}]".lstrip("\n") if done.returncode else seen


def write(blocks: list[Block], introduction: str) -> str:
    """The file again, with the expected outputs as they are now."""
    parts = [introduction.rstrip() + "\n"]
    for block in blocks:
        parts.append(f"\n## {block.name}\n{block.head}")
        for command in block.commands:
            mark = "?" if command.local_only else "$"
            expected = f"{command.expected}\n" if command.expected else ""
            parts.append(f"{mark} {command.line}\n{expected}")
    return "".join(parts)


def main() -> int:
    """Exit code 0 when nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--kubectl", default="kubectl")
    parser.add_argument("--real", action="store_true", help="leave out local-only commands")
    parser.add_argument("--update", action="store_true", help="write what was seen")
    parser.add_argument("blocks", nargs="*", help="words in the names of the blocks to run")
    given = parser.parse_args()
    text = COMMANDS.read_text()
    blocks = parse(text)
    differs = 0
    for block in blocks:
        if given.blocks and not any(word in block.name for word in given.blocks):
            continue
        for difference in run_block(
            block, kubeconfig=given.kubeconfig, kubectl=given.kubectl, real=given.real
        ):
            differs += 1
            if given.update:
                difference.command.expected = difference.seen
            else:
                print(f"## {block.name}\n{difference}\n")
    if given.update:
        COMMANDS.write_text(write(blocks, text.partition("\n## ")[0]))
    print(f"{differs} outputs differ", file=sys.stderr)
    return 1 if differs and not given.update else 0


if __name__ == "__main__":
    sys.exit(main())
