"""Findings -> what people, scripts and code hosts read. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from mesh import __version__
from mesh.lint.rules.finding import Finding, Level

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def render_table(findings: Sequence[Finding], *, objects: int, files: int) -> str:
    """One finding in two lines, as compilers print theirs, and a sum."""
    lines = []
    for item in findings:
        where = " ".join(part for part in (item.object, item.path) if part)
        lines.append(
            f"{item.file}:{item.line}: {item.level}: {f'{where}: ' if where else ''}"
            f"{item.message} [{item.reason}]"
        )
        lines.append(f"    {item.remedy}")
    lines.append(f"{_sum(findings)} in {_count(objects, 'object')} of {_count(files, 'file')}")
    return "\n".join(lines) + "\n"


def render_json(findings: Sequence[Finding]) -> str:
    return json.dumps({"findings": [asdict(item) for item in findings]}, indent=2) + "\n"


def render_sarif(findings: Sequence[Finding]) -> str:
    """SARIF 2.1.0 (OASIS), one run."""
    rules = sorted({item.reason for item in findings})
    driver = {
        "name": "mesh lint",
        "version": __version__,
        "rules": [{"id": rule} for rule in rules],
    }
    results = [_result(item, rules) for item in findings]
    run = {"tool": {"driver": driver}, "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(item: Finding, rules: Sequence[str]) -> dict[str, Any]:
    where: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": item.file.replace("\\", "/")},
            "region": {"startLine": item.line},
        }
    }
    if item.object:
        name = f"{item.object} {item.path}".strip()
        where["logicalLocations"] = [{"fullyQualifiedName": name}]
    return {
        "ruleId": item.reason,
        "ruleIndex": rules.index(item.reason),
        "level": str(item.level),
        "message": {"text": f"{item.message}. To do: {item.remedy}."},
        "locations": [where],
    }


def _sum(findings: Sequence[Finding]) -> str:
    counts = Counter(item.level for item in findings)
    parts = [_count(counts[level], str(level)) for level in Level if counts[level]]
    return ", ".join(parts) or "no findings"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
