"""Nobody hands out rights that they do not have: the rule behind roles and bindings. Pure.

Follows k8s.io/kubernetes/pkg/registry/rbac/escalation_check.go: the verb `escalate` on a
role, or `bind` on the role that a binding names, lifts the rule.
"""

from __future__ import annotations

from mesh.local.api import rbac, status
from mesh.local.api.rbac import Action, Roles
from mesh.local.api.resources import Object, Resource
from mesh.local.api.users import MASTERS, User


def check(roles: Roles, row: Resource, obj: Object, user: User) -> None:
    """Raises ApiError 403 when a role or binding would give away more than its writer has."""
    if MASTERS in user.groups or row.group != rbac.GROUP:
        return
    meta = obj["metadata"]
    namespace = meta.get("namespace", "")
    rules = obj.get("rules") or []
    free = Action("escalate", row.group, row.plural, "", namespace, meta["name"])
    if "roleRef" in obj:
        reference = obj["roleRef"]
        key = rbac.ROLES if reference["kind"] == "Role" else rbac.CLUSTER_ROLES
        scope = namespace if reference["kind"] == "Role" else None
        rules = (roles.find(key, scope, reference["name"]) or {}).get("rules") or []
        plural = key.partition(".")[0]
        free = Action("bind", row.group, plural, "", namespace, reference["name"])
    if rbac.decide(roles, user, free).allowed:
        return
    have = [rule for rule, _ in rbac.granted(roles, user, namespace)]
    missing = rbac.covers(have, rules)
    if missing:
        groups = " ".join(f'"{group}"' for group in user.groups)
        words = (
            f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions '
            "not currently held:\n" + "\n".join(missing)
        )
        raise status.forbidden(row, meta.get("name", ""), words)
