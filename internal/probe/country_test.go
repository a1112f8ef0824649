package probe

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestCountries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	if err := os.WriteFile(path, maxMind(t, map[string]string{"192.0.2.0/24": "FR"}), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ file, addr, want string }{
		{path, "192.0.2.1", "FR"}, {path, "192.0.3.1", ""}, {path, "2001:db8::1", ""}, {"", "192.0.2.1", ""}, {path + ".gone", "192.0.2.1", ""},
	} {
		if got := NewCountries(tt.file).Of(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%s by %q: %q, want %q", tt.addr, tt.file, got, tt.want)
		}
	}
	if got := NewCountries(path).Of(netip.Addr{}); got != "" {
		t.Errorf("no address: %q", got)
	}
}
