package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestAppendSyslog(t *testing.T) {
	const nov = "2025-11-22T17:00:00Z"
	const now = "2026-01-01T12:00:00Z"
	tests := []struct{ name, msg, want, at string }{
		{"rfc3164", "<38>Nov 22 17:00:00 victim sshd[7]: Failed", "victim sshd[7]: Failed", nov},
		{"one-digit day", "<38>Nov  2 17:00:00 victim x: y", "victim x: y", "2025-11-02T17:00:00Z"},
		{"newline at the end", "<38>Nov 22 17:00:00 victim x: y\n", "victim x: y", nov},
		{"C library: no host", "<38>Nov 22 17:00:00 sshd[7]: Failed", "peer sshd[7]: Failed", nov},
		{"rsyslog: ISO date", "<38>2025-11-22T18:00:00.25+01:00 victim sshd[7]: x", "victim sshd[7]: x", "2025-11-22T17:00:00.25Z"},
		{"no date", "<38>sshd[7]: Failed", "peer sshd[7]: Failed", now},
		{"a little ahead, over New Year", "<38>Jan  2 11:00:00 v x: y", "v x: y", "2026-01-02T11:00:00Z"},
		{"more than a day ahead", "<38>Jan  2 13:00:00 v x: y", "v x: y", "2025-01-02T13:00:00Z"},
		{"29 February", "<38>Feb 29 00:00:00 v x: y", "v x: y", "2024-02-29T00:00:00Z"},
		{"leap second", "<38>Dec 31 23:59:60 v x: y", "v x: y", now[:10] + "T00:00:00Z"},
		{"bad date", "<38>Nov 32 17:00:00 v x: y", "peer Nov 32 17:00:00 v x: y", now},
		{"bad month", "<38>ovD 22 17:00:00 v x: y", "peer ovD 22 17:00:00 v x: y", now},
		{"no priority", "Failed password", "!peer Failed password", now},
		{"priority too high", "<192>x", "!peer <192>x", now},
		{"priority too long", "<0001>x", "!peer <0001>x", now},
		{"priority empty", "<>x", "!peer <>x", now},
		{"empty", "", "!peer ", now},
		{"inner newline", "<38>Nov 22 17:00:00 v x: a\nNov 22 sshd: b", `v x: a\nNov 22 sshd: b`, nov},

		{"rfc5424", "<38>1 2025-11-22T17:00:00Z victim sshd 7 - - Failed", "victim sshd[7]: Failed", nov},
		{"nil fields", "<38>1 - - - - - - text", "peer text", now},
		{"no message", "<38>1 - h app - - -", "h app: ", now},
		{"data", `<38>1 - h app 7 id [a@1 k="v"][b@2 k="\]\"] "] text`, "h app[7]: text", now},
		{"byte order mark", "<38>1 - h app - - - \xef\xbb\xbftext", "h app: text", now},
		{"bad data", `<38>1 - h app - - [a@1 k="v" text`, `!peer 1 - h app - - [a@1 k="v" text`, now},
		{"bad date 5424", "<38>1 yesterday h app - - - text", "!peer 1 yesterday h app - - - text", now},
		{"too few fields", "<38>1 - h app", "!peer 1 - h app", now},
		{"no data at all", "<38>1 - h app - - text", "!peer 1 - h app - - text", now},
		{"no space behind the data", "<38>1 - h app - - -text", "!peer 1 - h app - - -text", now},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, at, ok := appendSyslog(nil, []byte(tt.msg), []byte("peer"), noon, time.UTC)
			got := string(out)
			if !ok {
				got = "!" + got
			}
			if got != tt.want || at.UTC().Format(time.RFC3339Nano) != tt.at {
				t.Errorf("appendSyslog(%q) = %q, %s; want %q, %s", tt.msg, got, at.UTC().Format(time.RFC3339Nano), tt.want, tt.at)
			}
		})
	}
}

