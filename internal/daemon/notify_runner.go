package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"tocsin/internal/config"
	"tocsin/internal/exec"
	"tocsin/internal/munin"
)

// What the runner is asked to tell people by. The text comes on standard input, values in the environment; which command it
// is root's configuration says.
const (
	tellEntry     = "contact/" // and the contact's name
	sendmailEntry = "sendmail"
	tellDo        = "tell"
	tellText      = "text"
)

// Bounds of telling.
const (
	tellTime     = 50 * time.Second
	maxTellsOnce = 8
	maxTellValue = 8 << 10 // bytes of one variable
)

// teller runs the commands of contacts, and this machine's sendmail, for the runner.
type teller struct {
	config func() (*config.Config, error) // nil: nothing is run
	root   bool
	slots  chan struct{}
}

func newTeller(conf func() (*config.Config, error)) *teller {
	return &teller{config: conf, root: os.Geteuid() == 0, slots: make(chan struct{}, maxTellsOnce)}
}

// mine says whether a job is one of telling people.
func (t *teller) mine(j exec.Job) bool {
	return j.Do == tellDo && (j.Entry == sendmailEntry || strings.HasPrefix(j.Entry, tellEntry))
}

func (t *teller) do(ctx context.Context, j exec.Job) exec.Result {
	cmd, err := t.command(j)
	if err != nil {
		return exec.Result{Problem: err.Error()}
	}
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return exec.Result{Problem: context.Cause(ctx).Error()}
	}
	cmd.Stdin, cmd.Timeout, cmd.MaxOutput, cmd.Cut, cmd.Leaves = strings.NewReader(j.Values[tellText]), tellTime, maxSaid, true, true
	out, err := exec.Run(ctx, cmd)
	result := exec.Result{Ran: true, Out: string(out.Stdout), Err: string(out.Stderr)}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.Is(err, exec.ErrTimeout):
		result.Code, result.Problem = -1, fmt.Sprintf("took longer than %v and was killed with all that it had started", tellTime)
	case errors.As(err, &exit) && exit.Signal == "":
		result.Code = exit.Code
	default:
		result.Code, result.Problem = -1, err.Error()
	}
	return result
}

// command is what root's configuration says that a job means.
func (t *teller) command(j exec.Job) (exec.Command, error) {
	if t.config == nil {
		return exec.Command{}, errors.New("nobody is told by commands: the configuration is not known to the runner")
	}
	c, err := t.config()
	if err != nil {
		return exec.Command{}, fmt.Errorf("nobody is told by commands: the configuration has mistakes: %w", err)
	}
	if c.File != "" {
		if err := untrusted(t.root, c.File); err != nil {
			return exec.Command{}, fmt.Errorf("nobody is told by commands: %w", err)
		}
	}
	if j.Entry == sendmailEntry {
		return t.sendmail(c)
	}
	name := strings.TrimPrefix(j.Entry, tellEntry)
	contact := contactOf(c, name)
	if contact == nil || contact.Command == "" {
		return exec.Command{}, fmt.Errorf("the configuration gives contact %.80q no command", name)
	}
	cmd, err := t.contact(c, contact)
	if err == nil {
		cmd.Env = append(tellEnv(j.Values), "HOME="+home(), "LC_ALL=C.UTF-8")
	}
	return cmd, err
}

// contact is the command of a contact: a program, or a line of munin.conf for a shell.
func (t *teller) contact(c *config.Config, contact *config.Contact) (exec.Command, error) {
	if filepath.IsAbs(contact.Command) {
		if err := untrusted(t.root, contact.Command); err != nil {
			return exec.Command{}, fmt.Errorf("it is not run: %w", err)
		}
		return exec.Command{Path: contact.Command}, nil
	}
	if c.Watch.MuninConf == "" {
		return exec.Command{}, fmt.Errorf("command %q is a contact of munin.conf, and munin_conf names none", contact.Command)
	}
	m, err := munin.ReadMasterConf(c.Watch.MuninConf)
	if err != nil {
		return exec.Command{}, err
	}
	trust := append([]string{c.Watch.MuninConf}, m.Files...)
	if dir, ok := m.Get("", "", "", "includedir"); ok && filepath.IsAbs(dir.Value) {
		trust = append(trust, dir.Value)
	}
	if err := untrusted(t.root, trust...); err != nil {
		return exec.Command{}, fmt.Errorf("it is not run: %w", err)
	}
	for _, one := range m.Contacts {
		if one.Name != contact.Command || one.Command == "" {
			continue
		}
		line, err := muninCommand(one.Command)
		if err != nil {
			return exec.Command{}, fmt.Errorf("%s:%d: contact %s: %w", one.File, one.Line, one.Name, err)
		}
		return exec.Command{Path: "/bin/sh", Args: []string{"-c", line}}, nil
	}
	return exec.Command{}, fmt.Errorf("%s has no contact.%s.command", c.Watch.MuninConf, contact.Command)
}

// sendmail is this machine's own, as the user of the watch process: who is told stands in the message.
func (t *teller) sendmail(c *config.Config) (exec.Command, error) {
	path, err := exec.Find("sendmail")
	if err != nil {
		return exec.Command{}, errors.New("this machine has no sendmail: install a mail server, or name one as server under [mail]")
	}
	cmd := exec.Command{Path: path, Args: []string{"-i", "-t"}}
	if c.Mail.From != "" {
		cmd.Args = append(cmd.Args, "-f", c.Mail.From)
	}
	if t.root {
		u := watchUser()
		cmd.User = &u
	}
	return cmd, nil
}

var variableName = regexp.MustCompile(`^var\.([a-z_]{1,40})$`)

// tellEnv are the values of Munin's variables as an environment. A value is a stranger's: it is cut, and has no zero byte.
func tellEnv(values map[string]string) (env []string) {
	for name, v := range values {
		if m := variableName.FindStringSubmatch(name); m != nil {
			v = strings.ToValidUTF8(v[:min(len(v), maxTellValue)], "")
			env = append(env, "MUNIN_"+m[1]+"="+strings.ReplaceAll(v, "\x00", ""))
		}
	}
	return env
}
