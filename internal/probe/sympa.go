package probe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sympaProbe counts what waits in Sympa's spools: mails to take in, packets to send, mails that wait for moderators, and
// what went bad. What Postfix shows already is not shown again: every mail of a list leaves through Postfix, where
// postfix_tries tells those of lists apart.
var sympaProbe = Probe{
	Name: "sympa", Interval: time.Minute, Root: true,
	New: func(h *Host) (Reader, error) {
		dir := "/var/spool/sympa"
		for _, text := range confFiles(h.Root, "etc/sympa/sympa/sympa.conf", "etc/sympa/sympa.conf", "etc/sympa.conf") {
			for line := range strings.Lines(string(text)) {
				if w := strings.Fields(line); len(w) == 2 && w[0] == "spool" && strings.HasPrefix(w[1], "/") {
					dir = w[1]
				}
			}
		}
		if _, err := os.ReadDir(filepath.Join(h.at(dir), "msg")); err != nil {
			if os.IsNotExist(err) {
				return nil, &Off{"no Sympa here"}
			}
			return nil, missing(h.at(dir), err)
		}
		return &sympaReader{h: h, dir: h.at(dir)}, nil
	},
}

type sympaReader struct {
	h   *Host
	dir string
}

// sympaSpools are the fields and their folders (https://www.sympa.community/manual/layout.html).
var sympaSpools = []struct{ field, folder string }{
	{"msg", "msg"}, {"automatic", "automatic"}, {"bulk", "bulk/pct"}, {"moderation", "moderation"}, {"digest", "digest"}, {"auth", "auth"}, {"subscribe", "subscribe"},
	{"outgoing", "outgoing"}, {"bounce", "bounce"}, {"task", "task"}, {"topic", "topic"},
}

var (
	sympaSpool = describe("sympa_spools", `
		graph_title Sympa: what waits
		graph_args --base 1000 -l 0
		graph_vlabel files
		graph_category mail
		msg.label mails to take in
		automatic.label mails to automatic lists
		bulk.label packets to send
		moderation.label mails for moderators
		digest.label mails in digests
		auth.label mails to confirm
		subscribe.label subscriptions to confirm
		outgoing.label mails to archive
		bounce.label bounces
		topic.label topics
		task.label tasks
		task.graph no`)
	sympaBad = describe("sympa_bad", `
		graph_title Sympa: what went bad
		graph_args --base 1000 -l 0
		graph_vlabel files
		graph_category mail
		graph_info Mails that could not be worked on. They stay until somebody looks.
		bad.label bad
		bad.warning 0`)
	sympaAge = describe("sympa_oldest", `
		graph_title Sympa: how long it waits
		graph_args --base 1000 -l 0
		graph_vlabel seconds
		graph_category mail
		graph_info The oldest of what is to be done at once.
		msg.label mails to take in
		bulk.label packets to send`)
)

func (r *sympaReader) Read(ctx context.Context) ([]Reading, error) {
	counts, ages := map[string]float64{}, map[string]float64{}
	now := r.h.Now()
	for _, s := range sympaSpools {
		oldest := now
		looked := 0
		waiting := 0.0
		_, err := countFiles(ctx, filepath.Join(r.dir, s.folder), func(path string) {
			if inside, _ := filepath.Rel(r.dir, path); strings.Contains("/"+filepath.Dir(inside)+"/", "/bad/") {
				counts["bad"]++
				return
			}
			waiting++
			if looked++; looked > maxAges {
				return
			}
			if st, err := os.Lstat(path); err == nil && st.ModTime().Before(oldest) {
				oldest = st.ModTime()
			}
		})
		if err != nil {
			return nil, fmt.Errorf("spool %s: %w", s.folder, err)
		}
		counts[s.field], ages[s.field] = waiting, max(0, now.Sub(oldest).Round(time.Second).Seconds())
	}
	if _, ok := counts["bad"]; !ok {
		counts["bad"] = 0
	}
	return []Reading{readingOf(sympaSpool, from(counts)), readingOf(sympaBad, from(counts)), readingOf(sympaAge, from(ages))}, nil
}
