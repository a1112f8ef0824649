#!/bin/sh
# What must hold before a commit: format, vet, staticcheck, known vulnerabilities, tests, and how much of the guard the
# tests of each package reach. Arguments are passed on to go test (-race).
set -eu
cd "$(dirname "$0")/.."

least=80 # percent of the statements of each package

step() { echo "check: $*" >&2; }
out=$(mktemp)
trap 'rm -f "$out"' EXIT

step gofmt
git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0r gofmt -l >"$out"
if [ -s "$out" ]; then
	echo "not gofmt-clean:" >&2
	cat "$out" >&2
	exit 1
fi

step vet
go vet ./...

step staticcheck
go tool staticcheck ./...

step govulncheck
code=0
go tool govulncheck ./... >"$out" 2>&1 || code=$?
case $code in
0) ;;
3) # it found something that our code calls
	cat "$out" >&2
	exit 1
	;;
*)
	# Anything else is a database that cannot be reached, or a fault of our own that must not pass for one.
	if ! grep -qE 'vuln\.go\.dev|GOVULNDB|fetching vulnerabilities' "$out"; then
		cat "$out" >&2
		exit 1
	fi
	step "govulncheck skipped, its database cannot be reached: $(tail -n 1 "$out")"
	;;
esac

step "tests and coverage"
# shellcheck disable=SC2046 # a list of packages
if ! go test "$@" -cover -timeout 60m $(go list ./... | grep -v /e2e) >"$out" 2>&1; then
	cat "$out"
	exit 1
fi
cat "$out"
awk -v least="$least" '
	$1 == "ok" || $1 ~ /^tocsin\/internal\// {
		name = $1 == "ok" ? $2 : $1
		if (name !~ /^tocsin\/internal\// || !match($0, /coverage: [0-9.]+%/)) next
		part = substr($0, RSTART + 10, RLENGTH - 11)
		if (part + 0 < least) { printf "check: %s has %s %% of its statements tested, wanted %d %%\n", name, part, least; bad = 1 }
	}
	END { exit bad }
' "$out" >&2
