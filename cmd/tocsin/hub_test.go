package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tocsin/internal/api"
	"tocsin/internal/daemon"
)

// hubProcess is a real hub, started as people start it.
type hubProcess struct {
	t     *testing.T
	state string
	url   string
	cmd   *exec.Cmd
	op    api.HubPeople
	n     int // keys that were made
}

// aState is a state folder with a file of countries. The path of a socket is short.
func aState(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "country.mmdb"), maxMind(t, map[string]string{"198.51.100.0/24": "FR"}), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

var answersAt = regexp.MustCompile(`msg="the hub answers" addr=(\S+)`)

func startHub(t *testing.T, state string, args ...string) *hubProcess {
	t.Helper()
	h := &hubProcess{t: t, state: state, op: api.NewHubClient(daemon.HubSocket(state))}
	h.cmd = exec.Command("tocsin", append([]string{"hub", "--listen", "127.0.0.1:0", "--state", state, "--countries", filepath.Join(state, "country.mmdb")}, args...)...)
	stderr, err := h.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(stderr)
	for h.url == "" && lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		if m := answersAt.FindStringSubmatch(lines.Text()); m != nil {
			h.url = "http://" + m[1]
		}
	}
	if h.url == "" {
		h.cmd.Wait()
		t.Fatalf("the hub did not start: %s", said.String())
	}
	drained := make(chan struct{})
	go func() { defer close(drained); io.Copy(io.Discard, stderr) }()
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		<-drained
		h.cmd.Wait() // "killed", or it ended before
	})
	return h
}

// key makes a key of a new admitted organisation.
func (h *hubProcess) key(plan string, quota map[string]int) string {
	h.t.Helper()
	h.n++
	name := fmt.Sprintf("org %d", h.n)
	if _, err := h.op.AddOrg(h.t.Context(), api.HubOrgRequest{Name: name, Admitted: true, ASN: uint32(h.n)}); err != nil {
		h.t.Fatal(err)
	}
	k, err := h.op.AddKey(h.t.Context(), api.HubKeyRequest{Org: name, Name: "k", Scope: []string{"read", "report"}, Plan: plan, Quota: quota})
	if err != nil {
		h.t.Fatal(err)
	}
	return k.Key
}

