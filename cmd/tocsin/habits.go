package main

import (
	"context"
	"io"
	"path/filepath"

	"tocsin/internal/config"
	"tocsin/internal/fail2bancli"
)

// runAs is run for a program that was called by the name called: one of fail2ban's commands, which links of that name
// offer, or tocsin.
func runAs(called string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	answer := fail2bancli.Command(filepath.Base(called))
	if answer == nil {
		return run(args, stdin, stdout, stderr)
	}
	e := &env{ctx: context.Background(), stdin: stdin, stdout: stdout, stderr: stderr, flags: &cli{}}
	at, err := e.place()
	if err != nil { // a guard answers all the same, if it runs
		at = e.placeOf(config.Default())
	}
	return answer(args, fail2bancli.Options{Socket: at.socket, Release: version(), By: whoami(), Stdin: stdin, Stdout: stdout, Stderr: stderr})
}
