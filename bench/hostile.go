package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// hostile measures one line of 61 bytes that was written to be slow to read: every word doubles the time that fail2ban's
// filter domino-smtp takes (https://github.com/fail2ban/fail2ban/security/advisories/GHSA-33wh-ccjc-p397). Both programs
// take most of their time to start if they take little; what long lines of many kinds cost all filters is told by
// go test ./internal/filter -bench Hostile.
func hostile(ctx context.Context, b *bench) error {
	line := "Nov 22 10:00:00 smtp: " + strings.Repeat("a ", 22) + "! failed"
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	for _, argv := range [][]string{
		{"fail2ban-regex", line, "domino-smtp"},
		{b.tocsin, "test", "--quiet", "--fail2ban", debianFail2ban, "--line", line, "domino-smtp"},
	} {
		if _, err := exec.LookPath(argv[0]); err != nil || !installed(debianFail2ban) {
			fmt.Printf("%s: not installed\n", argv[0])
			continue
		}
		u, err := measure(ctx, "", argv[0], argv[1:]...)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			fmt.Printf("%s: more than a minute\n", argv[0])
		case err != nil:
			return err
		default:
			fmt.Printf("%s: %v of CPU\n", filepath.Base(argv[0]), u.cpu.Round(time.Millisecond))
		}
	}
	return nil
}
