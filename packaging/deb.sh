#!/bin/sh
# Builds a package from a binary, with dpkg-deb alone:
#
#   packaging/deb.sh [BINARY [PACKAGE]]        by default bin/tocsin and dist/tocsin_VERSION_ARCH.deb
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
binary=$(realpath "${1-$here/bin/tocsin}")
package=${2+$(realpath -m "$2")}
cd "$here"

# A version of git describe, such as v1.2-3-gabc, in Debian's form; a tree without a tag counts its commits.
version=$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null | sed 's/^v//; s/-/+/g') || true
[ -n "$version" ] || version=$(sed -n 's/^const release = "\(.*\)"$/\1/p' cmd/tocsin/*.go)+git$(git rev-list --count HEAD 2>/dev/null || echo 0)
arch=$(dpkg --print-architecture)

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

install -D -m 755 "$binary" "$root/usr/bin/tocsin"
# Offered, not forced: who puts this folder first in PATH, or links to these from elsewhere, keeps fail2ban's commands.
mkdir -p "$root/usr/lib/tocsin/bin"
for name in fail2ban-client fail2ban-regex; do
	ln -s ../../../bin/tocsin "$root/usr/lib/tocsin/bin/$name"
done
install -D -m 644 packaging/tocsin.toml "$root/etc/tocsin/tocsin.toml"
for unit in tocsin-guard tocsin-restore tocsin-runner tocsin-watch; do
	install -D -m 644 "packaging/$unit.service" "$root/lib/systemd/system/$unit.service"
done
install -D -m 644 packaging/tocsin.sysusers "$root/usr/lib/sysusers.d/tocsin.conf"
[ ! -f LICENSE ] || install -D -m 644 LICENSE "$root/usr/share/doc/tocsin/copyright"
for page in docs/manual/*.md README.md; do
	[ ! -f "$page" ] || install -D -m 644 "$page" "$root/usr/share/doc/tocsin/$(basename "$page")"
done

mkdir "$root/DEBIAN"
for script in postinst prerm postrm; do
	install -m 755 "packaging/deb.$script" "$root/DEBIAN/$script"
done
echo /etc/tocsin/tocsin.toml >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<END
Package: tocsin
Version: $version
Architecture: $arch
Maintainer: The Tocsin project
Section: admin
Priority: optional
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Recommends: nftables
Suggests: rsyslog | systemd
Description: guards and supervises servers, in place of fail2ban and Munin
 Tocsin reads the logs of sshd and other services, counts failures exactly, bans
 in nftables, and explains every decision with the lines that led to it.
 .
 It measures how this server and others fare, runs Munin's plugins, asks Munin's
 nodes, and keeps what it measured for ten years.
END

[ -n "$package" ] || { mkdir -p dist && package=dist/tocsin_${version}_$arch.deb; }
dpkg-deb --root-owner-group --build "$root" "$package"
