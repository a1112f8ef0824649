package fail2ban

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// unpack writes an archive of files into a new folder and returns its name.
func unpack(t *testing.T, archive []byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse(archive).Files {
		file := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// original is what fail2ban-client -d itself prints for a folder, one command a line.
func original(t *testing.T, dir string) []string {
	t.Helper()
	client, err := exec.LookPath("fail2ban-client")
	if err != nil {
		t.Skip("no fail2ban-client here: install Debian's package fail2ban to compare with it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, client, "-c", dir, "-d")
	var told strings.Builder
	cmd.Stderr = &told
	out, err := cmd.Output()
	if len(out) == 0 || strings.HasPrefix(string(out), "ERROR") {
		t.Fatalf("fail2ban-client -c %s -d: %v: %s%s", dir, err, out, &told)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

func load(t *testing.T, dir string) *Config {
	t.Helper()
	c, err := Load(LoadOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMadeUp compares with fail2ban itself what becomes of a folder that nobody has, with everything the language can do.
func TestMadeUp(t *testing.T) {
	archive, err := os.ReadFile("testdata/madeup.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, archive)
	var got []string
	for _, c := range load(t, dir).Stream() {
		got = append(got, PythonValue(c))
	}
	want := original(t, dir)
	equal := 0
	for i := range want {
		if i < len(got) && got[i] == want[i] {
			equal++
		} else if i < len(got) {
			t.Errorf("command %d:\n%s\nwant\n%s", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d commands, want %d", len(got), len(want))
	}
	t.Logf("%d of %d commands equal", equal, len(want))
}
