package probe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"1.0", "1.0", 0}, {"1.0", "1.1", -1}, {"1.10", "1.9", 1}, {"1.0~rc1", "1.0", -1}, {"1.0~~", "1.0~", -1}, {"1.0-1", "1.0-2", -1}, {"1.0-1", "1.0-1+deb12u1", -1},
		{"1:0.1", "9.9", 1}, {"0:1.0", "1.0", 0}, {"1.0", "1.0a", -1}, {"1.0a", "1.0+", -1}, {"2.36-9+deb12u10", "2.36-9+deb12u9", 1}, {"1.002", "1.2", 0}, {"1.0-1~bpo12+1", "1.0-1", -1},
		{"", "", 0}, {"a", "", 1}, {"1-2-3", "1-2-4", -1},
	}
	dpkg, _ := exec.LookPath("dpkg")
	for _, tt := range tests {
		for _, turned := range []bool{false, true} {
			a, b, want := tt.a, tt.b, tt.want
			if turned {
				a, b, want = b, a, -want
			}
			got := compareVersions(a, b)
			if got > 0 != (want > 0) || got < 0 != (want < 0) {
				t.Errorf("compareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
			if dpkg == "" || a == "" || b == "" || !isDigit(a[0]) || !isDigit(b[0]) {
				continue
			}
			if gt := exec.Command(dpkg, "--compare-versions", a, "gt", b).Run() == nil; gt != (want > 0) {
				t.Errorf("dpkg says that %q > %q is %v, the table says %d", a, b, gt, want)
			}
		}
	}
}

func TestUpdates(t *testing.T) {
	zipped := new(bytes.Buffer)
	z := gzip.NewWriter(zipped)
	if _, err := io.WriteString(z, "Package: curl\nVersion: 8.0-2\nArchitecture: amd64\n"); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	h := fakeMachine(t, map[string]string{
		"var/lib/dpkg/status": "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\nDescription: shell\n more\n .\n\nPackage: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n\n" +
			"Package: kernel\nStatus: hold ok installed\nArchitecture: amd64\nVersion: 6.1\n\nPackage: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 8.0-1\n\n" +
			"Package: docs\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\n\nPackage: foreign\nStatus: install ok installed\nArchitecture: i386\nVersion: 1.0\n",
		"var/lib/apt/lists/deb_dists_bookworm_InRelease":                              "Suite: stable\n",
		"var/lib/apt/lists/deb_dists_bookworm_main_binary-amd64_Packages":             "Package: bash\nVersion: 5.2-1\nArchitecture: amd64\n\nPackage: kernel\nVersion: 6.2\nArchitecture: amd64\n\nPackage: gone\nVersion: 2\nArchitecture: amd64\n\nPackage: foreign\nVersion: 2.0\nArchitecture: amd64\n\nPackage: docs\nArchitecture: all\nVersion: 1.0+x\nDescription: " + strings.Repeat("long ", 50_000) + "\n",
		"var/lib/apt/lists/deb_dists_bookworm-security_main_binary-amd64_Packages.gz": zipped.String(),
		"var/lib/apt/lists/deb_dists_bookworm-backports_InRelease":                    "Hash: x\nNotAutomatic: yes\n",
		"var/lib/apt/lists/deb_dists_bookworm-backports_main_binary-amd64_Packages":   "Package: bash\nVersion: 9.9\nArchitecture: amd64\n",
		"var/lib/apt/lists/deb_dists_bookworm_main_i18n_Translation-en":               "Package: bash\nVersion: 99\n",
	})
	wantValues(t, taken(t, updatesProbe, h), map[string]float64{"apt.pending": 2, "apt.security": 1, "apt.hold": 1, "reboot.required": 0})
	writeFile(t, h.at("run/reboot-required"), "")
	writeFile(t, h.at("var/lib/apt/lists/deb_dists_bookworm_main_binary-amd64_Packages"), "Package: bash\nVersion: 5.3\nArchitecture: amd64\n")
	wantValues(t, taken(t, updatesProbe, h), map[string]float64{"apt.pending": 2, "apt.hold": 0, "reboot.required": 1})
	writeFile(t, h.at("var/lib/apt/lists/deb_dists_x_main_binary-amd64_Packages.xz"), "x")
	d := held{p: &updatesProbe, h: h}
	if _, err := d.read(t.Context()); !strings.Contains(err.Error(), ".xz") {
		t.Errorf("a list that is packed otherwise: %v", err)
	}
	for why, files := range map[string]map[string]string{"dpkg": nil, "apt-get update": {"var/lib/dpkg/status": ""}} {
		_, err := updatesProbe.New(fakeMachine(t, files))
		if got, off := IsOff(err); !off || !strings.Contains(got, why) {
			t.Errorf("off because of %q, want %q", got, why)
		}
	}
}

// TestUpdatesAsApt compares with what apt itself says here.
func TestUpdatesAsApt(t *testing.T) {
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		t.Skip("no apt-get here")
	}
	r, err := updatesProbe.New(NewHost())
	if err != nil {
		t.Skip(err)
	}
	rs, err := r.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := flatten(t, "updates", rs)["apt.pending"]
	out, err := exec.CommandContext(t.Context(), apt, "-s", "-o", "Debug::NoLocking=1", "dist-upgrade").Output()
	if err != nil {
		t.Skipf("apt-get -s dist-upgrade does not run here: %v", err)
	}
	want := strings.Count("\n"+string(out), "\nInst ")
	fresh := 0 // packages that come in addition have no version before
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Inst ") && !strings.Contains(line, "[") {
			fresh++
		}
	}
	shape := r.(*updatesReader).shape
	if _, err := r.Read(t.Context()); err != nil || shape != r.(*updatesReader).shape {
		t.Skip("packages or lists changed meanwhile")
	}
	if kept := strings.Contains(string(out), "kept back"); !kept && int(got) != want-fresh {
		t.Errorf("%v updates are pending, apt says %d", got, want-fresh)
	}
	t.Logf("%v updates are pending, apt would install %d of which %d are new", got, want, fresh)
}