func FuzzAppendSyslog(f *testing.F) {
	for _, s := range []string{
		"<38>Nov 22 17:00:00 victim sshd[7]: Failed",
		`<38>1 2025-11-22T17:00:00Z victim sshd 7 - [a@1 k="\]"] Failed`,
		"<38>2025-11-22T18:00:00.25+01:00 v x: y",
		"<0>1 - - - - - -",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		out, at, _ := appendSyslog([]byte("front "), msg, []byte("peer"), noon, time.UTC)
		switch {
		case !bytes.HasPrefix(out, []byte("front ")):
			t.Errorf("appendSyslog(%q) lost what stood before: %q", msg, out)
		case bytes.IndexByte(out, '\n') >= 0:
			t.Errorf("appendSyslog(%q) has a line end: %q", msg, out)
		case len(out) > 2*len(msg)+20:
			t.Errorf("appendSyslog of %d bytes has %d", len(msg), len(out))
		case at.IsZero():
			t.Errorf("appendSyslog(%q) has no time", msg)
		}
	})
}

func TestFramer(t *testing.T) {
	long := strings.Repeat("x", 3*maxFrame)
	tests := []struct {
		name, stream string
		want         string // messages, "!" before those that were cut
		err          error
	}{
		{"newlines", "<1>a\n<2>b\n", "<1>a <2>b", io.EOF},
		{"octets", "4 <1>a5 <2>b\n", "<1>a <2>b\n", io.EOF},
		{"mixed", "4 <1>a<2>b\n4 <3>c", "<1>a <2>b <3>c", io.EOF},
		{"a line that begins with digits", "12x\n", "12x", io.EOF},
		{"a line of digits", "123456789 x\n", "123456789 x", io.EOF},
		{"length 0 is a line", "0 x\n", "0 x", io.EOF},
		{"unfinished line", "<1>a\n<2>", "<1>a", io.ErrUnexpectedEOF},
		{"unfinished octets", "9 <1>a", "", io.ErrUnexpectedEOF},
		{"unfinished length", "12", "", io.ErrUnexpectedEOF},
		{"long line", long + "\n<2>b\n", "!" + long[:maxFrame] + " <2>b", io.EOF},
		{"long octets", fmt.Sprintf("%d %s4 <2>b", len(long), long), "!" + long[:maxFrame] + " <2>b", io.EOF},
		{"too many octets", "1048577 x", "", errFrame},
		{"empty", "", "", io.EOF},
	}
	for _, tt := range tests {
		for _, slow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/slow=%v", tt.name, slow), func(t *testing.T) {
				var r io.Reader = strings.NewReader(tt.stream)
				if slow {
					r = iotest.OneByteReader(r)
				}
				f := newFramer(r)
				var got []string
				for {
					msg, cut, err := f.next()
					if err != nil {
						if !errors.Is(err, tt.err) {
							t.Errorf("ended with %v, want %v", err, tt.err)
						}
						break
					}
					mark := ""
					if cut {
						mark = "!"
					}
					got = append(got, mark+string(msg))
				}
				if strings.Join(got, " ") != tt.want {
					t.Errorf("messages %.80q, want %.80q", got, tt.want)
				}
			})
		}
	}
}

func FuzzFramer(f *testing.F) {
	f.Add([]byte("4 <1>a<2>b\n4 <3>c"))
	f.Add([]byte("99999999 x\n1048576 y"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		fr := &framer{r: bufio.NewReaderSize(bytes.NewReader(stream), maxFrame)}
		total := 0
		for {
			msg, _, err := fr.next()
			if err != nil {
				return
			}
			if total += len(msg) + 1; len(msg) > maxFrame || total > len(stream)+1 {
				t.Fatalf("%d bytes of messages from %d", total, len(stream))
			}
		}
	})
}

// listening is a Syslog on a port of the kernel's choice, and where it listens.
func listening(t *testing.T, name string, o SyslogOptions) (y *Syslog, g *got, addr string, stop func()) {
	t.Helper()
	return listeningWith(t, name, o, new(got))
}

