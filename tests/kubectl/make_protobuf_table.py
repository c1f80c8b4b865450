"""Makes `mesh/local/api/protobuf_table.py` from the Go types of k8s.io/api.

Run by hand with the module cache's `k8s.io` folder when the modelled version changes:
`python -m tests.kubectl.make_protobuf_table ~/go/pkg/mod/k8s.io > mesh/local/api/protobuf_table.py`
The Go struct tags hold what a decoder needs: number, JSON name, pointer or not, inline.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Final

API: Final = "api@v0.34.4"
MACHINERY: Final = "apimachinery@v0.34.4/pkg"
PACKAGES: Final = {
    "corev1": f"{API}/core/v1/types.go",
    "appsv1": f"{API}/apps/v1/types.go",
    "batchv1": f"{API}/batch/v1/types.go",
    "rbacv1": f"{API}/rbac/v1/types.go",
    "policyv1": f"{API}/policy/v1/types.go",
    "schedulingv1": f"{API}/scheduling/v1/types.go",
    "coordinationv1": f"{API}/coordination/v1/types.go",
    "authenticationv1": f"{API}/authentication/v1/types.go",
    "authorizationv1": f"{API}/authorization/v1/types.go",
    "autoscalingv1": f"{API}/autoscaling/v1/types.go",
    "metav1": f"{MACHINERY}/apis/meta/v1/types.go",
}
ALIASES: Final = {"v1": "corev1", "apiv1": "corev1"}
ROOTS: Final = (
    "metav1.DeleteOptions",
    *(f"corev1.{kind}" for kind in ("Namespace", "ConfigMap", "Secret", "ServiceAccount")),
    *(f"corev1.{kind}" for kind in ("Service", "Pod", "Event")),
    "appsv1.Deployment",
    *(f"appsv1.{kind}" for kind in ("ReplicaSet", "DaemonSet")),
    *(f"batchv1.{kind}" for kind in ("Job", "CronJob")),
    *(f"rbacv1.{kind}" for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")),
    "policyv1.PodDisruptionBudget",
    "policyv1.Eviction",
    "schedulingv1.PriorityClass",
    "coordinationv1.Lease",
    "authenticationv1.TokenRequest",
    "authenticationv1.TokenReview",
    "authenticationv1.SelfSubjectReview",
    "authorizationv1.SubjectAccessReview",
    "authorizationv1.LocalSubjectAccessReview",
    "authorizationv1.SelfSubjectAccessReview",
    "authorizationv1.SelfSubjectRulesReview",
    "autoscalingv1.Scale",
)
# Messages that the decoder reads itself.
SPECIAL: Final = {
    "metav1.Time",
    "metav1.MicroTime",
    "Quantity",
    "IntOrString",
    "RawExtension",
    "ExtraValue",
}
SCALARS: Final = {
    "string": "",
    "bool": "?",
    "int": "#",
    "int32": "#",
    "int64": "#",
    "uint32": "#",
    "byte": "#",
    "float64": "#",
}
_STRUCT: Final = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
_NAMED: Final = re.compile(r"^type (\w+) (\[?\]?\*?[\w.\[\]]+)\s*$", re.M)
_FIELD: Final = re.compile(r"^\t(?:(\w+) +)?([\w.*\[\]]+) +`([^`]*)`", re.M)


class Table:
    """Structs and named types of the packages, and the messages written so far."""

    def __init__(self, root: Path) -> None:
        self.structs: dict[str, str] = {}
        self.named: dict[str, str] = {}
        for package, path in PACKAGES.items():
            text = (root / path).read_text()
            for match in _STRUCT.finditer(text):
                self.structs[f"{package}.{match[1]}"] = match[2]
            for match in _NAMED.finditer(text):
                self.named[f"{package}.{match[1]}"] = match[2]
        self.done: dict[str, str] = {}

    def add(self, name: str) -> None:
        if name in self.done or name in SPECIAL:
            return
        self.done[name] = ""
        package = name.partition(".")[0]
        fields = []
        for field in _FIELD.finditer(self.structs[name]):
            written = self._field(package, field[2], field[3])
            if written:
                fields.append(written)
        self.done[name] = " ".join([name, *fields])

    def _field(self, package: str, type_: str, tags: str) -> str:
        number = re.search(r'protobuf:"\w+,(\d+)', tags)
        json = re.search(r'json:"([^"]*)"', tags)
        if number is None or json is None:
            return ""
        name, *options = json[1].split(",")
        kept = "^" if type_.startswith("*") or "omitempty" not in options else ""
        code = self._type(package, type_.removeprefix("*"))
        if "inline" in options:
            return f"!:{number[1]}{code}"
        return f"{name}:{number[1]}{code}{kept}"

    def _type(self, package: str, type_: str) -> str:
        if type_ == "[]byte":
            return "@"
        if type_.startswith("[]"):
            return "*" + self._type(package, type_[2:].removeprefix("*"))
        if type_.startswith("map[string]"):
            return "%" + self._type(package, type_.removeprefix("map[string]"))
        if type_ in SCALARS:
            return SCALARS[type_]
        name = self._resolve(package, type_)
        if name in self.named and name not in self.structs:
            return self._type(name.partition(".")[0], self.named[name])
        self.add(name)
        return "." + name

    def _resolve(self, package: str, type_: str) -> str:
        for special in SPECIAL:
            if type_.rpartition(".")[2] == special.rpartition(".")[2]:
                return special
        if type_ == "types.UID" or type_ == "runtime.RawExtension":
            return "RawExtension" if "Raw" in type_ else "metav1.UID"
        prefix, _, last = type_.rpartition(".")
        return f"{ALIASES.get(prefix, prefix) or package}.{last}"


HEAD: Final = '''"""Protobuf field numbers of the kinds kubectl sends so, from the v1.34 types.

Made by `tests/kubectl/make_protobuf_table.py`. One message an entry: its name, then its fields
as `json-name:number` and a type: nothing for strings, `#` integers, `?` booleans, `@` bytes,
`.M` a message, `*` before it a list, `%` a map from strings; `^` keeps zero values; the name
`!` is a message whose fields stand in the object itself.
"""

from typing import Final

TABLE: Final = """
'''


def main(root: str) -> None:
    table = Table(Path(root))
    table.named["metav1.UID"] = "string"
    for name in ROOTS:
        table.add(name)
    lines = [
        "\n  ".join(textwrap.wrap(line, 96, break_long_words=False, break_on_hyphens=False))
        for line in table.done.values()
    ]
    print(HEAD + "\n".join(lines) + '\n"""')


if __name__ == "__main__":
    main(sys.argv[1])
