package tocsin

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors is the law of the house: which packages may import which. A package may import those of a lower floor, never
// its neighbours, with the exceptions that stand beside it. A package that is not in the table fails the test, so a new
// room is a decision (docs/design/0001-the-house.md).
var floors = map[string]struct {
	floor  int
	except []string // packages of the same floor that it may import, or "" for none
}{
	"tocsin":                      {floor: 0},
	"tocsin/docs/manual":          {floor: 1},
	"tocsin/internal/config":      {floor: 1},
	"tocsin/internal/regex":       {floor: 1},
	"tocsin/internal/fail2ban":    {floor: 1, except: []string{"tocsin/internal/regex"}},
	"tocsin/internal/exec":        {floor: 1},
	"tocsin/internal/abuseipdb":   {floor: 1},
	"tocsin/internal/remotewrite": {floor: 1},
	"tocsin/internal/munin":       {floor: 1},
	"tocsin/internal/account":     {floor: 1},
	"tocsin/internal/locale":      {floor: 1},
	"tocsin/internal/snapshot":    {floor: 1},
	"tocsin/internal/scrub":       {floor: 1},
	"tocsin/internal/source":      {floor: 2},
	"tocsin/internal/filter":      {floor: 2},
	"tocsin/internal/jail":        {floor: 2},
	"tocsin/internal/store":       {floor: 2},
	"tocsin/internal/firewall":    {floor: 2},
	"tocsin/internal/host":        {floor: 2},
	"tocsin/internal/f2blog":      {floor: 2},
	"tocsin/internal/action":      {floor: 2},
	"tocsin/internal/list":        {floor: 2},
	"tocsin/internal/report":      {floor: 2},
	"tocsin/internal/probe":       {floor: 2},
	"tocsin/internal/tsdb":        {floor: 2},
	"tocsin/internal/graph":       {floor: 2},
	"tocsin/internal/alert":       {floor: 2},
	"tocsin/internal/notify":      {floor: 2},
	"tocsin/internal/reputation":  {floor: 2},
	"tocsin/internal/api":         {floor: 3},
	"tocsin/internal/web":         {floor: 3, except: []string{"tocsin/internal/api"}}, // pages ask the guard as a command does
	"tocsin/internal/daemon":      {floor: 4},
	"tocsin/internal/fail2bancli": {floor: 4},
	"tocsin/cmd/tocsin":           {floor: 5},
	"tocsin/e2e":                  {floor: 5, except: []string{"tocsin/e2e/lab"}},
	"tocsin/e2e/lab":              {floor: 5},
	"tocsin/e2e/demo":             {floor: 5, except: []string{"tocsin/e2e/lab"}},
	"tocsin/bench":                {floor: 5, except: []string{"tocsin/e2e/lab"}},
	"tocsin/bench/reputation":     {floor: 5},

	"tocsin/internal/abuseipdb/fake": {floor: 1}, // a server for tests
	"tocsin/internal/account/fake":   {floor: 1}, // an OpenID provider for tests
}

// apiMayImport are the rooms of floor 2 that the HTTP floor may look into: it shows what they hold.
var apiMayImport = []string{"tocsin/internal/store", "tocsin/internal/tsdb", "tocsin/internal/graph", "tocsin/internal/alert"}

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func TestFloors(t *testing.T) {
	for _, p := range packages(t) {
		me, ok := floors[p.ImportPath]
		if !ok {
			t.Errorf("%s stands on no floor: add it to floors with the reason in docs/design/0001-the-house.md", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if imp != "tocsin" && !strings.HasPrefix(imp, "tocsin/") {
				continue
			}
			other := floors[imp].floor
			switch {
			case slices.Contains(me.except, imp):
			case me.floor == 3 && other == 2:
				if !slices.Contains(apiMayImport, imp) {
					t.Errorf("%s imports %s: the HTTP floor may look into %v only", p.ImportPath, imp, apiMayImport)
				}
			case me.floor == 2 && other == 2, other >= me.floor:
				t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, me.floor, imp, other)
			}
		}
	}
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// modules lists every direct requirement of go.mod with the reason why the project does not write it itself.
var modules = map[string]string{
	"github.com/alecthomas/kong":              "command line from struct tags, no transitive module",
	"github.com/pelletier/go-toml/v2":         "TOML syntax with line and column for every kind of mistake",
	"github.com/google/nftables":              "the nf_tables netlink messages",
	"github.com/mdlayher/netlink":             "netlink sockets: sock_diag, and the socket under google/nftables",
	"github.com/gaissmai/bart":                "prefix table: the allow list and the merging of prefixes",
	"modernc.org/sqlite":                      "SQLite without cgo",
	"github.com/klauspost/compress":           "zstd for old logs, snappy for remote write",
	"github.com/coreos/go-systemd/v22":        "sd_notify, the watchdog, and systemd's units",
	"github.com/prometheus/prometheus":        "the store of samples and its query language",
	"github.com/prometheus/common":            "the words of the store of samples",
	"github.com/prometheus/procfs":            "reads /proc and /sys",
	"github.com/oschwald/maxminddb-golang/v2": "the country of an address",
	"github.com/jackc/pgx/v5":                 "asks PostgreSQL for its counters",
	"golang.org/x/time":                       "rate limits",
	"github.com/dlclark/regexp2/v2":           "tests only: an oracle for the exact matcher",
	"github.com/rogpeppe/go-internal":         "tests only: testscript, txtar",
	"golang.org/x/sys":                        "inotify, capabilities, socket options",
	"golang.org/x/tools":                      "tests only: txtar",
	"golang.org/x/crypto":                     "argon2id for passwords",
	"golang.org/x/image":                      "fonts and filled shapes for PNG pictures",
	"golang.org/x/oauth2":                     "the code flow of OpenID Connect, with PKCE",
	"github.com/coreos/go-oidc/v3":            "OpenID Connect: discovery and checked tokens",
	"github.com/go-jose/go-jose/v4":           "tests only: signs the tokens of a server for tests",
	"github.com/wneessen/go-mail":             "SMTP and MIME",
	"github.com/chromedp/chromedp":            "tests only: drives a real browser",
	"github.com/chromedp/cdproto":             "tests only: the browser's protocol",
}

func TestEveryModuleHasAReason(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	for _, r := range mod.Require {
		if !r.Indirect && modules[r.Path] == "" {
			t.Errorf("go.mod requires %s, which has no reason in modules", r.Path)
		}
	}
}