func (h *hubProcess) ask(method, path, key, body string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequest(method, h.url+"/api/v2/"+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Key", key)
	if body != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// report reports an address, so long ago.
func (h *hubProcess) report(key, addr string, ago time.Duration) {
	h.t.Helper()
	form := url.Values{"ip": {addr}, "categories": {"18,22"}, "comment": {"x"}, "timestamp": {time.Now().Add(-ago).UTC().Format(time.RFC3339)}}
	if status, text := h.ask("POST", "report", key, form.Encode()); status != 200 {
		h.t.Fatalf("report %s: %d %s", addr, status, text)
	}
}

// compatCase is one request of a real client with what it needs for an answer.
type compatCase struct {
	ID      string   `json:"id"`
	Setup   []string `json:"setup"`
	Request struct {
		Method, Path, Query, Body string
		Headers                   map[string]string
	}
	Expect struct {
		Status        any
		Headers, JSON map[string]any
		Text          string
		AbsentHeaders []string
	}
}

func compatCases(t *testing.T) (all []compatCase) {
	t.Helper()
	dir := os.Getenv("TOCSIN_TESTDATA")
	if dir == "" {
		t.Skip("TOCSIN_TESTDATA names no folder with recorded requests")
	}
	text, err := os.ReadFile(filepath.Join(dir, "abuseipdb", "compat-cases.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var c compatCase
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// TestHubAnswersRealClients replays what published clients send against a real hub.
func TestHubAnswersRealClients(t *testing.T) {
	cases := compatCases(t)
	passed := 0
	shared := startHub(t, aState(t))
	for _, c := range cases {
		ok := t.Run(c.ID, func(t *testing.T) {
			h := shared
			if len(c.Setup) > 0 {
				h = startHub(t, aState(t))
			}
			h.t = t
			h.replay(c)
		})
		if ok {
			passed++
		}
	}
	t.Logf("%d of %d requests of real clients are answered as they need it", passed, len(cases))
	if len(cases) < 61 {
		t.Errorf("only %d cases were found", len(cases))
	}
}

// ago is a setup like: report 203.0.113.9 901s ago by same key.
var ago = regexp.MustCompile(`^report (\S+) (\S+) ago by (same key|key2|key)$`)

// prepare brings about what a case begins with.
func (h *hubProcess) prepare(setup []string) (key, key2 string) {
	h.t.Helper()
	plan, quota := "standard", map[string]int{}
	for _, s := range setup {
		switch s {
		case "key on the largest plan":
			plan = "premium"
		case "daily report quota of key used up":
			quota["report"] = 0
		}
	}
	key, key2 = h.key(plan, quota), h.key(plan, nil)
	three := func(addrs ...string) {
		for range 3 {
			k := h.key("standard", nil)
			for _, a := range addrs {
				h.report(k, a, 0)
			}
		}
	}
	for _, s := range setup {
		if m := ago.FindStringSubmatch(s); m != nil {
			d, err := time.ParseDuration(m[2])
			if err != nil {
				h.t.Fatal(err)
			}
			who := key
			if m[3] == "key2" {
				who = key2
			}
			h.report(who, m[1], d)
			continue
		}
		switch s {
		case "12 reports on 203.0.113.9":
			for range 12 {
				h.report(h.key("standard", nil), "203.0.113.9", time.Hour)
			}
		case "3 addresses at score >= 100 listed":
			three("198.51.100.1", "198.51.100.2", "203.0.113.3")
		case "1 IPv6 listed":
			three("2001:db8:1:2::3")
		case "daily blacklist quota of key used up":
			for range 5 {
				h.ask("GET", "blacklist", key, "")
			}
		case "storage is down":
			if err := os.Remove(filepath.Join(h.state, "hub", "hub.db")); err != nil {
				h.t.Fatal(err)
			}
		case "two of them FR", "key on the free plan", "key on the largest plan", "key on a plan without custom confidence", "daily report quota of key used up":
		default:
			h.t.Fatalf("what is %q?", s)
		}
	}
	return key, key2
}

func (h *hubProcess) replay(c compatCase) {
	t := h.t
	key, key2 := h.prepare(c.Setup)
	body := c.Request.Body
	if body == "{{csv 10001 lines}}" {
		body = "--B\r\nContent-Disposition: form-data; name=\"csv\"; filename=\"report.csv\"\r\n\r\nIP,Categories,ReportDate,Comment\n" +
			strings.Repeat("203.0.113.9,18,2026-01-02T03:04:05Z,x\n", 10_000) + "\r\n--B--\r\n"
	}
	target := h.url + c.Request.Path
	if c.Request.Query != "" {
		target += "?" + c.Request.Query
	}
	req, err := http.NewRequest(c.Request.Method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range c.Request.Headers {
		req.Header[name] = []string{strings.NewReplacer("{{key}}", key, "{{key2}}", key2).Replace(value)}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if why := mismatch(c.Expect.Status, float64(resp.StatusCode), true); why != "" {
		t.Errorf("status: %s", why)
	}
	for name, want := range c.Expect.Headers {
		got := resp.Header.Get(name)
		if why := mismatch(want, got, resp.Header.Values(name) != nil); why != "" {
			t.Errorf("header %s: %s", name, why)
		}
	}
	for _, name := range c.Expect.AbsentHeaders {
		if resp.Header.Values(name) != nil {
			t.Errorf("header %s: %q", name, resp.Header.Get(name))
		}
	}
	if c.Expect.Text != "" {
		if why := mismatch(c.Expect.Text, string(text), true); why != "" {
			t.Errorf("text: %s", why)
		}
	}
	if len(c.Expect.JSON) > 0 {
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatalf("%v: %q", err, text)
		}
		for path, want := range c.Expect.JSON {
			got, there := at(v, path)
			if why := mismatch(want, got, there); why != "" {
				t.Errorf("%s: %s", path, why)
			}
		}
	}
	if t.Failed() {
		t.Logf("%s %s answered %d %v\n%.2000s", c.Request.Method, target, resp.StatusCode, resp.Header, text)
	}
}

// at is what a path like errors.0.status leads to.
func at(v any, path string) (any, bool) {
	for word := range strings.SplitSeq(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[word]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			n, err := strconv.Atoi(word)
			if err != nil || n >= len(in) {
				return nil, false
			}
			v = in[n]
		default:
			return nil, false
		}
	}
	return v, true
}

// mismatch says how a value differs from what a case wants; "": it does not.
func mismatch(want, got any, there bool) string {
	no := fmt.Sprintf("%v (there: %v), want %v", got, there, want)
	rule, isText := want.(string)
	if rule == "absent" {
		if there {
			return no
		}
		return ""
	}
	if !there {
		return no
	}
	ok := false
	list, isList := got.([]any)
	switch {
	case !isText:
		ok = want == got
	case rule == "any":
		ok = true
	case rule == "null":
		ok = got == nil
	case rule == "str":
		_, ok = got.(string)
	case rule == "bool":
		_, ok = got.(bool)
	case strings.HasPrefix(rule, "int:"):
		low, high, _ := strings.Cut(rule[4:], "..")
		n, isNumber := got.(float64)
		least, err1 := strconv.ParseFloat(low, 64)
		most, err2 := strconv.ParseFloat(high, 64)
		ok = isNumber && err1 == nil && err2 == nil && n == float64(int64(n)) && n >= least && n <= most
	case strings.HasPrefix(rule, "len:"):
		ok = isList && strconv.Itoa(len(list)) == rule[4:]
	case strings.HasPrefix(rule, "len>="):
		least, err := strconv.Atoi(rule[5:])
		ok = isList && err == nil && len(list) >= least
	case strings.HasPrefix(rule, "~"):
		ok = regexp.MustCompile(rule[1:]).MatchString(fmt.Sprint(got))
	default:
		ok = rule == got
	}
	if ok {
		return ""
	}
	return no
}

// TestHubKeepsWhatItAnswered kills a hub while many report: what was answered 200 is there afterwards.
func TestHubKeepsWhatItAnswered(t *testing.T) {
	state := aState(t)
	h := startHub(t, state)
	var keys []string
	for range 8 {
		keys = append(keys, h.key("premium", map[string]int{"report": 1_000_000, "check": 1_000_000}))
	}
	answered := map[string]bool{}
	for round := range 4 {
		if round > 0 {
			h = startHub(t, state)
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		var n atomic.Int64
		for g, key := range keys {
			wg.Go(func() {
				for i := 0; ; i++ {
					addr := netip.AddrFrom4([4]byte{45, byte(round*8 + g), byte(i >> 8), byte(i)}).String()
					resp, err := http.PostForm(h.url+"/api/v2/report?key="+key, url.Values{"ip": {addr}, "categories": {"18"}})
					if err != nil {
						return // it was killed
					}
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err == nil && resp.StatusCode == http.StatusOK {
						mu.Lock()
						answered[addr] = true
						mu.Unlock()
						n.Add(1)
					}
				}
			})
		}
		for began := time.Now(); n.Load() < int64(20+rand.IntN(300)) && time.Since(began) < time.Minute; {
			time.Sleep(time.Millisecond)
		}
		if err := h.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		h.cmd.Wait() // "killed"
	}
	h = startHub(t, state)
	for addr := range answered {
		status, text := h.ask("GET", "check?ipAddress="+addr, keys[0], "")
		if status != 200 || !strings.Contains(text, `"totalReports":1,`) || strings.Contains(text, `"abuseConfidenceScore":0,`) {
			t.Fatalf("%s was answered 200 and is lost: %d %s", addr, status, text)
		}
	}
	t.Logf("%d reports were answered, all of them are there", len(answered))
	if len(answered) < 80 {
		t.Errorf("only %d reports were answered", len(answered))
	}
	if status, text := h.ask("POST", "report", keys[0], "ip=45.0.0.0&categories=18"); status != http.StatusTooManyRequests {
		t.Errorf("reported again within 15 minutes, after four restarts: %d %s", status, text)
	}
}

// TestHubMembersComeAndGo makes and revokes keys with and without a running hub.
func TestHubMembersComeAndGo(t *testing.T) {
	state := aState(t)
	tocsin := func(want int, args ...string) map[string]any {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "tocsin", append(args, "--json", "--state", state)...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Fatalf("tocsin %v: %v, want exit code %d: %s", args, err, want, out)
		}
		var v map[string]any
		if err := json.Unmarshal(out, &v); err != nil {
			t.Fatalf("tocsin %v: %v: %s", args, err, out)
		}
		return v
	}
	if o := tocsin(0, "hub", "org", "add", "Before", "--admitted"); o["schema"] != api.SchemaHubOrg || o["org"] != "Before" || o["admitted"] != true {
		t.Errorf("%v", o)
	}
	before := tocsin(0, "hub", "key", "add", "Before", "--name", "k", "--scope", "read,report", "--quota", "check=2")
	if before["schema"] != api.SchemaHubKey || len(before["key"].(string)) != 80 {
		t.Errorf("%v", before)
	}
	h := startHub(t, state)
	tocsin(0, "hub", "org", "add", "While")
	while := tocsin(0, "hub", "key", "add", "While", "--name", "k", "--scope", "report")
	tocsin(api.ExitFindings, "hub", "org", "add", "While")
	tocsin(api.ExitFindings, "hub", "key", "add", "While", "--name", "k")
	tocsin(api.ExitUsage, "hub", "key", "add", "Nobody", "--name", "k")
	tocsin(api.ExitUsage, "hub", "key", "add", "While", "--name", "l", "--scope", "all")
	tocsin(api.ExitUsage, "hub", "key", "add", "While", "--name", "l", "--quota", "cheque=5")
	check := "check?ipAddress=203.0.113.9"
	for i, want := range []int{200, 200, 429} {
		if status, text := h.ask("GET", check, before["key"].(string), ""); status != want {
			t.Errorf("check %d: %d %s", i, status, text)
		}
	}
	if status, text := h.ask("GET", check, while["key"].(string), ""); status != 403 {
		t.Errorf("a key that may not read: %d %s", status, text)
	}
	h.report(while["key"].(string), "203.0.113.9", 0)
	tocsin(0, "hub", "key", "revoke", "While", "k")
	if status, text := h.ask("POST", "report", while["key"].(string), "ip=203.0.113.10&categories=18"); status != 401 {
		t.Errorf("a key that was revoked: %d %s", status, text)
	}
	if all := tocsin(0, "hub", "org", "list")["orgs"].([]any); len(all) != 2 {
		t.Errorf("%v", all)
	}
	second := exec.Command("tocsin", "hub", "--listen", "127.0.0.1:0", "--state", state)
	if out, err := second.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("another hub")) {
		t.Errorf("a second hub: %v %s", err, out)
	}
	if err := h.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for api.NewHubClient(daemon.HubSocket(state)); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if _, err := h.op.Orgs(ctx); err != nil {
			break
		}
	}
	h.cmd.Wait()
	h = startHub(t, state)
	if status, text := h.ask("GET", check, before["key"].(string), ""); status != 429 {
		t.Errorf("the quota of before the restart: %d %s", status, text)
	}
}

// maxMind writes a file of countries with a few networks of IPv4 (https://maxmind.github.io/MaxMind-DB/).
func maxMind(t *testing.T, lands map[string]string) []byte {
	t.Helper()
	text := func(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }
	number := func(kind byte, n uint32) []byte {
		b := binary.BigEndian.AppendUint32(nil, n)
		if kind > 7 {
			return append([]byte{4, kind - 7}, b...)
		}
		return append([]byte{kind<<5 | 4}, b...)
	}
	type node [2]int // -1: nothing; -2-n: data n
	nodes := []node{{-1, -1}}
	var data bytes.Buffer
	for prefix, land := range lands {
		p := netip.MustParsePrefix(prefix)
		offset := data.Len()
		data.WriteByte(7<<5 | 1)
		data.Write(text("country"))
		data.WriteByte(7<<5 | 1)
		data.Write(text("iso_code"))
		data.Write(text(land))
		at, addr := 0, p.Addr().As4()
		for i := range p.Bits() {
			bit := addr[i/8] >> (7 - i%8) & 1
			if i == p.Bits()-1 {
				nodes[at][bit] = -2 - offset
				break
			}
			if nodes[at][bit] < 0 {
				nodes = append(nodes, node{-1, -1})
				nodes[at][bit] = len(nodes) - 1
			}
			at = nodes[at][bit]
		}
	}
	var out bytes.Buffer
	for _, n := range nodes {
		for _, v := range n {
			switch {
			case v == -1:
				v = len(nodes)
			case v < 0:
				v = len(nodes) + 16 + (-v - 2)
			}
			out.Write([]byte{byte(v >> 16), byte(v >> 8), byte(v)})
		}
	}
	out.Write(make([]byte, 16))
	out.Write(data.Bytes())
	out.WriteString("\xab\xcd\xefMaxMind.com")
	out.WriteByte(7<<5 | 7)
	for _, f := range []struct {
		key   string
		value []byte
	}{
		{"node_count", number(6, uint32(len(nodes)))},
		{"record_size", []byte{5<<5 | 1, 24}},
		{"ip_version", []byte{5<<5 | 1, 4}},
		{"database_type", text("Country")},
		{"binary_format_major_version", []byte{5<<5 | 1, 2}},
		{"binary_format_minor_version", []byte{5 << 5}},
		{"build_epoch", number(9, 1)},
	} {
		out.Write(text(f.key))
		out.Write(f.value)
	}
	return out.Bytes()
}
