package probe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tocsin/internal/munin"
)

// Bounds of what is read of dpkg and apt.
const (
	maxLists     = 500
	maxListSize  = 1 << 30 // bytes of one list, unpacked
	maxInstalled = 200_000
)

// updatesProbe reads what apt fetched last: it asks nobody, starts nothing and holds no lock. It looks every hour, and reads again
// only what has changed.
var updatesProbe = Probe{
	Name: "updates", Doubles: []string{"apt", "apt_all", "debian_packages"}, Interval: time.Hour, Timeout: time.Minute,
	New: func(h *Host) (Reader, error) {
		r := &updatesReader{status: h.at("var/lib/dpkg/status"), lists: h.at("var/lib/apt/lists"), reboot: []string{h.at("run/reboot-required"), h.at("var/run/reboot-required")}}
		if !exists(r.status) {
			return nil, &Off{Why: "no " + r.status + ": packages are not kept by dpkg"}
		}
		if names, err := packageLists(r.lists); err != nil || len(names) == 0 {
			return nil, &Off{Why: "no package lists below " + r.lists + ": apt-get update was never run"}
		}
		return r, nil
	},
}

type updatesReader struct {
	status, lists string
	reboot        []string
	shape         string // of the files when they were read
	values        []munin.Value
}

func (r *updatesReader) Read(ctx context.Context) ([]Reading, error) {
	names, err := packageLists(r.lists)
	if err != nil {
		return nil, missing(r.lists, err)
	}
	shape := new(strings.Builder)
	for _, path := range append([]string{r.status}, names...) {
		fi, err := os.Stat(path)
		if err != nil {
			return nil, missing(path, err)
		}
		fmt.Fprintf(shape, "%s %d %d\n", path, fi.Size(), fi.ModTime().UnixNano())
	}
	if r.values == nil || r.shape != shape.String() {
		if r.values, err = pendingUpdates(ctx, r.status, names); err != nil {
			return nil, err
		}
		r.shape = shape.String()
	}
	required := slices.ContainsFunc(r.reboot, exists)
	return []Reading{{Service: updatesService, Values: r.values}, {Service: rebootService, Values: []munin.Value{v("required", flag(required))}}}, nil
}

// packageLists are the files of apt that tell which versions there are.
func packageLists(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name(), "_Packages.")
		if base = strings.TrimSuffix(base, "_Packages"); base != e.Name() && strings.Contains(base, "_binary-") && len(names) < maxLists {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names, nil
}

// dpkgPackage is one that is installed.
type dpkgPackage struct {
	version string
	hold    bool
	newer   bool // there is a newer one
	secure  bool // in an archive of security updates
}

// pendingUpdates compares what is installed with the lists.
func pendingUpdates(ctx context.Context, status string, lists []string) ([]munin.Value, error) {
	installed := map[string]*dpkgPackage{}
	err := stanzas(ctx, status, func(p *stanza) {
		if want, _, _ := strings.Cut(p.status, " "); strings.HasSuffix(p.status, " ok installed") && len(installed) < maxInstalled {
			installed[p.name+":"+p.arch] = &dpkgPackage{version: p.version, hold: want == "hold"}
		}
	})
	if err != nil {
		return nil, err
	}
	for _, list := range lists {
		if notAutomatic(list) {
			continue
		}
		secure := strings.Contains(filepath.Base(list), "security")
		err := stanzas(ctx, list, func(p *stanza) {
			i := installed[p.name+":"+p.arch]
			if i == nil || p.version == i.version || compareVersions(p.version, i.version) <= 0 {
				return
			}
			i.newer, i.secure = true, i.secure || secure
		})
		if err != nil {
			return nil, err
		}
	}
	var pending, secure, held float64
	for _, p := range installed {
		switch {
		case !p.newer:
		case p.hold:
			held++
		default:
			pending++
			secure += flag(p.secure)
		}
	}
	return []munin.Value{v("pending", pending), v("hold", held), v("security", secure)}, nil
}

// stanza is what is read of a paragraph about a package.
type stanza struct{ name, version, arch, status string }

