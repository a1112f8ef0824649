package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tocsin"
)

// childSocket makes this test binary a client of that socket, so that it can run under another uid.
const childSocket = "TOCSIN_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(childSocket); path != "" {
		_, err := NewClient(path).Ban(context.Background(), BanRequest{Prefix: "192.0.2.7"})
		fmt.Println(exitOf(err))
		_, err = NewClient(path).Status(context.Background())
		fmt.Println(exitOf(err))
		_, err = NewClient(path).GiveList(context.Background(), "drop", strings.NewReader("192.0.2.1\n"))
		fmt.Println(exitOf(err))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func exitOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Exit
	}
	if err != nil {
		return -1
	}
	return 0
}

// serve answers with op on a socket of its own until the test ends.
func serve(t *testing.T, op Operations) string {
	t.Helper()
	return serveHandler(t, Handler(op))
}

func serveHandler(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "guard.sock")
	l, err := Listen(path, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, h) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return path
}

func TestClientAndServerAgree(t *testing.T) {
	addr := netip.MustParseAddr("2001:db8::7")
	var gotQuery BansQuery
	var gotBan BanRequest
	path := serve(t, Operations{
		Status: func(context.Context) (Status, error) { return Status{Schema: SchemaStatus, Mode: "enforcing"}, nil },
		Bans: func(_ context.Context, q BansQuery) (Bans, error) {
			gotQuery = q
			return Bans{Schema: SchemaBans, Bans: []Ban{}}, nil
		},
		Why: func(_ context.Context, a netip.Addr) (Why, error) { return Why{Addr: a.String()}, nil },
		Ban: func(_ context.Context, r BanRequest) (Change, error) {
			gotBan = r
			return Change{}, Errorf(ExitFindings, "do not", "that is the gateway")
		},
		Jail: func(_ context.Context, name string) (JailDetail, error) {
			if name != "my jail" {
				return JailDetail{}, NoJail(name, "")
			}
			return JailDetail{Jail: Jail{Name: name}, TotalBanned: 3}, nil
		},
		Banned: func(_ context.Context, jail string) (Banned, error) {
			return Banned{Jails: []BannedJail{{Name: jail, Banned: []BannedID{{ID: "192.0.2.7"}}}}}, nil
		},
		Reopen:  func(context.Context) (Change, error) { return Change{Text: "reopened"}, nil },
		Metrics: func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, "up 1\n"); return err },
	})
	c, ctx := NewClient(path), context.Background()

	if s, err := c.Status(ctx); err != nil || s.Mode != "enforcing" {
		t.Errorf("Status() = %+v, %v", s, err)
	}
	want := BansQuery{Addr: addr, Jail: "sshd", All: true, Since: time.Hour, Limit: 7, Detail: true}
	if _, err := c.Bans(ctx, want); err != nil || gotQuery != want {
		t.Errorf("Bans(%+v) arrives as %+v, error %v", want, gotQuery, err)
	}
	if y, err := c.Why(ctx, addr); err != nil || y.Addr != addr.String() {
		t.Errorf("Why(%s) = %+v, %v", addr, y, err)
	}
	r := BanRequest{Prefix: "192.0.2.7", Seconds: 60, Reason: "mail flood", By: "root", AcceptRisk: "lockout"}
	_, err := c.Ban(ctx, r)
	var e *Error
	if !errors.As(err, &e) || e.Exit != ExitFindings || e.Hint != "do not" || e.Msg != "that is the gateway" {
		t.Errorf("Ban() error = %#v, want the guard's refusal", err)
	}
	if gotBan != r {
		t.Errorf("Ban(%+v) arrives as %+v", r, gotBan)
	}
	if j, err := c.Jail(ctx, "my jail"); err != nil || j.Name != "my jail" || j.TotalBanned != 3 {
		t.Errorf("Jail() = %+v, %v", j, err)
	}
	if _, err := c.Jail(ctx, "a%2Fb/../c?d"); !errors.As(err, &e) || e.Code != CodeNoJail || e.Msg != `no jail is named "a%2Fb/../c?d"` {
		t.Errorf("Jail() error = %#v, want code %q", err, CodeNoJail)
	}
	if b, err := c.Banned(ctx, "a&b"); err != nil || len(b.Jails) != 1 || b.Jails[0].Name != "a&b" || b.Jails[0].Banned[0].ID != "192.0.2.7" {
		t.Errorf("Banned() = %+v, %v", b, err)
	}
	if r, err := c.Reopen(ctx); err != nil || r.Text != "reopened" {
		t.Errorf("Reopen() = %+v, %v", r, err)
	}
	var page strings.Builder
	if err := c.Metrics(ctx, &page); err != nil || page.String() != "up 1\n" {
		t.Errorf("Metrics() = %q, %v", page.String(), err)
	}
}

