package probe

import (
	"net/netip"
	"sync"
	"time"
)

// Countries tells the country of addresses, by a file of MaxMind's format. It may be asked by many at once.
type Countries struct {
	mu     sync.Mutex
	of     countries
	looked time.Time // when the file was looked at
}

// looksAt is how often it is looked whether the file is another one.
const looksAt = time.Minute

// NewCountries makes Countries of the file at path, "" for none. Nothing is read yet.
func NewCountries(path string) *Countries { return &Countries{of: countries{path: path}} }

// Of is the two letters of an address's country, "" where nobody knows it: there is no file, or it does not say.
func (c *Countries) Of(a netip.Addr) string {
	if c.of.path == "" {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) > looksAt {
		c.looked = now
		_ = c.of.refresh() // the probe of the guard tells what is wrong with the file
	}
	if field, label := c.of.of(a); field != unknownLand {
		return label
	}
	return ""
}
