#!/bin/sh
# Makes the root of the image: Python, OpenSSL and iptables as extracted Debian packages, without
# a shell or a package manager. Run by deploy/Dockerfile and by `python -m tests.cluster`, as root.
#   deploy/image/root.sh FOLDER
set -eu
root=$1
release=trixie # OpenSSL 3.5 and a CPython built with profile-guided optimisation

mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
# python-iptables 1.2.0 reads structures of libxtables that iptables 1.8.11 changed without a new
# version of the library: the last release before that one
old=bookworm
iptables='iptables=1.8.9*,libip4tc2=1.8.9*,libip6tc2=1.8.9*,libxtables12=1.8.9*'

mmdebstrap --quiet --variant=extract \
  --include="base-files,$iptables,libc-bin,libstdc++6,python3" \
  "$release" "$root" "deb $mirror $release main" "deb $mirror $old main"

cd "$root"
mkdir -p opt/mesh tmp var/run proc sys dev
chmod 1777 tmp
cat >etc/passwd <<END
root:x:0:0:root:/:/usr/sbin/nologin
mesh-proxy:x:2102:2102:mesh proxy:/:/usr/sbin/nologin
mesh-control:x:2103:2103:mesh control plane:/:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/:/usr/sbin/nologin
END
printf '%s\n' root:x:0: mesh-proxy:x:2102: mesh-control:x:2103: nogroup:x:65534: >etc/group
for family in iptables ip6tables; do
  for end in '' -restore -save; do
    ln -sf "$family-nft$end" "usr/sbin/$family$end"
  done
done

# what only builds, documents or installs; copyright files stay, and ldconfig, by which
# python-iptables finds its libraries
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc -type l -delete
find usr/share/doc -type d -empty -delete
rm -rf usr/bin/catchsegv usr/bin/getconf usr/bin/getent usr/bin/iconv usr/bin/ldd \
  usr/bin/locale* usr/bin/ld.so usr/bin/pldd usr/bin/tzselect usr/bin/zdump usr/sbin/iconvconfig \
  usr/sbin/zic
rm -rf boot etc/apt etc/cron.daily etc/dpkg etc/debconf.conf etc/hostname etc/logrotate.d \
  etc/resolv.conf etc/skel etc/update-motd.d home \
  usr/bin/debconf* usr/bin/dpkg* usr/bin/mawk usr/bin/pdb3* usr/bin/py3* usr/bin/pydoc3* \
  usr/bin/pygettext3* usr/bin/tar usr/bin/update-alternatives usr/lib/dpkg usr/lib/apt \
  usr/lib/python3.*/idlelib usr/lib/python3.*/pydoc_data usr/lib/python3.*/turtle.py \
  usr/sbin/dpkg* usr/sbin/iptables-apply usr/sbin/ip6tables-apply usr/sbin/tarcat \
  usr/share/applications usr/share/bash-completion usr/share/bug usr/share/debconf \
  usr/share/dpkg usr/share/info usr/share/lintian usr/share/locale usr/share/man \
  usr/share/perl5 usr/share/pixmaps usr/share/polkit-1 usr/share/python3/dist \
  var/cache var/lib/apt var/lib/dpkg var/log

ldconfig -r .
for folder in usr/lib/python3*; do
  chroot . /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash "/$folder"
done
