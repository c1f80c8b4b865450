"""What each part of the node is told: files and flags, as data. No I/O.

The reasons behind the unusual values: this must run where CAP_SYS_RESOURCE is missing, on
cgroup v1 as well as v2, without systemd, in a network namespace that lacks conntrack's sysctls,
and on a disk that may be nearly full.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tests.cluster.certificates import Authority
from tests.cluster.images import PAUSE_NAME
from tests.cluster.kubeconfig import kubeconfig
from tests.cluster.node.inside import COMPONENTS
from tests.cluster.node.plan import API_PORT, DOMAIN, Plan
from tests.cluster.server import ADMIN, SHARED_FLAGS, server_files

CONFIG: Final = "/etc/kubernetes"  # the working folder of all parts
ETCD: Final = "http://127.0.0.1:2379"
_PEER: Final = "http://127.0.0.1:2380"

# user and groups of each kubeconfig
USERS: Final = {
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-proxy": ("system:kube-proxy", ()),
}


def node_files(plan: Plan) -> dict[str, bytes]:
    """Every file that the node needs, by its path there; new keys each time."""
    users, front, serving = Authority("users"), Authority("front proxy"), Authority("serving")
    names = [plan.address, plan.api, "127.0.0.1", "localhost", "kubernetes"]
    names += ["kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}"]
    files = server_files(names, users, front, serving)
    anchor = serving.certificate
    files["serving-ca.crt"] = anchor
    kubelet = users.client("kube-apiserver-kubelet-client", ["system:masters"])
    files |= {"kubelet-client.crt": kubelet.certificate, "kubelet-client.key": kubelet.key}
    identities = USERS | {
        "kubelet": (f"system:node:{plan.name}", ("system:nodes",)),
        ADMIN: (ADMIN, ("system:masters",)),
    }
    for part, (user, groups) in identities.items():
        text = kubeconfig(plan.url, anchor, user, users.client(user, groups))
        files[f"{part}.kubeconfig"] = text.encode()
    files["kubelet.json"] = _json(_kubelet(plan))
    files["kube-proxy.json"] = _json(_kube_proxy(plan))
    found = {f"{CONFIG}/{name}": content for name, content in files.items()}
    return found | {
        "/etc/containerd/config.toml": _containerd().encode(),
        "/etc/cni/net.d/10-pods.conflist": _json(_network(plan)),
        "/etc/hosts": f"127.0.0.1 localhost\n{plan.address} {plan.name}\n".encode(),
        "/etc/resolv.conf": f"nameserver {plan.dns}\n".encode(),
        "/etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",  # the kubelet looks itself up
        "/etc/group": b"root:x:0:\n",
    }


def node_commands(plan: Plan) -> dict[str, list[str]]:
    """The command of each part of the node, by the name of its log."""
    return {
        "containerd": ["/usr/bin/containerd", "--config", "/etc/containerd/config.toml"],
        "etcd": [
            "/usr/bin/etcd",
            *("--data-dir", "/var/lib/etcd", "--unsafe-no-fsync"),
            *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD),
            *("--listen-peer-urls", _PEER, "--initial-advertise-peer-urls", _PEER),
            *("--initial-cluster", f"default={_PEER}"),
        ],
        "kube-apiserver": _component("kube-apiserver", _api_server(plan)),
        "kube-controller-manager": _component("kube-controller-manager", _controllers(plan)),
        "kube-scheduler": _component("kube-scheduler", _local("kube-scheduler")),
        "kubelet": _component(
            "kubelet",
            {
                "config": "kubelet.json",
                "kubeconfig": "kubelet.kubeconfig",
                "hostname-override": plan.name,
                "node-ip": plan.address,
                "root-dir": "/var/lib/kubelet",
                "v": "2",
            },
        ),
        "kube-proxy": _component("kube-proxy", {"config": "kube-proxy.json", "v": "2"}),
    }


def _component(name: str, flags: dict[str, str]) -> list[str]:
    return [f"{COMPONENTS}/{name}", *(f"--{flag}={value}" for flag, value in flags.items())]


def _api_server(plan: Plan) -> dict[str, str]:
    return SHARED_FLAGS | {
        "etcd-servers": ETCD,
        "bind-address": "0.0.0.0",
        "advertise-address": plan.address,
        "secure-port": str(API_PORT),
        "service-cluster-ip-range": plan.services,
        "kubelet-client-certificate": "kubelet-client.crt",
        "kubelet-client-key": "kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
    }


def _controllers(plan: Plan) -> dict[str, str]:
    return _local("kube-controller-manager") | {
        "root-ca-file": "serving-ca.crt",
        "service-account-private-key-file": "tokens.key",
        "use-service-account-credentials": "true",
        "cluster-cidr": plan.pods,
        "service-cluster-ip-range": plan.services,
    }


def _local(name: str) -> dict[str, str]:
    """Flags of a part that has a kubeconfig of its own and no second replica."""
    config = f"{name}.kubeconfig"
    return {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "profiling": "false",
    }


def _kubelet(plan: Plan) -> dict[str, Any]:
    full = {"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%"}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "10s"},
            "x509": {"clientCAFile": f"{CONFIG}/users-ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{plan.cgroup}",
        "clusterDNS": [plan.dns],
        "clusterDomain": DOMAIN,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "evictionHard": full | {"imagefs.available": "1%", "imagefs.inodesFree": "1%"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 200,
        "resolvConf": "/etc/resolv.conf",
        "volumePluginDir": "/var/lib/kubelet/plugins-exec",
    }


def _kube_proxy(plan: Plan) -> dict[str, Any]:
    untouched = {"maxPerCore": 0, "min": 0}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "clientConnection": {"kubeconfig": f"{CONFIG}/kube-proxy.kubeconfig"},
        "clusterCIDR": plan.pods,
        "conntrack": untouched | {"tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "hostnameOverride": plan.name,
        "mode": "iptables",
    }


def _containerd() -> str:
    """restrict_oom_score_adj: a sandbox's score needs CAP_SYS_RESOURCE, which may be missing."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    others = ("aufs", "btrfs", "devmapper", "zfs")
    disabled = ", ".join(f'"io.containerd.snapshotter.v1.{name}"' for name in others)
    return f"""version = 2
disabled_plugins = [{disabled}]
[{cri}]
  sandbox_image = "{PAUSE_NAME}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [{cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [{cri}.containerd]
    snapshotter = "overlayfs"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def _network(plan: Plan) -> dict[str, Any]:
    """Routed pods without a bridge, so that all between them passes conntrack."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": plan.pod_subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
