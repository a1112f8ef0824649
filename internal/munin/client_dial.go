package munin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sshCommand is how ssh is called where nothing else is said: it asks nobody anything, and refuses a host whose key it
// does not know.
var sshCommand = []string{"ssh", "-T", "-o", "BatchMode=yes"}

// leaveTime is how long a program behind ssh: or cmd: has to end after we have hung up.
const leaveTime = time.Second

// connect opens the way to a node.
func connect(ctx context.Context, a Address, o *DialOptions) (net.Conn, error) {
	switch a.Scheme {
	case "ssh":
		return startProgram(sshArgv(a, o.SSH))
	case "cmd":
		argv, err := splitWords(a.Command)
		if err != nil {
			return nil, err
		}
		return startProgram(argv)
	}
	port := a.Port
	if port == 0 {
		port = Port
	}
	ctx, cancel := context.WithTimeout(ctx, o.ConnectTimeout)
	defer cancel()
	d := net.Dialer{}
	if o.Local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.Local, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a.Host, strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	return acknowledgeAtOnce(conn.(*net.TCPConn)), nil
}

func sshArgv(a Address, ssh []string) []string {
	if len(ssh) == 0 {
		ssh = sshCommand
	}
	argv := append([]string(nil), ssh...)
	if a.Port != 0 {
		argv = append(argv, "-p", strconv.Itoa(int(a.Port)))
	}
	if a.User != "" {
		argv = append(argv, "-l", a.User)
	}
	argv = append(argv, "--", a.Host)
	if a.Command != "" {
		argv = append(argv, a.Command)
	}
	return argv
}

// quickConn acknowledges at once what it reads. munin-node writes each line by itself and Nagle's algorithm holds the
// second until the first is acknowledged: with delayed acknowledgements that is 40 ms for every command. The kernel
// forgets the option, so it is set before each read (tcp(7)).
type quickConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

func acknowledgeAtOnce(conn *net.TCPConn) net.Conn {
	raw, err := conn.SyscallConn()
	if err != nil {
		return conn
	}
	return &quickConn{conn, raw}
}

func (c *quickConn) Read(p []byte) (int, error) {
	// Without it everything works, only slower.
	_ = c.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	return c.TCPConn.Read(p)
}

// program is a child that speaks the protocol on its standard input and output.
type program struct {
	in, out *os.File // ours: written to, read from
	cmd     *exec.Cmd
	stderr  lastWords
	ended   chan struct{} // closed when the child and its group are gone
	err     error         // how it ended; read after ended

	mu   sync.Mutex
	gone bool // the group is killed for good; its number may soon be another's
}

func startProgram(argv []string) (*program, error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		_, _ = theirIn.Close(), in.Close()
		return nil, err
	}
	p := &program{in: in, out: out, ended: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirIn, theirOut, &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = leaveTime // a grandchild may hold standard error open
	err = p.cmd.Start()
	_, _ = theirIn.Close(), theirOut.Close()
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, fmt.Errorf("start %s: %w", quoted(argv[0]), err)
	}
	go p.reap()
	return p, nil
}

// reap waits for the child and kills what is left of its group while the child is still a zombie, so that the group's
// number cannot be another's.
func (p *program) reap() {
	defer close(p.ended)
	for errors.Is(unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	p.kill(true)
	p.err = p.cmd.Wait()
}

func (p *program) kill(forGood bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL) // nobody may be left
	}
	p.gone = p.gone || forGood
}

func (p *program) Read(b []byte) (int, error)  { return p.out.Read(b) }
func (p *program) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *program) SetDeadline(t time.Time) error {
	return errors.Join(p.out.SetDeadline(t), p.in.SetDeadline(t))
}
func (p *program) SetReadDeadline(t time.Time) error  { return p.out.SetReadDeadline(t) }
func (p *program) SetWriteDeadline(t time.Time) error { return p.in.SetWriteDeadline(t) }
func (p *program) LocalAddr() net.Addr                { return programAddr{} }
func (p *program) RemoteAddr() net.Addr               { return programAddr{} }

type programAddr struct{}

func (programAddr) Network() string { return "pipe" }
func (programAddr) String() string  { return "pipe" }

// Close hangs up, gives the child a moment to end, and ends it. It returns when nothing of it is left.
func (p *program) Close() error {
	_ = p.in.Close()
	t := time.NewTimer(leaveTime)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
		p.kill(false)
		<-p.ended
	}
	return p.out.Close()
}

// why is how a child ended that should not have, "" if it has not.
func (p *program) why() string {
	t := time.NewTimer(leaveTime)
	defer t.Stop()
	select {
	case <-p.ended:
	case <-t.C:
		return ""
	}
	said := p.stderr.String()
	switch {
	case p.err != nil && said != "":
		return fmt.Sprintf("%v: it says %s", p.err, quoted(said))
	case p.err != nil:
		return p.err.Error()
	case said != "":
		return "it says " + quoted(said)
	}
	return ""
}

// lastWords keeps the end of what is written to it.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

// mostWords bounds lastWords, in bytes.
const mostWords = 1024

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p[max(0, len(p)-mostWords):]...)
	if over := len(w.text) - mostWords; over > 0 {
		w.text = append(w.text[:0], w.text[over:]...)
	}
	return len(p), nil
}

// String is the last line that is not empty.
func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.TrimSpace(string(w.text))
	return strings.TrimSpace(text[strings.LastIndexAny(text, "\r\n")+1:])
}
