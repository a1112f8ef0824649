package probe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// busAnswer is a message as a bus sends it.
func busAnswer(typ byte, reply uint32, errorName string, body []byte) []byte {
	w := busWriter{'l', typ, 0, 1}
	w.uint32(uint32(len(body)))
	w.uint32(77)
	w.uint32(0)
	w.align(8)
	w = append(w, busReplySerial)
	w.signature("u")
	w.uint32(reply)
	if errorName != "" {
		w.header(busErrorName, "s", errorName)
	}
	binary.LittleEndian.PutUint32(w[12:], uint32(len(w)-16))
	w.align(8)
	return append(w, body...)
}

// unitList is a(ssssssouso).
func unitList(units ...unit) []byte {
	var w busWriter
	w.uint32(0)
	w.align(8)
	for _, u := range units {
		w.align(8)
		for _, s := range []string{u.name, "about " + u.name, "loaded", u.active, u.sub, "", "/org/freedesktop/systemd1/unit/x"} {
			w.string(s)
		}
		w.uint32(0)
		w.string("")
		w.string("/")
	}
	binary.LittleEndian.PutUint32(w, uint32(len(w)-8))
	return w
}

// fakeBus listens where systemd's bus would, and answers each call after the greeting with answer.
func fakeBus(t *testing.T, socket string, daemon bool, answer func(serial uint32, call []byte) []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serveBus(c, daemon, answer)
		}
	}()
}

func serveBus(c net.Conn, daemon bool, answer func(uint32, []byte) []byte) {
	defer c.Close()
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "\x00AUTH EXTERNAL ") {
		return
	}
	if _, err := io.WriteString(c, "OK 1234deadbeef\r\n"); err != nil {
		return
	}
	if line, err := r.ReadString('\n'); err != nil || line != "BEGIN\r\n" {
		return
	}
	for {
		var head [16]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		body, serial, fields := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:]), binary.LittleEndian.Uint32(head[12:])
		text := make([]byte, (fields+7)&^7+body)
		if _, err := io.ReadFull(r, text); err != nil {
			return
		}
		var out []byte
		if daemon && bytes.Contains(text, []byte("Hello\x00")) {
			w := busWriter{}
			w.string(":1.5")
			out = append(busAnswer(4, 0, "", nil), busAnswer(busReturn, serial, "", w)...) // a signal first
		} else {
			out = answer(serial, text)
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func TestSystemd(t *testing.T) {
	units := unitList(unit{"nginx.service", "failed", "failed"}, unit{"loop.service", "activating", "auto-restart"}, unit{"a\xff.mount", "failed", "failed"}, unit{"odd", "active", "running"})
	for _, tt := range []struct {
		socket string
		daemon bool
	}{{"run/dbus/system_bus_socket", true}, {"run/systemd/private", false}} {
		h := fakeMachine(t, map[string]string{"run/systemd/system/x": ""})
		fakeBus(t, h.at(tt.socket), tt.daemon, func(serial uint32, call []byte) []byte {
			if !bytes.Contains(call, []byte("ListUnitsFiltered\x00")) || !bytes.Contains(call, []byte("auto-restart\x00")) {
				return busAnswer(busError, serial, "org.example.Wrong", nil)
			}
			if bytes.Contains(call, []byte("org.freedesktop.systemd1\x00")) != tt.daemon {
				return busAnswer(busError, serial, "org.example.WrongName", nil)
			}
			return busAnswer(busReturn, serial, "", units)
		})
		wantValues(t, taken(t, systemdProbe, h), map[string]float64{"systemd_units.failed": 2, "systemd_units.restarting": 1})
		d := held{p: &systemdProbe, h: h}
		rs, err := d.read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info, _ := rs[0].Service.Field("failed").Get("extinfo"); info != "a?.mount, nginx.service" {
			t.Errorf("what failed is told as %q, want both names", info)
		}
	}
}

func TestSystemdThatFails(t *testing.T) {
	ok := unitList()
	for name, answer := range map[string]func(uint32, []byte) []byte{
		"an error": func(serial uint32, _ []byte) []byte {
			return busAnswer(busError, serial, "org.freedesktop.DBus.Error.AccessDenied", nil)
		},
		"nonsense": func(uint32, []byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"torn":     func(serial uint32, _ []byte) []byte { return busAnswer(busReturn, serial, "", ok)[:20] },
		"an endless array": func(serial uint32, _ []byte) []byte {
			return busAnswer(busReturn, serial, "", []byte{255, 255, 255, 127, 0, 0, 0, 0, 1})
		},
		"hanging up": func(uint32, []byte) []byte { return nil },
	} {
		h := fakeMachine(t, map[string]string{"run/systemd/system/x": ""})
		socket := h.at("run/dbus/system_bus_socket")
		fakeBus(t, socket, true, func(serial uint32, call []byte) []byte { return answer(serial, call) })
		d := held{p: &systemdProbe, h: h}
		ctx, cancel := contextOf(t, 500*time.Millisecond) // any error will do, the end of time too
		if rs, err := d.read(ctx); err == nil {
			t.Errorf("%s: read %v", name, rs)
		}
		cancel()
	}
	for why, files := range map[string]map[string]string{"not started by systemd": nil, "package dbus": {"run/systemd/system/x": ""}} {
		_, err := systemdProbe.New(fakeMachine(t, files))
		if got, off := IsOff(err); !off || !strings.Contains(got, why) {
			t.Errorf("off because of %q, want %q", got, why)
		}
	}
}

// TestRealBus says hello to Debian's daemon, and hears that there is no systemd on it.
func TestRealBus(t *testing.T) {
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("no dbus-daemon here (package dbus-daemon)")
	}
	h := fakeMachine(t, map[string]string{"run/systemd/system/x": "", "run/dbus/x": ""})
	socket := h.at("run/dbus/system_bus_socket")
	cmd := exec.CommandContext(t.Context(), program, "--session", "--nofork", "--print-address=1", "--address=unix:path="+socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Skipf("dbus-daemon does not run here: %q, %v", line, err)
	}
	ctx, cancel := contextOf(t, 30*time.Second)
	defer cancel()
	d := held{p: &systemdProbe, h: h}
	if _, err := d.read(ctx); err == nil || !strings.Contains(err.Error(), "org.freedesktop.DBus.Error") {
		t.Errorf("a bus without systemd says %v, want one of its errors", err)
	}
}

func FuzzBusMessage(f *testing.F) {
	f.Add(busAnswer(busReturn, 5, "", unitList(unit{"a.service", "failed", "failed"})))
	f.Add(busAnswer(busError, 5, "org.example.Error", nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readBusMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		if units, _ := parseUnits(m.body); len(units) > maxUnits {
			t.Errorf("%d units", len(units))
		}
	})
}
