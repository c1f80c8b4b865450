"""Role-based access: may this user do this? Pure evaluation over roles and bindings.

Follows k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac: rules only add; there is no denial.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mesh.local.api.resources import Object
from mesh.local.api.selectors import matches, parse_selector
from mesh.local.api.users import MASTERS, User

GROUP: Final = "rbac.authorization.k8s.io"
ROLES: Final = f"roles.{GROUP}"
CLUSTER_ROLES: Final = f"clusterroles.{GROUP}"
BINDINGS: Final = f"rolebindings.{GROUP}"
CLUSTER_BINDINGS: Final = f"clusterrolebindings.{GROUP}"


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done: to a resource, or (with `path`) to a URL that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def describe(self) -> str:
        """The action as the API server's refusals word it."""
        if self.path:
            return f'cannot {self.verb} path "{self.path}"'
        scope = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        return (
            f'cannot {self.verb} resource "{self.full_resource}" '
            f'in API group "{self.group}" {scope}'
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    reason: str = ""


class Roles(Protocol):
    """Where roles and bindings are found; the store is one."""

    def scan(self, resource: str, namespace: str | None = None) -> Iterator[Object]: ...

    def find(self, resource: str, namespace: str | None, name: str) -> Object | None: ...


def decide(roles: Roles, user: User, action: Action) -> Verdict:
    """Whether the user may do it, and by which binding."""
    if MASTERS in user.groups:
        return Verdict(True)
    for rule, binding in granted(roles, user, action.namespace):
        if rule_allows(rule, action):
            return Verdict(True, f"RBAC: allowed by {binding}")
    return Verdict(False)


def granted(roles: Roles, user: User, namespace: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each rule that the user has in a namespace ("" is the cluster), with its binding."""
    for binding in roles.scan(CLUSTER_BINDINGS):
        subject = _subject(binding, user, "")
        if subject is not None:
            text = (
                f'ClusterRoleBinding "{binding["metadata"]["name"]}" of '
                f'ClusterRole "{binding["roleRef"]["name"]}" to {subject}'
            )
            for rule in _rules(roles, binding, None):
                yield rule, text
    if not namespace:
        return
    for binding in roles.scan(BINDINGS, namespace):
        subject = _subject(binding, user, namespace)
        if subject is not None:
            reference = binding["roleRef"]
            text = (
                f'RoleBinding "{binding["metadata"]["name"]}/{namespace}" of '
                f'{reference["kind"]} "{reference["name"]}" to {subject}'
            )
            for rule in _rules(roles, binding, namespace):
                yield rule, text


def rule_allows(rule: Mapping[str, Any], action: Action) -> bool:
    """Whether one PolicyRule covers the action."""
    if not _has(rule.get("verbs"), action.verb):
        return False
    if action.path:
        return any(_path_matches(p, action.path) for p in rule.get("nonResourceURLs") or ())
    if not _has(rule.get("apiGroups"), action.group):
        return False
    if not _resource_matches(rule.get("resources") or (), action):
        return False
    names = rule.get("resourceNames")
    return not names or action.name in names


def covers(rules: Iterable[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """What of `wanted` the rules do not give, in words: nobody grants more than they have."""
    have = list(rules)
    missing = []
    for rule in wanted:
        for action in _break_down(rule):
            if not any(rule_allows(one, action) for one in have):
                missing.append(_words(action))
    return missing


def aggregate(cluster_roles: Iterable[Object], role: Object) -> list[Any]:
    """The rules of a ClusterRole with an aggregationRule: those of the roles it selects."""
    found: list[Any] = []
    for raw in role["aggregationRule"].get("clusterRoleSelectors") or ():
        selector = parse_selector(raw)
        for other in cluster_roles:
            meta = other["metadata"]
            if meta["name"] != role["metadata"]["name"] and matches(selector, meta.get("labels")):
                found.extend(rule for rule in other.get("rules") or () if rule not in found)
    return found


def _rules(roles: Roles, binding: Object, namespace: str | None) -> Iterable[Mapping[str, Any]]:
    reference = binding["roleRef"]
    if reference["kind"] == "ClusterRole":
        role = roles.find(CLUSTER_ROLES, None, reference["name"])
    elif namespace:
        role = roles.find(ROLES, namespace, reference["name"])
    else:
        role = None
    return (role or {}).get("rules") or ()


def _subject(binding: Object, user: User, namespace: str) -> str | None:
    for subject in binding.get("subjects") or ():
        name = subject.get("name", "")
        match subject.get("kind"):
            case "User" if name == user.name:
                return f'User "{name}"'
            case "Group" if name in user.groups:
                return f'Group "{name}"'
            case "ServiceAccount":
                where = subject.get("namespace") or namespace
                if user.name == f"system:serviceaccount:{where}:{name}":
                    return f'ServiceAccount "{name}/{where}"'
    return None


def _has(values: Iterable[str] | None, wanted: str) -> bool:
    known = values or ()
    return wanted in known or "*" in known


def _resource_matches(resources: Iterable[str], action: Action) -> bool:
    full = action.full_resource
    for resource in resources:
        if resource in ("*", full):
            return True
        if action.subresource and resource == f"*/{action.subresource}":
            return True
    return False


def _path_matches(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path


def _break_down(rule: Mapping[str, Any]) -> Iterator[Action]:
    for verb in rule.get("verbs") or ():
        for path in rule.get("nonResourceURLs") or ():
            yield Action(verb, path=path)
        for group in rule.get("apiGroups") or ():
            for resource in rule.get("resources") or ():
                plural, _, sub = resource.partition("/")
                for name in rule.get("resourceNames") or ("",):
                    yield Action(verb, group, plural, sub, name=name)


def _words(action: Action) -> str:
    if action.path:
        return f'{{NonResourceURLs:["{action.path}"], Verbs:["{action.verb}"]}}'
    parts = [f'APIGroups:["{action.group}"]', f'Resources:["{action.full_resource}"]']
    if action.name:
        parts.append(f'ResourceNames:["{action.name}"]')
    parts.append(f'Verbs:["{action.verb}"]')
    return "{" + ", ".join(parts) + "}"
