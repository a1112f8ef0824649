// Package host knows what this machine is: its addresses, gateways and resolvers, where sshd listens and logs, which ssh
// sessions are open, and what this process may do.
//
// It asks the kernel through netlink, reads configuration files, and runs one program, sshd -T. It never looks into other
// processes and changes nothing but the capabilities of its own process. What follows from its answers is for others to
// decide.
//
// The one thing to know: every answer comes with how it was found ("22: sshd -T, listening"), because a guard that got it
// wrong must be put right by somebody who was not asked.
package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"tocsin/internal/exec"
)

// maxFile bounds what is read of one configuration file, in bytes.
const maxFile = 1 << 20

// machine is where answers come from: the real one has the root "/", tests have a tree of their own.
type machine struct {
	root   string
	sshd   func(ctx context.Context) ([]byte, error) // what sshd -T writes
	listen func() (map[uint16]bool, error)           // the local ports on which somebody listens
	find   func(program string) (string, error)
}

// this is the machine we run on.
func this() *machine {
	return &machine{root: "/", sshd: runSSHD, listen: listeningPorts, find: exec.Find}
}

// read is the text of a file of the machine, at most maxFile bytes of it.
func (m *machine) read(path string) ([]byte, error) {
	f, err := os.Open(filepath.Join(m.root, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// exists tells whether there is anything at path.
func (m *machine) exists(path string) bool {
	_, err := os.Stat(filepath.Join(m.root, path))
	return !errors.Is(err, fs.ErrNotExist)
}

// glob is the paths of the machine that match, sorted.
func (m *machine) glob(pattern string) []string {
	found, err := filepath.Glob(filepath.Join(m.root, pattern))
	if err != nil {
		return nil // a bad pattern of a foreign file matches nothing
	}
	for i, path := range found {
		rel, err := filepath.Rel(m.root, path)
		if err != nil {
			panic("BUG: " + path + " does not lie under " + m.root)
		}
		found[i] = "/" + rel
	}
	return found
}
