package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWritten(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	for name, ago := range map[string]time.Duration{
		"auth.log": 0, "auth.log.1": time.Hour, "auth.log.2.gz": 2 * time.Hour, "auth.log.3.zst": 3 * time.Hour,
		"auth.log.4.gz": 30 * time.Hour, "auth.log.5.xz": time.Hour, "auth.log.conf": 0, "auth.log.gz": 0, "mail.log": 0, "mail.log.1": time.Hour,
	} {
		path := filepath.Join(dir, name)
		write(t, path, name+"\n")
		must(t, os.Chtimes(path, now.Add(-ago), now.Add(-ago)))
	}
	must(t, os.Mkdir(filepath.Join(dir, "auth.log.6"), 0o700))
	tests := []struct{ pattern, want string }{
		{"auth.log", "auth.log.3.zst auth.log.2.gz auth.log.1 auth.log"},
		{"auth.log*", "auth.log.3.zst auth.log.2.gz auth.log.1 auth.log.conf auth.log"},
		{"mail.log", "mail.log.1 mail.log"},
		{"none.log", ""},
	}
	for _, tt := range tests {
		var got []string
		for _, path := range Written(filepath.Join(dir, tt.pattern), now.Add(-24*time.Hour)) {
			got = append(got, filepath.Base(path))
		}
		s := strings.Join(got, " ")
		s = strings.Replace(s, "auth.log auth.log.conf", "auth.log.conf auth.log", 1) // written at the same time
		if s != tt.want {
			t.Errorf("%s: %q, want %q", tt.pattern, s, tt.want)
		}
	}
}
