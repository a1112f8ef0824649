#!/bin/sh
# Installs the Debian packages that the tests need, and nothing else.
#
#   scripts/setup.sh           what `make test` needs
#   scripts/setup.sh bench     also the programs that `make bench` measures against
#
# It asks nothing, starts no service, does not let the services it installs start at the next boot, and is done at once
# when everything is there. Where it can do nothing (not root, no apt-get) it says so and succeeds: each test that needs
# a missing program skips and names it.
set -eu

say() { echo "setup: $*" >&2; }

# A package is wanted when its program is missing: program:package, one for each line.
wanted='
gcc:gcc
ssh:openssh-client
sshd:openssh-server
sshpass:sshpass
rsyslogd:rsyslog
nft:nftables
ip:iproute2
logrotate:logrotate
python3:python3
ps:procps
mkfs.ext4:e2fsprogs
fail2ban-server:fail2ban
fsfreeze:util-linux
make:make
/lib/systemd/systemd-journal-remote:systemd-journal-remote
/usr/share/munin/plugins/fail2ban:munin-plugins-core
nginx:nginx-light
apache2:apache2
/usr/lib/php/php-fpm-socket-helper:php-fpm
mariadbd:mariadb-server
pg_createcluster:postgresql
unbound:unbound
named:bind9
lxc-execute:lxc
rrdtool:rrdtool
munin-node:munin-node
/usr/share/munin/munin-update:munin
chromium:chromium
/usr/sbin/postfix:postfix
/usr/share/munin/munin-async:munin-async
lwp-request:libwww-perl
openssl:openssl
postfix:postfix
prometheus:prometheus
victoria-metrics:victoria-metrics
'
case "${1-}" in
'') ;;
bench) wanted="$wanted
sshguard:sshguard
time:time
ipset:ipset
taskset:util-linux
prometheus-node-exporter:prometheus-node-exporter
" ;;
*)
	say "unknown argument $1; the only one is bench"
	exit 64
	;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing=
for pair in $wanted; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
# Headers have no program: cgo, which -race needs, is told by the file.
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
# Nor has the library with which Munin's plugins ask PostgreSQL.
perl -MDBD::Pg -e 1 2>/dev/null || missing="$missing libdbd-pg-perl"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	say "no apt-get here; missing:$missing; the tests that need them will skip"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	say "not root; missing:$missing; the tests that need them will skip"
	exit 0
fi

# policy-rc.d is Debian's way to say "install, do not start". One that stands there already is put back afterwards.
policy=/usr/sbin/policy-rc.d
kept=$policy.before-tocsin-setup
restore() {
	if [ -e "$kept" ]; then
		mv -f "$kept" "$policy"
	elif grep -qs 'tocsin setup' "$policy"; then
		rm -f "$policy"
	fi
}
restore # what a killed run left
trap restore EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
[ ! -e "$policy" ] || mv "$policy" "$kept"
printf '#!/bin/sh\n# tocsin setup: installed for tests, not to be started\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
fetch() {
	# shellcheck disable=SC2086 # a list of names
	apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Options::=--force-confold $missing >/dev/null
}

say "installing$missing"
# The lists of a fresh machine are empty or old: they are fetched only if the first try fails.
if ! fetch 2>/dev/null; then
	apt-get update -qq -o DPkg::Lock::Timeout=300
	fetch
fi

# A service that came for the tests must not guard, listen or log after the next boot.
if command -v systemctl >/dev/null 2>&1; then
	for pair in openssh-server:ssh.service rsyslog:rsyslog.service fail2ban:fail2ban.service sshguard:sshguard.service munin-node:munin-node.service munin-async:munin-async.service postfix:postfix.service \
		nginx-light:nginx.service apache2:apache2.service mariadb-server:mariadb.service postgresql:postgresql.service \
		prometheus:prometheus.service victoria-metrics:victoria-metrics.service unbound:unbound.service bind9:named.service prometheus-node-exporter:prometheus-node-exporter.service lxc:lxc.service lxc:lxc-net.service php-fpm:php8.2-fpm.service php-fpm:php8.4-fpm.service; do
		case " $missing " in
		*" ${pair%%:*} "*) systemctl disable "${pair#*:}" >/dev/null 2>&1 || true ;;
		esac
	done
fi
# Nor must Munin's master ask anybody every five minutes.
case " $missing " in
*" munin "*) rm -f /etc/cron.d/munin ;;
esac
say "done"
