package jail

import (
	"fmt"
	"strings"
	"time"

	"tocsin"
)

// reason is the sentence that explains a ban to people. Nothing in it comes from the log.
func (j *Jail) reason(w window) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s (the limit is %d in %s", plural(w.n, "failure"),
		words(span(j.at(w.newest)-j.at(w.oldest))), w.limit, words(j.o.FindTime))
	switch w.patience {
	case Known:
		fmt.Fprintf(&b, " for an address that logged in within %s", words(j.o.KnownFor))
	case Session:
		b.WriteString(" for an address with an open session")
	}
	b.WriteByte(')')
	return b.String()
}

// growth explains why a ban is longer than others: nothing if it is not.
func (j *Jail) growth(d *tocsin.Decision) string {
	if d.Former == 0 {
		return ""
	}
	length := "for ever"
	if dur, ends := d.Duration(); ends {
		length = words(dur)
	}
	return fmt.Sprintf("; %s in %s made this ban last %s", plural(d.Former, "former ban"), words(j.o.BanMemory), length)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// words writes a duration as people do, in its two largest units: "41 s", "1 h 30 min", "30 d".
func words(d time.Duration) string {
	if d < time.Second {
		return "less than 1 s"
	}
	units := []struct {
		name string
		d    time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	var parts []string
	for i, u := range units {
		if n := d / u.d; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, u.name))
			if rest := d % u.d; len(parts) == 1 && i+1 < len(units) && rest >= units[i+1].d {
				parts = append(parts, fmt.Sprintf("%d %s", rest/units[i+1].d, units[i+1].name))
			}
			break
		}
	}
	return strings.Join(parts, " ")
}
