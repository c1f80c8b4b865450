"""The release before on the wire: what it does not know has a wire version of its own.

A proxy ignores fields that it does not know; `mesh.core.older` words an update for its version.
A field that is new since the last release is only kept from being ignored if the version is.
"""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec

from mesh.core import model, wire
from mesh.core.model import Target, Update
from mesh.core.older import for_wire
from tests.support.previous import REPOSITORY, run_previous

DUMP = """
import json, dataclasses, msgspec
from mesh.core import model, wire
def fields_of(kind):
    if dataclasses.is_dataclass(kind):
        return sorted(f.name for f in dataclasses.fields(kind))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return sorted(kind.__struct_fields__)
    return sorted(kind.__members__)
def is_wire(kind):
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or hasattr(kind, "__members__")
        or issubclass(kind, msgspec.Struct))
found = {n: fields_of(k) for n, k in vars(model).items() if is_wire(k)}
print(json.dumps({"version": wire.WIRE_VERSION, "fields": found}))
"""


def _now() -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", DUMP], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout)["fields"]
    return found


def test_a_field_that_is_new_since_the_release_before_has_a_new_wire_version() -> None:
    before = json.loads(run_previous("-c", DUMP))
    new = {
        f"{name}.{field}"
        for name, fields in _now().items()
        for field in set(fields) - set(before["fields"].get(name, ()))
        if name in before["fields"]
    }

    assert not new or before["version"] < wire.WIRE_VERSION, sorted(new)


def test_an_update_for_the_release_before_reads_there_as_it_was_meant() -> None:
    version = json.loads(run_previous("-c", DUMP))["version"]
    update = Update(
        1,
        {
            "10.96.0.1:80": Target(
                "10.96.0.1:80",
                rules=(model.Rule((model.Backend("web.shop.svc.cluster.local:80"),)),),
            )
        },
    )
    text = msgspec.json.encode(for_wire(update, version)).decode()
    read = (
        "import sys, msgspec\n"
        "from mesh.core.model import Update\n"
        "found = msgspec.json.decode(sys.stdin.read(), type=Update, strict=True)\n"
        "print(msgspec.json.encode(found).decode())"
    )

    assert json.loads(run_previous("-c", read, text=text)) == json.loads(text)
