"""The kinds that are questions: token reviews, access reviews, token requests.

Nothing of them is stored. The questions and answers are data; time comes from the Api.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.core.errors import ApiError
from mesh.local.api import rbac, status
from mesh.local.api.authn import AUDIENCES, Authenticator
from mesh.local.api.rbac import Action
from mesh.local.api.resources import Object
from mesh.local.api.store import Store, timestamp
from mesh.local.api.tokens import DEFAULT_LIFE, ISSUER, LONGEST, SHORTEST, Binding, Signer
from mesh.local.api.users import MASTERS, User


class Reviews:
    """Answers the review kinds over one store."""

    def __init__(self, store: Store, auth: Authenticator, signer: Signer) -> None:
        self._store = store
        self._auth = auth
        self._signer = signer
        self._answers: dict[str, Callable[[Object, User], Object]] = {
            "TokenReview": self._token,
            "SelfSubjectReview": lambda _, user: {"userInfo": user.info()},
            "SubjectAccessReview": self._access,
            "LocalSubjectAccessReview": self._access,
            "SelfSubjectAccessReview": self._self_access,
            "SelfSubjectRulesReview": self._rules,
        }

    def answers(self, kind: str) -> bool:
        return kind in self._answers

    def answer(self, review: Object, user: User) -> Object:
        """The review with its status. Raises ApiError 400, 422."""
        spec = review.get("spec") or {}
        if not isinstance(spec, dict):
            raise status.bad_request("spec is not an object")
        found = self._answers[review["kind"]](spec, user)
        kept = {key: value for key, value in review.items() if key != "status"}
        return {**kept, "metadata": review.get("metadata") or {}, "status": found}

    def _token(self, spec: Object, _: User) -> Object:
        wanted = tuple(spec.get("audiences") or ())
        token = spec.get("token") or ""
        if not token:
            raise status.bad_request("token is required for TokenReview in authentication")
        try:
            user, good = self._auth.user_of(token, wanted or AUDIENCES)
        except ApiError as error:
            cause = error.__cause__
            words = str(cause) if isinstance(cause, Exception) else "the token is no good"
            return {"user": {}, "error": f"[invalid bearer token, {words}]"}
        return {
            "authenticated": True,
            "user": user.info(),
            "audiences": good if wanted else [ISSUER],
        }

    def _access(self, spec: Object, _: User) -> Object:
        groups = tuple(spec.get("groups") or ())
        return self._decide(spec, User(str(spec.get("user") or ""), groups))

    def _self_access(self, spec: Object, user: User) -> Object:
        return self._decide(spec, user)

    def _decide(self, spec: Object, user: User) -> Object:
        verdict = rbac.decide(self._store, user, action_of(spec))
        found: Object = {"allowed": verdict.allowed}
        if verdict.reason:
            found["reason"] = verdict.reason
        return found

    def _rules(self, spec: Object, user: User) -> Object:
        resources: list[Any] = []
        paths: list[Any] = []
        everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
        if MASTERS in user.groups:
            resources, paths = everything, [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
        for rule, _ in rbac.granted(self._store, user, str(spec.get("namespace") or "")):
            (paths if rule.get("nonResourceURLs") else resources).append(dict(rule))
        return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}

    # -- token requests ----------------------------------------------------------------------

    def issue(self, namespace: str, name: str, request: Object) -> Object:
        """Answer a TokenRequest for a service account. Raises ApiError 400, 404, 409, 422."""
        account = self._store.get("serviceaccounts", namespace, name)
        spec = request.get("spec") or {}
        seconds = spec.get("expirationSeconds")
        seconds = DEFAULT_LIFE if seconds is None else seconds
        if not isinstance(seconds, int) or not SHORTEST <= seconds <= LONGEST:
            words = "may not specify a duration less than 10 minutes"
            fault = status.bad("spec.expirationSeconds", seconds, words)
            raise status.invalid("authentication.k8s.io", "TokenRequest", "", [fault])
        audiences = list(spec.get("audiences") or []) or [ISSUER]
        binding = self._bind(namespace, account, spec.get("boundObjectRef") or {})
        token, ends = self._signer.issue(account, audiences, seconds, binding)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**spec, "audiences": audiences, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": timestamp(ends)},
        }

    def _bind(self, namespace: str, account: Object, reference: Object) -> Binding:
        kind, name = reference.get("kind", ""), reference.get("name", "")
        if not kind:
            return Binding()
        resources = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
        if kind not in resources:
            raise status.bad_request(f"cannot bind token to object of type {kind}")
        found = self._store.get(resources[kind], None if kind == "Node" else namespace, name)
        uid = found["metadata"]["uid"]
        if reference.get("uid") not in (None, "", uid):
            raise status.conflict(
                resources[kind],
                name,
                f"the UID in the bound object reference ({reference['uid']}) does not match the "
                f"UID in record. The object might have been deleted and then recreated",
            )
        if kind != "Pod":
            return Binding(kind, name, uid)
        owner = (found.get("spec") or {}).get("serviceAccountName")
        if owner != account["metadata"]["name"]:
            raise status.bad_request(
                f'cannot bind token for serviceaccount "{account["metadata"]["name"]}" to pod '
                f"running with different serviceaccount name."
            )
        node = self._store.find("nodes", None, found["spec"].get("nodeName") or "")
        if node is None:
            return Binding(kind, name, uid)
        return Binding(kind, name, uid, node["metadata"]["name"], node["metadata"]["uid"])


def action_of(spec: Object) -> Action:
    """The action that an access review asks about. Raises ApiError 422."""
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        words = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        fault = status.bad("spec", "", words)
        raise status.invalid("authorization.k8s.io", "SubjectAccessReview", "", [fault])
    if resource is None:
        path = path or {}
        return Action(path.get("verb", ""), path=path.get("path", ""))
    return Action(
        resource.get("verb", ""),
        resource.get("group", ""),
        resource.get("resource", ""),
        resource.get("subresource", ""),
        resource.get("namespace", ""),
        resource.get("name", ""),
    )
