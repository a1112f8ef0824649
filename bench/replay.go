package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// replay measures how fast old logs are read: tocsin replay does all that the guard does, filter, addresses and exact
// window; the peers only look for failures.
func replay(ctx context.Context, b *bench) error {
	log, truth, err := makeLog(ctx, b.dir, b.lines)
	if err != nil {
		return err
	}
	fi, err := os.Stat(log)
	if err != nil {
		return err
	}
	hard, all, err := fail2banConfigs(b, log)
	if err != nil {
		return err
	}
	fmt.Printf("%d lines, %.1f MB, each program on one core, the best of three runs (fail2ban: one)\n\n", b.lines, float64(fi.Size())/1e6)
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "program\tCPU s\twall s\tlines per CPU s\tMB per CPU s\tpeak RSS MB\t")
	programs := []struct {
		name  string
		runs  int
		stdin string
		argv  []string
	}{
		{"tocsin replay", 3, "", []string{b.tocsin, "--json", "--config", emptyConfig(b), "replay", log}},
		{"tocsin replay, Debian's sshd[mode=aggressive]", 3, "", []string{b.tocsin, "--json", "--config", hard, "replay", log}},
		{"tocsin replay, all filters of Debian", 3, "", []string{b.tocsin, "--json", "--config", all, "replay", log}},
		{"sshguard parser", 3, log, []string{sshguardParser()}},
		{"fail2ban-regex sshd[mode=aggressive]", 1, "", []string{"fail2ban-regex", log, "sshd[mode=aggressive]"}},
		{"grep -c Failed", 3, "", []string{"grep", "-c", "Failed", log}},
		{"wc -l", 3, "", []string{"wc", "-l", log}},
	}
	var own usage
	for _, p := range programs {
		if _, err := exec.LookPath(p.argv[0]); err != nil || strings.Contains(p.name, "Debian") && !installed(debianFail2ban) {
			fmt.Fprintf(t, "%s\tnot installed\t\t\t\t\t\n", p.name)
			continue
		}
		u, err := best(p.runs, func() (usage, error) { return measure(ctx, p.stdin, p.argv[0], p.argv[1:]...) })
		if err != nil {
			return err
		}
		if p.name == "tocsin replay" {
			own = u
		}
		cpu := u.cpu.Seconds()
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.0f\t%.0f\t%.1f\t\n", p.name, cpu, u.wall.Seconds(),
			float64(b.lines)/cpu, float64(fi.Size())/1e6/cpu, float64(u.peakKB)/1024)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return judge(own.stdout, truth)
}

// emptyConfig is a file that leaves every setting at its default.
func emptyConfig(b *bench) string {
	path := b.dir + "/empty.toml"
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		panic("BUG: own folder: " + err.Error())
	}
	return path
}

func installed(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// debianFail2ban is where Debian's package fail2ban puts its configuration.
const debianFail2ban = "/etc/fail2ban"

// fail2banConfigs writes two configurations that take fail2ban's filters from Debian's package: the hardest of them, and
// every filter that one file could be read by.
func fail2banConfigs(b *bench, log string) (hard, all string, err error) {
	filters, err := filepath.Glob(debianFail2ban + "/filter.d/*.conf")
	if err != nil {
		return "", "", err
	}
	var every []string
	for _, path := range filters {
		name := strings.TrimSuffix(filepath.Base(path), ".conf")
		if !strings.HasSuffix(name, "common") { // those are only included
			every = append(every, name)
		}
	}
	if hard, err = fail2banConfig(b, log, "hard", []string{"sshd[mode=aggressive]"}); err != nil {
		return "", "", err
	}
	all, err = fail2banConfig(b, log, "all", every)
	return hard, all, err
}

// fail2banConfig writes a tocsin.toml that runs a jail for each filter on the log, and returns its path.
func fail2banConfig(b *bench, log, name string, filters []string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	for _, part := range []string{"filter.d", "action.d", "fail2ban.conf", "jail.conf", "paths-common.conf", "paths-debian.conf"} {
		if err := os.Symlink(filepath.Join(debianFail2ban, part), filepath.Join(dir, part)); err != nil {
			return "", err
		}
	}
	var jails strings.Builder
	fmt.Fprintf(&jails, "[DEFAULT]\nbackend = polling\nlogpath = %s\n", log)
	for i, f := range filters {
		fmt.Fprintf(&jails, "\n[bench-%d]\nenabled = true\nfilter = %s\n", i, f)
	}
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(jails.String()), 0o644); err != nil {
		return "", err
	}
	path := dir + ".toml"
	return path, os.WriteFile(path, fmt.Appendf(nil, "[fail2ban]\ndir = %q\n", dir), 0o644)
}

// sshguardParser is where Debian puts it.
func sshguardParser() string {
	for _, path := range []string{"/usr/libexec/sshguard/sshg-parser", "/usr/lib/x86_64-linux-gnu/sshg-parser", "/usr/libexec/sshg-parser", "/usr/lib/sshguard/sshg-parser"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "sshg-parser"
}

// judge compares who would have been banned with the truth that the generator wrote beside the log.
func judge(out []byte, truth string) error {
	if truth == "" || len(out) == 0 {
		return nil
	}
	var got struct {
		Bans []struct{ Prefix string }
	}
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("read replay's answer: %w", err)
	}
	banned := map[string]bool{}
	for _, b := range got.Bans {
		banned[b.Prefix] = true
	}
	f, err := os.Open(truth)
	if err != nil {
		return err
	}
	defer f.Close()
	var offenders, found, innocent int
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		// addr family role lines strong invalid preauth probe attempts succ max600 first last
		col := strings.Split(sc.Text(), "\t")
		if len(col) < 13 || col[0] == "addr" {
			continue
		}
		most, err := strconv.Atoi(col[10])
		if err != nil {
			return fmt.Errorf("read truth: %w", err)
		}
		offends := col[2] == "attacker" && most >= 5
		hit := banned[col[0]+"/32"] || banned[prefix64(col[0])]
		switch {
		case offends && hit:
			offenders, found = offenders+1, found+1
		case offends:
			offenders++
		case hit && col[1] == "4":
			innocent++
		}
	}
	fmt.Printf("\nof %d addresses with 5 failures within 10 minutes %d are banned; of the others %d\n", offenders, found, innocent)
	return sc.Err()
}
