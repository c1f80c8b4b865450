#!/usr/bin/env bash
# Sets up a Debian-like machine: system packages when root (printed either way), then a virtual
# environment from the hashed locks.
#   deploy/setup.sh VENV            what running the mesh needs
#   deploy/setup.sh --test-tools    what the tests need besides
#   deploy/setup.sh --conformance-tools  what make test-conformance needs besides
#   deploy/setup.sh --cluster-tools what a whole Kubernetes node needs
#   deploy/setup.sh --bench-tools   the peers of the benchmark
set -euo pipefail
cd "$(dirname "$0")/.."

# need COMMAND=PACKAGE ...: install the packages whose command (or file) is missing
need() {
  local missing=() pair
  for pair in "$@"; do
    local thing=${pair%%=*} package=${pair#*=}
    if [[ $thing == /* ]]; then
      compgen -G "$thing" >/dev/null || missing+=("$package")
    else
      PATH=$PATH:/usr/sbin:/sbin command -v "$thing" >/dev/null || missing+=("$package")
    fi
  done
  [[ ${#missing[@]} -eq 0 ]] && return
  if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "missing packages, install them first: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "installing packages: ${missing[*]}"
  apt-get update -qq >/dev/null || true
  keep_daemons_down
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
  for package in "${missing[@]}"; do
    case $package in # wanted as programs: not to start with the machine either
    nginx-light) systemctl --quiet disable nginx 2>/dev/null || true ;;
    haproxy) systemctl --quiet disable haproxy 2>/dev/null || true ;;
    etcd-server) systemctl --quiet disable etcd 2>/dev/null || true ;;
    esac
  done
}

# What is installed here is used as a program; Debian would start nginx, haproxy and etcd as
# daemons. It asks policy-rc.d first: ours says no, and is gone when this script ends.
POLICY=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
keep_daemons_down() {
  [[ -e $POLICY ]] && return
  trap 'rm -f "$POLICY"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$POLICY"
  chmod 755 "$POLICY"
}

case "${1:?usage: deploy/setup.sh VENV | --test-tools | --conformance-tools | --cluster-tools | --bench-tools}" in
--test-tools)
  need openssl=openssl ip=iproute2 nft=nftables iptables=iptables curl=curl nginx=nginx-light \
    strace=strace etcd=etcd-server
  exit
  ;;
--conformance-tools)
  need slowhttptest=slowhttptest
  exit
  ;;
--cluster-tools)
  need ip=iproute2 iptables=iptables nsenter=util-linux mmdebstrap=mmdebstrap \
    /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
  exit
  ;;
--bench-tools)
  need wrk=wrk nginx=nginx-light haproxy=haproxy h2load=nghttp2-client nghttpd=nghttp2-server
  exit
  ;;
esac

venv=$1
need iptables=iptables nft=nftables ip=iproute2 gcc=gcc /usr/include/stdlib.h=libc6-dev
python=
for candidate in "${PYTHON:-}" /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
  [[ -n $candidate ]] && command -v "$candidate" >/dev/null || continue
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$candidate
    break
  fi
done
if [[ -z $python ]]; then
  echo "Python 3.11 or newer is needed; set PYTHON to its path" >&2
  exit 1
fi
if [[ $(command -v "$python") == /usr/bin/* ]]; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  need "/usr/lib/python$version/ensurepip/__init__.py=python3-venv" \
    "/usr/include/python$version/Python.h=python3-dev"
fi
echo "virtual environment: $venv ($("$python" --version))"
"$python" -m venv "$venv"
pip=("$venv/bin/pip" --quiet --disable-pip-version-check)
"${pip[@]}" install --require-hashes -r requirements/build.lock
"${pip[@]}" install --require-hashes --no-build-isolation -r requirements/dev.lock
"${pip[@]}" install --no-deps --no-build-isolation --editable .