func TestLZ4(t *testing.T) {
	names, err := filepath.Glob("/var/lib/apt/lists/*_Packages.lz4")
	if err != nil || len(names) == 0 {
		t.Skip("no package lists packed with LZ4 here")
	}
	path := names[0]
	helper, err := exec.LookPath("/usr/lib/apt/apt-helper")
	if err != nil {
		t.Skip("no apt-helper to unpack with")
	}
	want, err := exec.CommandContext(t.Context(), helper, "cat-file", path).Output()
	if err != nil {
		t.Skip(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := io.ReadAll(&lz4Reader{r: bufio.NewReader(f)})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("unpacked %d bytes, %v; want the %d of apt-helper", len(got), err, len(want))
	}
}

func TestLZ4Small(t *testing.T) {
	frame := func(blocks ...string) string {
		return "\x04\x22\x4d\x18\x40\x40\xc0" + strings.Join(blocks, "") + "\x00\x00\x00\x00"
	}
	for _, tt := range []struct{ name, in, want string }{
		{"empty", frame(), ""},
		{"stored", frame("\x03\x00\x00\x80abc"), "abc"},
		{"a run", frame("\x06\x00\x00\x00\x15a\x01\x00\x10b"), "aaaaaaaaaab"},
		{"linked", frame("\x03\x00\x00\x80abc", "\x05\x00\x00\x00\x00\x03\x00\x10d"), "abcabcad"},
		{"long literals", frame("\x13\x00\x00\x00\xf0\x02" + strings.Repeat("x", 17)), strings.Repeat("x", 17)},
	} {
		got, err := io.ReadAll(&lz4Reader{r: bufio.NewReader(strings.NewReader(tt.in))})
		if string(got) != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	for _, in := range []string{"", "nonsense, and more of it", frame()[:9], frame("\x06\x00\x00\x00\x15a\x09\x00\x10b"), frame("\x06\x00\x00\x00\x15a\x00\x00\x10b"), frame("\xff\xff\xff\x7f"), frame("\x01\x00\x00\x00\xf0")} {
		if got, err := io.ReadAll(&lz4Reader{r: bufio.NewReader(strings.NewReader(in))}); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%q unpacked to %q", in, got)
		}
	}
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte("Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:5.2-1\n\n"), "1.0~rc1", "1.0")
	f.Add([]byte("\x04\x22\x4d\x18\x40\x40\xc0\x06\x00\x00\x00\x15a\x01\x00\x10b\x00\x00\x00\x00"), "", "-")
	f.Fuzz(func(t *testing.T, b []byte, x, y string) {
		if err := eachStanza(t.Context(), bytes.NewReader(b), func(p *stanza) {
			if p.name == "" || len(p.name) > 256 {
				t.Errorf("a package is named %q", p.name)
			}
		}); err != nil {
			t.Error(err)
		}
		if n, err := io.Copy(io.Discard, io.LimitReader(&lz4Reader{r: bufio.NewReader(bytes.NewReader(b))}, 1<<20)); err == nil && n > 255*int64(len(b)) {
			t.Errorf("%d bytes became %d", len(b), n)
		}
		if a, b := compareVersions(x, y), compareVersions(y, x); a > 0 != (b < 0) || a == 0 != (b == 0) {
			t.Errorf("compareVersions(%q, %q) = %d, and %d the other way round", x, y, a, b)
		}
	})
}
