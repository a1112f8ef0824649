package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// makeLog writes an auth.log of about n lines and returns its name. The generator named by TOCSIN_GENAUTH makes a more
// varied one, with the truth beside it; without it our own does.
func makeLog(ctx context.Context, dir string, n int) (path, truth string, err error) {
	path = filepath.Join(dir, "auth.log")
	gen := os.Getenv("TOCSIN_GENAUTH")
	if gen == "" {
		return path, "", ownLog(path, n)
	}
	truth = filepath.Join(dir, "truth.tsv")
	cmd := exec.CommandContext(ctx, "python3", gen, "--lines", strconv.Itoa(n), "--out", path, "--truth", truth)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("make log: %w\n%s", err, out)
	}
	return path, truth, nil
}

// ownLog makes lines like a busy server's: four in ten come from attackers, the others from cron, sudo and people.
func ownLog(path string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	t := time.Date(2026, 11, 1, 0, 0, 0, 0, time.Local)
	users := []string{"root", "admin", "oracle", "test", "ubuntu", "pi", "git"}
	for i := range n {
		t = t.Add(time.Duration(r.IntN(200)) * time.Millisecond)
		fmt.Fprintf(w, "%s web1 ", t.Format(time.Stamp))
		pid, port := 700+i%60000, 1024+r.IntN(60000)
		attacker := fmt.Sprintf("198.18.%d.%d", min(255, int(r.ExpFloat64()*20)), r.IntN(256))
		user := users[r.IntN(len(users))]
		switch k := r.IntN(10); {
		case k < 2:
			fmt.Fprintf(w, "sshd[%d]: Failed password for %s from %s port %d ssh2\n", pid, user, attacker, port)
		case k == 2:
			fmt.Fprintf(w, "sshd[%d]: Failed password for invalid user %s from %s port %d ssh2\n", pid, user, attacker, port)
		case k == 3:
			fmt.Fprintf(w, "sshd[%d]: Connection closed by authenticating user %s %s port %d [preauth]\n", pid, user, attacker, port)
		case k == 4:
			fmt.Fprintf(w, "sshd[%d]: Accepted publickey for marie from 10.20.0.%d port %d ssh2: ED25519 SHA256:%043d\n", pid, r.IntN(100), port, i)
		case k < 7:
			fmt.Fprintf(w, "CRON[%d]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)\n", pid)
		case k == 7:
			fmt.Fprintf(w, "sudo:    marie : TTY=pts/1 ; PWD=/home/marie ; USER=root ; COMMAND=/usr/bin/apt-get update\n")
		default:
			fmt.Fprintf(w, "systemd-logind[512]: Removed session %d.\n", i)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
