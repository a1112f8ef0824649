package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// lands tells the country of an address by a file of MaxMind's format, which others replace now and then
// (https://maxmind.github.io/MaxMind-DB/).
type lands struct {
	path string // "": none

	mu   sync.RWMutex
	db   *maxminddb.Reader
	at   time.Time // of the file
	size int64
}

const maxLands = 256 << 20 // bytes; the largest of countries has 10 MB

// refresh reads the file if it is another one than before. While it cannot be read the former one stays in use.
func (l *lands) refresh() error {
	if l.path == "" {
		return nil
	}
	st, err := os.Stat(l.path)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, fs.ErrNotExist) && l.db != nil: // it is being replaced
		return nil
	case err != nil:
		return fmt.Errorf("file of countries: %w", err)
	case l.db != nil && st.ModTime().Equal(l.at) && st.Size() == l.size:
		return nil
	case !st.Mode().IsRegular() || st.Size() > maxLands:
		return fmt.Errorf("file of countries: %s is no file of at most %d MiB", l.path, maxLands>>20)
	}
	text, err := os.ReadFile(l.path) // memory: a mapped file that is cut short ends the program
	if err != nil {
		return fmt.Errorf("file of countries: %w", err)
	}
	db, err := maxminddb.OpenBytes(text)
	if err != nil {
		return fmt.Errorf("file of countries: %s: %w", l.path, err)
	}
	l.db, l.at, l.size = db, st.ModTime(), st.Size()
	return nil
}

// of is the two letters of the country of an address and its English name, "" where they are not known.
func (l *lands) of(a netip.Addr) (code, name string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.db == nil || !a.IsValid() {
		return "", ""
	}
	found := l.db.Lookup(a.Unmap())
	for _, key := range []string{"country", "registered_country"} {
		if err := found.DecodePath(&code, key, "iso_code"); err == nil && isCountry(code) {
			_ = found.DecodePath(&name, key, "names", "en") // many files have none
			return code, name
		}
	}
	return "", ""
}

// isCountry says whether a text has the form of a country's code.
func isCountry(code string) bool {
	return len(code) == 2 && 'A' <= code[0] && code[0] <= 'Z' && 'A' <= code[1] && code[1] <= 'Z'
}
