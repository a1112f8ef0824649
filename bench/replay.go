package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
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
		{"sshguard parser", 3, log, []string{sshguardParser()}},
		{"fail2ban-regex sshd", 1, "", []string{"fail2ban-regex", log, "sshd[mode=aggressive]"}},
		{"grep -c Failed", 3, "", []string{"grep", "-c", "Failed", log}},
		{"wc -l", 3, "", []string{"wc", "-l", log}},
	}
	var own usage
	for _, p := range programs {
		if _, err := exec.LookPath(p.argv[0]); err != nil {
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
