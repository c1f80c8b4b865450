#!/bin/sh
# Fills /opt/mesh, the virtual environment of the image, inside a Debian of the image's release
# that has python3-venv, python3-dev and a C compiler. Run by deploy/Dockerfile and by
# `python -m tests.cluster`, which keeps what the first step made.
#   deploy/image/python.sh dependencies SOURCES   from the hashed locks
#   deploy/image/python.sh mesh SOURCES           the wheel of these sources
set -eu
step=$1
sources=$2
tools=/opt/tools
export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1

# the tools' Python builds, since it has the build backends; the other one only unpacks
install() {
  wheels=$(mktemp -d)
  "$tools/bin/pip" wheel --quiet --no-deps --no-build-isolation -w "$wheels" "$@"
  "$tools/bin/pip" --python /opt/mesh/bin/python install --quiet --no-index --no-deps "$wheels"/*.whl
  rm -rf "$wheels"
}

compile() {
  /opt/mesh/bin/python -m compileall -q --invalidation-mode unchecked-hash "$@"
}

case $step in
dependencies)
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --require-hashes -r "$sources/requirements/build.lock"
  python3 -m venv --without-pip /opt/mesh
  install --require-hashes -r "$sources/requirements/image.lock"
  rm -rf /opt/mesh/bin/[aA]ctivate* /opt/mesh/include /opt/mesh/share
  compile /opt/mesh/lib
  ;;
mesh)
  LIGHTMESH_COMPILE=1 install "$sources"
  compile /opt/mesh/lib/python*/site-packages/mesh /opt/mesh/lib/python*/site-packages/init \
    /opt/mesh/lib/python*/site-packages/proxy /opt/mesh/lib/python*/site-packages/identity \
    /opt/mesh/lib/python*/site-packages/destination
  ;;
*)
  echo "usage: python.sh dependencies|mesh SOURCES" >&2
  exit 2
  ;;
esac
