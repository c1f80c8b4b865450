"""Kubeconfigs as text: where a server is, whom to trust, and who one is."""

from __future__ import annotations

import base64
import json

from tests.cluster.certificates import Pair


def kubeconfig(
    url: str, anchor: bytes, user: str, pair: Pair, *, namespace: str = "default"
) -> str:
    """A kubeconfig with a certificate and all else that it needs inside."""
    proof = {
        "client-certificate-data": _base64(pair.certificate),
        "client-key-data": _base64(pair.key),
    }
    return _config(url, anchor, user, proof, namespace)


def token_kubeconfig(url: str, anchor: bytes, user: str, token: str) -> str:
    """A kubeconfig for whoever a token names."""
    return _config(url, anchor, user, {"token": token}, "default")


def _config(url: str, anchor: bytes, user: str, proof: dict[str, str], namespace: str) -> str:
    cluster = {"server": url, "certificate-authority-data": _base64(anchor)}
    context = {"cluster": "test", "user": user, "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": user, "user": proof}],
        "contexts": [{"name": "test", "context": context}],
    }
    return json.dumps(config, indent=1)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
