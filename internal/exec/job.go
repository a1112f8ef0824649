package exec

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Job asks for one command of the user's configuration, by its name. It never carries a command.
type Job struct {
	Entry   string            `json:"entry"`             // "JAIL/ACTION", or "JAIL" for what belongs to the jail; "" for names
	Version string            `json:"version,omitempty"` // fingerprint of the entry as the asking side read it
	Do      string            `json:"do"`                // "actionban", "ignorecommand", "forward", "reverse"...
	Family  string            `json:"family,omitempty"`  // "inet4", "inet6", "" for none
	Values  map[string]string `json:"values,omitempty"`  // what is put into the command; hostile
}

// Result is how a Job went.
type Result struct {
	Ran     bool   `json:"ran"`               // a command was run, and Code says how it ended
	Code    int    `json:"code,omitempty"`    // its exit code; -1 if it was killed
	Out     string `json:"out,omitempty"`     // the beginning of what it wrote, or the answer
	Err     string `json:"err,omitempty"`     // the end of what it wrote to standard error
	Problem string `json:"problem,omitempty"` // for people: why it did not run, or did not end well; "" if all is well
	CPU     int64  `json:"cpu,omitempty"`     // nanoseconds of processor time that it took, where that was measured
}

// OK says whether the command ran and succeeded, or there was nothing to run.
func (r *Result) OK() bool { return r.Problem == "" && r.Code == 0 }

// Bounds of the protocol: one JSON object a line in both directions, answers in any order.
const (
	maxMessage  = 1 << 20 // bytes of a line that asks
	maxAnswer   = 8 << 20 // bytes of a line that answers: the text of a plugin may be long
	maxUnderWay = 1024    // jobs of one connection that were asked for and are not answered
	maxPeers    = 16      // connections at a time
	sendTime    = 10 * time.Second
)

// Errors of Runner.Do.
var (
	ErrUnreachable = errors.New("the runner is not reachable")       // the job was not begun
	ErrGone        = errors.New("the runner ended during the job")   // nobody knows how far it came
	ErrTooBig      = errors.New("the values of the job are too big") // more than 1 MiB
)

// request is a line of the asking side. One without a job says that nobody waits for that answer any more.
type request struct {
	ID  uint64 `json:"id"`
	Job *Job   `json:"job,omitempty"`
}

type answer struct {
	ID     uint64 `json:"id"`
	Result Result `json:"result"`
}

// wire is one connection: lines out under a lock, lines in through a scanner.
type wire struct {
	conn net.Conn
	in   *bufio.Scanner
	mu   sync.Mutex
}

// newWire takes a connection on which lines of at most the given length come in.
func newWire(conn net.Conn, most int) *wire {
	w := &wire{conn: conn, in: bufio.NewScanner(conn)}
	w.in.Buffer(make([]byte, 0, 4<<10), most)
	return w
}

// send writes one line of at most the given length. An error but ErrTooBig ends the connection: half a line may be out.
func (w *wire) send(v any, most int) error {
	line, err := encode(v, most)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.conn.SetWriteDeadline(time.Now().Add(sendTime))
	if _, err := w.conn.Write(line); err != nil {
		_ = w.conn.Close()
		return err
	}
	return nil
}

func encode(v any, most int) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if b.Len() > most {
		return nil, ErrTooBig
	}
	return b.Bytes(), nil
}

// receive reads one line into v. The error is io.EOF when the other side has ended.
func (w *wire) receive(v any) error {
	if !w.in.Scan() {
		if err := w.in.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	return json.Unmarshal(w.in.Bytes(), v)
}

// PeerUID asks the kernel who is at the other end of a unix stream (unix(7), SO_PEERCRED).
func PeerUID(conn net.Conn) (uint32, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("a %T has no peer with a user", conn)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return 0, errors.Join(cerr, err)
	}
	return cred.Uid, nil
}

// Pair makes a stream whose one end a child gets as a file (Command.Files). Both ends must be closed, the child's once it
// has been started.
func Pair() (ours net.Conn, childs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	mine := os.NewFile(uintptr(fds[0]), "ours")
	defer mine.Close() // FileConn has its own
	childs = os.NewFile(uintptr(fds[1]), "the child's")
	if ours, err = net.FileConn(mine); err != nil {
		_ = childs.Close()
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return ours, childs, nil
}

// Inherited is the stream that this process was given as a descriptor by whoever started it.
func Inherited(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "inherited")
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is none", fd)
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no stream: %w", fd, err)
	}
	return conn, nil
}
