package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Login is what a client needs to try to get in. The zero Port is 22, the zero User the victim's account.
type Login struct {
	User     string
	Password string
	To       netip.Addr
	Port     uint16
	From     netip.Addr // the client's own address, where its host has several
}

// End is how a try to get in ended.
type End uint8

// The ends.
const (
	In     End = iota // the server let us in, and the command ran
	Denied            // the server answered that what we offered is not enough
	Cut               // no connection, or no answer over the one we had
)

func (e End) String() string { return [...]string{"in", "denied", "cut"}[e] }

// At is an address with a port.
func At(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// options are those of every client: nothing of the machine's own configuration, no question but the password.
func (l Login) options(more ...string) []string {
	opts := []string{"-F", "none"}
	for _, o := range append([]string{
		"UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR",
		"ConnectTimeout=8", "ConnectionAttempts=1", "NumberOfPasswordPrompts=1", "PubkeyAuthentication=no",
		"PreferredAuthentications=password", fmt.Sprintf("Port=%d", max(l.Port, 22)),
	}, more...) {
		opts = append(opts, "-o", o)
	}
	if l.From.IsValid() {
		opts = append(opts, "-o", "BindAddress="+l.From.String())
	}
	return opts
}

func (l Login) user() string {
	if l.User == "" {
		return User
	}
	return l.User
}

func (l Login) target() string { return l.user() + "@" + l.To.String() }

// tries bounds every client: none may hold a test up.
const tries = time.Minute

// try runs a client on the host and says how it ended. The error is for a client that could not be run at all.
func (h *Host) try(ctx context.Context, name string, args ...string) (End, error) {
	ctx, cancel := context.WithTimeout(ctx, tries)
	defer cancel()
	said, err := h.Run(ctx, name, args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return In, nil
	case ctx.Err() != nil:
		return Cut, nil // it waited for an answer until we gave up
	case !errors.As(err, &exit) || !exit.Exited():
		return Cut, fmt.Errorf("run %s on %s: %w", name, h.Name, err)
	case strings.Contains(said, "Permission denied ("):
		return Denied, nil
	}
	return Cut, nil
}

// SSH tries to get in with a password and to run "true".
func (h *Host) SSH(ctx context.Context, l Login) (End, error) {
	args := append([]string{"-p", l.Password, "ssh"}, l.options()...)
	return h.try(ctx, "sshpass", append(args, l.target(), "true")...)
}

// SFTP tries to get in with a password and to list a folder.
func (h *Host) SFTP(ctx context.Context, l Login) (End, error) {
	// sftp -b would forbid the password; its commands come from standard input instead, here the end of it at once.
	args := append([]string{"-p", l.Password, "sftp"}, l.options()...)
	return h.try(ctx, "sshpass", append(args, l.target())...)
}

// Keys tries to get in with one key after another that the victim does not know, and never with a password.
func (h *Host) Keys(ctx context.Context, l Login, files ...string) (End, error) {
	args := []string{}
	for _, f := range files {
		args = append(args, "-i", f)
	}
	// ssh takes the first value it is given for an option.
	args = append(args, "-o", "PubkeyAuthentication=yes", "-o", "PreferredAuthentications=publickey", "-o", "IdentitiesOnly=yes")
	args = append(args, l.options("BatchMode=yes")...)
	return h.try(ctx, "ssh", append(args, l.target(), "true")...)
}

// Key makes a key on the host and returns its file.
func (h *Host) Key(ctx context.Context, name string) (file string, err error) {
	file = "/run/lab/" + name
	if _, err := h.Run(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file); err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return file, nil
}

// askpass is what ssh asks for a password. Each question is a named pipe in a folder, which waits for its answer.
const (
	askpass       = "/run/lab/askpass"
	askpassScript = "#!/bin/sh\nset -e\nmkfifo \"$LAB_QUESTIONS/$$\"\nread -r line <\"$LAB_QUESTIONS/$$\"\nprintf '%s\\n' \"$line\"\n"
)

// Session is an ssh client that somebody sits at: it asks for passwords, and once in, echoes what is said to it.
type Session struct {
	*Proc

	questions string // folder, as this program reaches it
	answered  map[string]bool
	stdin     io.WriteCloser
}

// Open starts a client that asks up to five times for a password. It returns before the first question.
func (h *Host) Open(ctx context.Context, l Login) (*Session, error) {
	dir, err := os.MkdirTemp(h.Path("/run/lab"), "questions")
	if err != nil {
		return nil, fmt.Errorf("make a folder for questions: %w", err)
	}
	// ssh takes the first value it is given for an option.
	args := append([]string{"-o", "NumberOfPasswordPrompts=5"}, l.options()...)
	cmd := exec.CommandContext(ctx, "ssh", append(args, l.target(), "cat")...)
	cmd.Env = append(os.Environ(),
		"SSH_ASKPASS="+askpass, "SSH_ASKPASS_REQUIRE=force", "LAB_QUESTIONS=/run/lab/"+filepath.Base(dir))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p, err := h.Start(cmd)
	if err != nil {
		return nil, err
	}
	return &Session{Proc: p, questions: dir, answered: map[string]bool{}, stdin: stdin}, nil
}

// Asked returns when the client asks a question that has no answer yet: the server answered everything before it. It is
// ErrLate if the client does not ask in time.
func (s *Session) Asked(ctx context.Context, within time.Duration) error {
	return s.poll(ctx, within, func() (bool, error) {
		q, err := s.question()
		return q != "", err
	})
}

// Type answers the next question of the client. It is ErrLate if the client does not ask in time.
func (s *Session) Type(ctx context.Context, password string, within time.Duration) error {
	return s.poll(ctx, within, func() (bool, error) {
		q, err := s.question()
		if q == "" || err != nil {
			return false, err
		}
		f, err := os.OpenFile(filepath.Join(s.questions, q), os.O_WRONLY|unix.O_NONBLOCK, 0)
		if errors.Is(err, syscall.ENXIO) {
			return false, nil // nobody reads its other end yet
		}
		if err != nil {
			return false, err
		}
		s.answered[q] = true
		_, err = io.WriteString(f, password+"\n")
		return true, errors.Join(err, f.Close())
	})
}

// question is the name of the pipe that waits for an answer, "" if none does.
func (s *Session) question() (string, error) {
	entries, err := os.ReadDir(s.questions)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if !s.answered[e.Name()] {
			return e.Name(), nil
		}
	}
	return "", nil
}

// Echo says a word and waits until it comes back. It is ErrLate if it does not come back in time.
func (s *Session) Echo(ctx context.Context, word string, within time.Duration) error {
	if _, err := io.WriteString(s.stdin, word+"\n"); err != nil {
		return err
	}
	return s.poll(ctx, within, func() (bool, error) { return strings.Contains(s.Output(), word+"\n"), nil })
}

// poll is Poll for as long as the client runs.
func (s *Session) poll(ctx context.Context, within time.Duration, ask func() (bool, error)) error {
	return Poll(ctx, within, func() (bool, error) {
		if ok, err := ask(); ok || err != nil {
			return ok, err
		}
		select {
		case <-s.Done():
			return false, fmt.Errorf("the client ended with %d: %s", s.Code(), s.Output())
		default:
			return false, nil
		}
	})
}