// stanzas gives each paragraph of a file of dpkg or apt to f.
func stanzas(ctx context.Context, path string, f func(*stanza)) error {
	file, err := os.Open(path)
	if err != nil {
		return missing(path, err)
	}
	defer file.Close()
	in := bufio.NewReaderSize(file, 64<<10)
	var text io.Reader = in
	switch ext := filepath.Ext(path); {
	case ext == ".lz4":
		text = &lz4Reader{r: in}
	case ext == ".gz":
		if text, err = gzip.NewReader(in); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	case strings.HasSuffix(path, "_Packages"), filepath.Base(path) == "status":
	default:
		return &Off{Why: "the package lists are packed in a way that is not read here: " + ext}
	}
	if err := eachStanza(ctx, io.LimitReader(text, maxListSize), f); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func eachStanza(ctx context.Context, text io.Reader, f func(*stanza)) error {
	r := bufio.NewReaderSize(text, 64<<10)
	var p stanza
	for n := 0; ; n++ {
		line, err := r.ReadSlice('\n')
		for rest := err; errors.Is(rest, bufio.ErrBufferFull); { // what is so long is none of ours
			_, rest = r.ReadSlice('\n')
			err = rest
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		switch {
		case len(line) <= 1:
			if p.name != "" {
				f(&p)
			}
			p = stanza{}
		case bytes.HasPrefix(line, []byte("Package: ")):
			p.name = word(line)
		case bytes.HasPrefix(line, []byte("Version: ")):
			p.version = word(line)
		case bytes.HasPrefix(line, []byte("Architecture: ")):
			p.arch = word(line)
		case bytes.HasPrefix(line, []byte("Status: ")):
			p.status = word(line)
		}
		if err != nil {
			if p.name != "" {
				f(&p)
			}
			return nil
		}
		if n%10_000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// word is what stands behind the name of a line.
func word(line []byte) string {
	_, after, _ := bytes.Cut(line, []byte(": "))
	return string(bytes.TrimSpace(after[:min(len(after), 256)]))
}

// notAutomatic says whether an archive's packages are not taken by themselves, as those of backports and experimental.
func notAutomatic(list string) bool {
	dir, base := filepath.Split(list)
	for i := len(base); i > 0; i = strings.LastIndexByte(base[:i], '_') { // the release stands where the suite ends
		for _, name := range []string{"_InRelease", "_Release"} {
			f, err := os.Open(dir + base[:i] + name)
			if err != nil {
				continue
			}
			defer f.Close()
			head := make([]byte, 4<<10)
			n, _ := io.ReadFull(f, head) // it may be shorter
			return bytes.Contains(head[:n], []byte("\nNotAutomatic: yes"))
		}
	}
	return false
}

// compareVersions orders versions as dpkg does (deb-version(7)).
func compareVersions(a, b string) int {
	epochA, a := cutEpoch(a)
	epochB, b := cutEpoch(b)
	if c := compareDigits(epochA, epochB); c != 0 {
		return c
	}
	upA, revA := cutRevision(a)
	upB, revB := cutRevision(b)
	if c := comparePart(upA, upB); c != 0 {
		return c
	}
	return comparePart(revA, revB)
}

func cutEpoch(s string) (epoch, rest string) {
	if epoch, rest, ok := strings.Cut(s, ":"); ok {
		return epoch, rest
	}
	return "", s
}

func cutRevision(s string) (upstream, revision string) {
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// comparePart compares by turns what is no digits and what is.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		i, j := digitsFrom(a), digitsFrom(b)
		if c := compareLetters(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
		i, j = digitsUntil(a), digitsUntil(b)
		if c := compareDigits(a[:i], b[:j]); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func digitsFrom(s string) int {
	i := 0
	for i < len(s) && !isDigit(s[i]) {
		i++
	}
	return i
}

func digitsUntil(s string) int {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

// compareLetters has a tilde before the end, and letters before all else.
func compareLetters(a, b string) int {
	weight := func(s string, i int) int {
		switch {
		case i >= len(s):
			return 0
		case s[i] == '~':
			return -1
		case s[i] >= 'a' && s[i] <= 'z', s[i] >= 'A' && s[i] <= 'Z':
			return int(s[i])
		}
		return int(s[i]) + 256
	}
	for i := range max(len(a), len(b)) {
		if c := weight(a, i) - weight(b, i); c != 0 {
			return c
		}
	}
	return 0
}

func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

var updatesService = describe("apt", `
	graph_title Pending packages
	graph_args --base 1000 -l 0
	graph_vlabel packages
	graph_category system
	graph_info Packages of which a newer version is known, since apt-get update was run last.
	pending.label pending
	pending.warning 0:0
	hold.label hold
	hold.info Newer, but told to stay as they are.
	security.label of these, security
	security.info In an archive of security updates.`)

var rebootService = describe("reboot", `
	graph_title Reboot required
	graph_args --base 1000 -l 0 --upper-limit 1
	graph_scale no
	graph_category system
	required.label required
	required.info A package, the kernel for instance, asked for it (/run/reboot-required).`)
