// Package e2e proves the whole program against real ones: sshd, OpenSSH's clients, rsyslogd, nft and logrotate, on hosts
// that live in namespaces (package lab). It is tests and nothing else.
//
// The tests speak to the guard as its users do: by commands and their JSON, and by packets. They need root and the
// programs that scripts/setup.sh installs, and skip with the reason where these are missing.
package e2e