// Whoever may open the socket may look; root alone may change things, and the watch process may hand over lists.
func TestWhoMayDoWhat(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	const watch = 4711
	path := serve(t, Operations{
		Status: func(context.Context) (Status, error) { return Status{}, nil },
		Ban: func(context.Context, BanRequest) (Change, error) {
			t.Error("the ban was carried out")
			return Change{}, nil
		},
		TakeList: func(context.Context, string, io.Reader) (ListState, error) { return ListState{}, nil },
		MayShare: func(uid uint32) bool { return uid == watch },
		ForPages: func(context.Context) bool { return false },
	})
	for _, p := range []string{filepath.Dir(path), path} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(filepath.Dir(path), "client")
	copyFile(t, os.Args[0], self)
	for uid, want := range map[uint32]string{65534: "77\n0\n77\n", watch: "77\n0\n0\n"} {
		cmd := exec.Command(self)
		cmd.Env = []string{childSocket + "=" + path, "GOCOVERDIR=" + filepath.Dir(path)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("client as user %d: %v\n%s", uid, err, out)
		}
		if got := string(out); got != want {
			t.Errorf("user %d: ban, status and list end with %q, want %q", uid, got, want)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestBadRequests(t *testing.T) {
	path := serve(t, Operations{
		Bans: func(context.Context, BansQuery) (Bans, error) { return Bans{}, nil },
		Why:  func(context.Context, netip.Addr) (Why, error) { return Why{}, nil },
		Ban:  func(context.Context, BanRequest) (Change, error) { return Change{}, nil },
	})
	tests := []struct {
		name, request string
		status        string
	}{
		{"no address", "GET /v1/why?addr= HTTP/1.0\r\n\r\n", "400"},
		{"a prefix", "GET /v1/why?addr=192.0.2.0/24 HTTP/1.0\r\n\r\n", "400"},
		{"zero limit", "GET /v1/bans?limit=0 HTTP/1.0\r\n\r\n", "400"},
		{"too many", "GET /v1/bans?limit=10001 HTTP/1.0\r\n\r\n", "400"},
		{"too many with evidence", "GET /v1/bans?limit=1001&detail=1 HTTP/1.0\r\n\r\n", "400"},
		{"negative time", "GET /v1/bans?since=-1h HTTP/1.0\r\n\r\n", "400"},
		{"unknown field", "POST /v1/ban HTTP/1.0\r\nContent-Length: 8\r\n\r\n{\"x\": 1}", "400"},
		{"no JSON", "POST /v1/ban HTTP/1.0\r\nContent-Length: 3\r\n\r\n<x>", "400"},
		{"too long", "POST /v1/ban HTTP/1.0\r\nContent-Length: 70000\r\n\r\n{\"reason\":\"" + strings.Repeat("a", 70000-11), "400"},
		{"given up", "POST /v1/ban HTTP/1.0\r\nTocsin-Deadline: 2020-01-01T00:00:00Z\r\n\r\n", "503"},
		{"wrong method", "GET /v1/ban HTTP/1.0\r\n\r\n", "405"},
		{"unknown path", "GET /v2/ban HTTP/1.0\r\n\r\n", "404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, tt.request); err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(conn)
			if !strings.HasPrefix(string(answer), "HTTP/1.0 "+tt.status) {
				t.Errorf("answer = %.60q, want status %s", answer, tt.status)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	_, err := NewClient(filepath.Join(dir, "absent.sock")).Status(context.Background())
	if exitOf(err) != ExitUnreachable {
		t.Errorf("error without a socket = %v (exit %d), want exit %d", err, exitOf(err), ExitUnreachable)
	}
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := NewClient(dead).Status(context.Background()); exitOf(err) != ExitUnreachable {
		t.Errorf("error at a dead guard's socket = %v (exit %d), want exit %d", err, exitOf(err), ExitUnreachable)
	}
	l2, err := Listen(dead, -1)
	if err != nil {
		t.Fatalf("Listen over a dead guard's socket: %v", err)
	}
	defer l2.Close()
	if fi, err := os.Stat(dead); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("socket has mode %v (%v), want 0660", fi.Mode().Perm(), err)
	}
	if precious := filepath.Join(dir, "precious"); os.WriteFile(precious, nil, 0o600) == nil {
		if _, err := Listen(precious, -1); err == nil {
			t.Error("a file that is no socket was taken for an old one")
		}
		if _, err := os.Stat(precious); err != nil {
			t.Errorf("a file that is no socket was removed: %v", err)
		}
	}
	if _, err := Listen(dead, -1); err == nil {
		t.Error("a second guard may listen on a living guard's socket")
	}
}

func TestBanOf(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 0, 0, 0, time.FixedZone("CET", 3600))
	d := tocsin.Decision{
		Jail: "sshd", ID: "192.0.2.7", Prefix: netip.MustParsePrefix("192.0.2.7/32"), At: at, Until: at.Add(time.Hour),
		Evidence: []tocsin.Evidence{{Line: tocsin.Line{At: at, Text: "a\x1b[2Jb"}, User: "ro\not"}},
	}
	b := BanOf(&d, at.Add(time.Minute))
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"active":true`, `"at":"2026-11-22T13:00:00Z"`, `"until":"2026-11-22T14:00:00Z"`, `"ports":[]`,
		`"text":"a\\x1b[2Jb"`, `"user":"ro\\not"`, `"ended_at":null`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("BanOf(d) = %s, which lacks %s", text, want)
		}
	}
	if BanOf(&d, d.Until).Active {
		t.Error("a ban is active at the moment it ends")
	}
}

func TestMetricsFormat(t *testing.T) {
	var out strings.Builder
	m := NewMetrics(&out)
	m.Counter("b_total", "Bees.", 2, "jail", "a\"b\\c\nd", "x", "y")
	m.Gauge("a", "As.", 0.5)
	m.Counter("b_total", "Bees.", 3, "jail", "z")
	if err := m.Flush(); err != nil {
		t.Fatal(err)
	}
	want := "# HELP a As.\n# TYPE a gauge\na 0.5\n# HELP b_total Bees.\n# TYPE b_total counter\n" +
		"b_total{jail=\"a\\\"b\\\\c\\nd\",x=\"y\"} 2\nb_total{jail=\"z\"} 3\n"
	if out.String() != want {
		t.Errorf("page:\n%s\nwant:\n%s", out.String(), want)
	}
}

// Whom bans are about is packed, and what is cut off of it is left out.
func TestPackedBans(t *testing.T) {
	path := serve(t, Operations{Tally: func(_ context.Context, addrs bool) (out Tally, err error) {
		if addrs {
			out.Addrs.Add(netip.MustParseAddr("2001:db8::7"), true, false)
			out.Addrs.Add(netip.MustParseAddr("192.0.2.7"), false, true)
		}
		return out, nil
	}})
	c := NewClient(path)
	if got, err := c.Tally(t.Context(), false); err != nil || got.Addrs != nil {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := c.Tally(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for cut, want := range map[int]string{0: "2001:db8::7 true false, 192.0.2.7 false true, ", 1: "2001:db8::7 true false, ", 5: "2001:db8::7 true false, ", 6: "", 22: ""} {
		var b strings.Builder
		for a, bits := range got.Addrs[:len(got.Addrs)-cut].All {
			fmt.Fprintf(&b, "%s %v %v, ", a, bits.Active(), bits.Day())
		}
		if b.String() != want {
			t.Errorf("without the last %d bytes: %q, want %q", cut, b.String(), want)
		}
	}
	for range got.Addrs.All {
		break // who has enough may stop
	}
}