func listeningWith(t *testing.T, name string, o SyslogOptions, g *got) (y *Syslog, _ *got, addr string, stop func()) {
	t.Helper()
	o.Name = name
	y, err := NewSyslog(o)
	must(t, err)
	l, err := y.listen()
	must(t, err)
	if l.streams != nil {
		addr = l.streams.Addr().String()
	} else {
		addr = l.datagrams.LocalAddr().String()
	}
	stop = startSink(t, &served{y, l}, g.sink())
	return y, g, addr, stop
}

type served struct {
	*Syslog
	l listener
}

func (s *served) Run(ctx context.Context, sink Sink) error { return s.serve(ctx, s.l, sink) }

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSyslogSockets(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "log")
	tests := []struct{ name, network, spec, send string }{
		{"udp", "udp", "syslog:udp://127.0.0.1:0", "<38>Nov 22 17:00:00 v sshd[7]: x"},
		{"udp6", "udp", "syslog:udp://[::1]:0", "<38>Nov 22 17:00:00 v sshd[7]: x"},
		{"tcp", "tcp", "syslog:tcp://127.0.0.1:0", "<38>Nov 22 17:00:00 v sshd[7]: x\n"},
		{"tcp, octets", "tcp", "syslog:tcp://127.0.0.1:0", "32 <38>Nov 22 17:00:00 v sshd[7]: x"},
		{"unix", "unixgram", "syslog:unix://" + socket, "<38>Nov 22 17:00:00 v sshd[7]: x\x00"},
		{"unix again", "unixgram", "syslog:unix://" + socket + "?mode=0622", "<38>Nov 22 17:00:00 v sshd[7]: x\x00"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "udp6" {
				c, err := net.ListenPacket("udp6", "[::1]:0")
				if err != nil {
					t.Skip("this machine has no IPv6: ", err)
				}
				c.Close()
			}
			y, g, addr, stop := listening(t, tt.spec, SyslogOptions{Location: time.UTC})
			c := dial(t, tt.network, addr)
			_, err := io.WriteString(c, tt.send)
			must(t, err)
			g.want(t, "v sshd[7]: x")
			stop()
			if r := g.recs[0]; r.Source != tt.spec || r.At.IsZero() || r.Pos.File != 0 || r.Seen {
				t.Errorf("record %+v", r)
			}
			if s := y.Stats(); s.Lines != 1 || s.Bytes == 0 || s.Connections != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestSyslogUnixPlace(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "log")
	_, _, _, stop := listening(t, "syslog:unix://"+socket, SyslogOptions{})
	info, err := os.Stat(socket)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("socket has %v, want 0600", info.Mode().Perm())
	}
	second, err := NewSyslog(SyslogOptions{Name: "syslog:unix://" + socket})
	must(t, err)
	if err := second.Run(t.Context(), Sink{}); err == nil {
		t.Error("a second listener took the place of the first")
	}
	stop()
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket was left behind: %v", err)
	}
	// One that a killed process left behind is replaced.
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	must(t, err)
	c.Close()
	_, g, addr, _ := listening(t, "syslog:unix://"+socket, SyslogOptions{})
	io.WriteString(dial(t, "unixgram", addr), "<38>Nov 22 17:00:00 v x: y")
	g.want(t, "v x: y")
	// A file is not.
	file := filepath.Join(dir, "file")
	write(t, file, "precious")
	third, err := NewSyslog(SyslogOptions{Name: "syslog:unix://" + file})
	must(t, err)
	if err := third.Run(t.Context(), Sink{}); err == nil {
		t.Error("a file was replaced")
	}
}

