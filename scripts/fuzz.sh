#!/bin/sh
# Runs every fuzz target of the repository, one after another, each for the time given (default 20s).
set -eu
cd "$(dirname "$0")/.."

time=${1:-20s}
grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file target; do
	pkg=$(dirname "$file")
	target=${target#func }
	echo "fuzz: $pkg $target for $time"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg" </dev/null
done