func TestSyslogAllow(t *testing.T) {
	y, g, addr, _ := listening(t, "syslog:udp://127.0.0.1:0?allow=127.0.0.2", SyslogOptions{})
	to, err := net.ResolveUDPAddr("udp", addr)
	must(t, err)
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, to)
		must(t, err)
		defer c.Close()
		io.WriteString(c, "<38>"+from)
	}
	g.want(t, "127.0.0.2 127.0.0.2")
	eventually(t, "the other one to be refused", func() bool { return y.Stats().Refused == 1 }, func() any { return y.Stats() })
	z, _, tcp, _ := listening(t, "syslog:tcp://127.0.0.1:0?allow=127.0.0.2", SyslogOptions{})
	c := dial(t, "tcp", tcp)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection that is not allowed stays open")
	}
	if s := z.Stats(); s.Refused != 1 {
		t.Errorf("stats %+v, want 1 refused", s)
	}
}

// TestSyslogConnectionsAreBounded: the one that was silent for longest makes room.
func TestSyslogConnectionsAreBounded(t *testing.T) {
	y, g, addr, _ := listening(t, "syslog:tcp://127.0.0.1:0", SyslogOptions{MaxConnections: 2})
	a, b := dial(t, "tcp", addr), dial(t, "tcp", addr)
	io.WriteString(a, "<38>a1\n")
	g.want(t, "127.0.0.1 a1")
	io.WriteString(b, "<38>b1\n")
	g.want(t, "127.0.0.1 a1 127.0.0.1 b1")
	c := dial(t, "tcp", addr)
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("the oldest connection stays open")
	}
	io.WriteString(c, "<38>c1\n")
	io.WriteString(b, "<38>b2\n")
	eventually(t, "both", func() bool { return g.count() == 4 }, func() any { return g.lines() })
	eventually(t, "1 refused, 2 connections", func() bool {
		s := y.Stats()
		return s.Refused == 1 && s.Connections == 2
	}, func() any { return y.Stats() })
}

// TestSyslogNeverWaits: while the sink stands still, messages are queued up to the bound, the others counted.
func TestSyslogNeverWaits(t *testing.T) {
	q := newQueue()
	text := make([]byte, maxLine)
	n := 0
	for q.put(text, noon) {
		n++
	}
	if n != maxQueuedBytes/maxLine {
		t.Errorf("%d messages of 16 KiB are queued, want %d", n, maxQueuedBytes/maxLine)
	}
	var b batch
	q.swap(&b)
	for n = 0; q.put(text[:1], noon); n++ {
	}
	if n != maxQueued {
		t.Errorf("%d small messages are queued, want %d", n, maxQueued)
	}
	y, err := NewSyslog(SyslogOptions{Name: "syslog:udp://127.0.0.1:0"})
	must(t, err)
	y.queueMessage(q, nil, []byte("<38>one more"), []byte("p"), false)
	if s := y.Stats(); s.Dropped != 1 {
		t.Errorf("stats %+v, want 1 dropped", s)
	}
}

func TestNewSyslogRefuses(t *testing.T) {
	for _, name := range []string{"file:/x", "nonsense"} {
		if _, err := NewSyslog(SyslogOptions{Name: name}); err == nil {
			t.Errorf("NewSyslog(%q) succeeds", name)
		}
	}
	y, err := NewSyslog(SyslogOptions{Name: "syslog:udp://192.0.2.1:1?allow=::/0"})
	must(t, err)
	if err := y.Run(t.Context(), Sink{}); err == nil {
		t.Error("Run on an address that is not ours succeeds")
	}
}

func BenchmarkSyslogParse(b *testing.B) {
	for _, msg := range []string{
		"<38>Nov 22 17:00:00 victim sshd[4711]: Failed password for root from 192.0.2.7 port 4711 ssh2",
		"<38>1 2025-11-22T17:00:00.123456Z victim sshd 4711 - - Failed password for root from 192.0.2.7 port 4711 ssh2",
	} {
		b.Run(msg[4:5], func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(msg)))
			var out []byte
			in, peer := []byte(msg), []byte("peer")
			for b.Loop() {
				out, _, _ = appendSyslog(out[:0], in, peer, noon, time.UTC)
			}
		})
	}
}
