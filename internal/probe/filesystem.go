package probe

import (
	"context"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin/internal/munin"

	"golang.org/x/sys/unix"
)

// Bounds of the filesystem probe.
const (
	maxFilesystems = 200
	statTime       = 5 * time.Second // after which a filesystem that does not answer is stuck
)

var filesystemProbe = Probe{
	Name: "filesystems", Doubles: []string{"df", "df_abs", "df_inode"}, Interval: time.Minute, Timeout: 30 * time.Second,
	New: func(h *Host) (Reader, error) {
		r := &filesystemReader{h: h, statfs: unix.Statfs, known: map[string]*filesystem{}}
		// The mounts of the first process are those of the machine; ours may be a sandbox. Not everybody may read them.
		for _, name := range []string{"1/mountinfo", "self/mountinfo"} {
			r.mounts = file{path: h.proc(name)}
			if _, err := r.mounts.read(); err == nil {
				return r, nil
			}
		}
		_, err := r.mounts.read()
		return nil, err
	},
}

// mount is one line of mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	id       string // major:minor
	at       string // where
	typ      string
	device   string // as it was mounted: a device, "tmpfs", "server:/path"
	readonly bool   // the filesystem, not only this mount of it
}

// pseudo are types of filesystems that hold nothing, whose size says nothing, or that hang or mount something when they are
// looked at.
var pseudo = strings.Fields(`autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fuse.gvfsd-fuse fuse.lxcfs fuse.portal
	fuse.snapfuse fusectl hugetlbfs iso9660 mqueue nfsd nsfs none proc pstore ramfs rootfs romfs rpc_pipefs securityfs selinuxfs squashfs sysfs tracefs udf`)

// parseMounts reads mountinfo: one mount for each filesystem, that with the shortest path.
func parseMounts(b []byte) []mount {
	var all []mount
	index := map[string]int{}
	for len(b) > 0 {
		var line []byte
		line, b = nextLine(b)
		m, ok := parseMount(string(line))
		if !ok || slices.Contains(pseudo, m.typ) || m.typ == "overlay" && m.at != "/" {
			continue
		}
		if i, ok := index[m.id]; ok {
			if len(m.at) < len(all[i].at) {
				all[i] = m
			}
			continue
		}
		if len(all) == maxFilesystems {
			break
		}
		index[m.id] = len(all)
		all = append(all, m)
	}
	// A mount over another one hides it: what is at its place now was mounted last.
	last := map[string]string{}
	for _, m := range all {
		last[m.at] = m.id
	}
	return slices.DeleteFunc(all, func(m mount) bool { return last[m.at] != m.id })
}

func parseMount(line string) (m mount, ok bool) {
	before, after, ok := strings.Cut(line, " - ")
	head, tail := strings.Fields(before), strings.Fields(after)
	if !ok || len(head) < 6 || len(tail) < 3 {
		return m, false
	}
	m = mount{id: head[2], at: unescape(head[4]), typ: tail[0], device: unescape(tail[1])}
	m.readonly = slices.Contains(strings.Split(tail[2], ","), "ro")
	return m, strings.HasPrefix(m.at, "/")
}

// unescape undoes the \040 with which the kernel writes blanks.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// field is the name that Munin's df gives it: of its device, or of its place where devices have no names.
func (m *mount) field() string {
	switch m.device {
	case "tmpfs", "none", "udev", "simfs":
		return fieldName(m.at)
	}
	return fieldName(m.device)
}

// absField is the name that Munin's df_abs gives it.
func (m *mount) absField() string {
	if strings.HasPrefix(m.device, "/") {
		return fieldName(m.device)
	}
	return fieldName(m.device + " " + m.at)
}

// filesystem is what is remembered of one.
type filesystem struct {
	asked    chan statResult // of the question that was not answered yet; nil if there is none
	writable bool            // it was so once, or fstab says it should be
	trend    trend
	seen     bool
}

type statResult struct {
	st  unix.Statfs_t
	err error
}

type filesystemReader struct {
	h      *Host
	mounts file
	statfs func(string, *unix.Statfs_t) error
	known  map[string]*filesystem // by major:minor and place
	shape  string
	desc   filesystemServices
}

type filesystemServices struct{ df, inode, abs, full, readonly, stuck *munin.Service }

func (r *filesystemReader) Read(ctx context.Context) ([]Reading, error) {
	b, err := r.mounts.read()
	if err != nil {
		return nil, err
	}
	mounts := parseMounts(b)
	mounts = slices.DeleteFunc(mounts, func(m mount) bool { return m.typ == "tmpfs" && ofSession(m.at) })
	for _, f := range r.known {
		f.seen = false
	}
	for i := range mounts {
		r.ask(&mounts[i])
	}
	for key, f := range r.known {
		if !f.seen {
			delete(r.known, key)
		}
	}
	if len(mounts) == 0 {
		return nil, &Off{Why: "no filesystem is mounted but those that hold nothing"}
	}
	return r.answers(ctx, mounts), nil
}

// ofSession says whether a tmpfs belongs to a login or a service, of which there may be very many, or to our own sandbox.
func ofSession(at string) bool {
	return at == "/dev" || strings.HasPrefix(at, "/run/user/") || strings.HasPrefix(at, "/run/credentials/") || strings.HasPrefix(at, "/run/netns/")
}

// ask has the filesystem looked at by a goroutine of its own, for that may never end. One that is being asked is not asked again.
func (r *filesystemReader) ask(m *mount) {
	key := m.id + " " + m.at
	f := r.known[key]
	if f == nil {
		f = &filesystem{writable: !m.readonly || r.shouldBeWritable(m.at)}
		r.known[key] = f
	}
	f.seen = true
	f.writable = f.writable || !m.readonly
	if f.asked != nil {
		return
	}
	asked := make(chan statResult, 1)
	f.asked = asked
	at, statfs := r.h.at(m.at), r.statfs
	go func() {
		var res statResult
		res.err = statfs(at, &res.st)
		asked <- res
	}()
}

// shouldBeWritable says whether /etc/fstab names the place without "ro".
func (r *filesystemReader) shouldBeWritable(at string) bool {
	f := file{path: r.h.at("etc/fstab")}
	b, err := f.read()
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) >= 4 && !strings.HasPrefix(words[0], "#") && path.Clean(unescape(words[1])) == at {
			return !slices.Contains(strings.Split(words[3], ","), "ro")
		}
	}
	return false
}

// answers waits for the filesystems and makes readings of what they said.
func (r *filesystemReader) answers(ctx context.Context, mounts []mount) []Reading {
	wait := time.NewTimer(statTime)
	defer wait.Stop()
	r.describe(mounts)
	df, inode, abs := Reading{Service: r.desc.df}, Reading{Service: r.desc.inode}, Reading{Service: r.desc.abs}
	full, readonly, stuck := Reading{Service: r.desc.full}, Reading{Service: r.desc.readonly}, Reading{Service: r.desc.stuck}
	over := false
	for i := range mounts {
		m := &mounts[i]
		f := r.known[m.id+" "+m.at]
		name := m.field()
		readonly.Values = append(readonly.Values, v(name, flag(m.readonly && f.writable)))
		var res statResult
		answered := false
		select {
		case res = <-f.asked:
			answered = true
		default:
			if !over {
				select {
				case res = <-f.asked:
					answered = true
				case <-wait.C:
					over = true
				case <-ctx.Done():
					over = true
				}
			}
		}
		stuck.Values = append(stuck.Values, v(name, flag(!answered)))
		if !answered {
			continue
		}
		f.asked = nil
		st := &res.st
		if res.err != nil || st.Blocks == 0 || st.Bfree > st.Blocks {
			continue
		}
		size := float64(st.Bsize)
		if st.Frsize > 0 {
			size = float64(st.Frsize)
		}
		used, avail := float64(st.Blocks-st.Bfree)*size, float64(st.Bavail)*size
		if used+avail > 0 {
			df.Values = append(df.Values, v(name, 100*used/(used+avail)))
		}
		abs.Values = append(abs.Values, v(m.absField(), used/1024))
		if st.Files > 0 && st.Ffree <= st.Files {
			inode.Values = append(inode.Values, v(name, 100*float64(st.Files-st.Ffree)/float64(st.Files)))
		}
		if m.typ == "tmpfs" {
			continue
		}
		f.trend.add(r.h.Boot(), avail, float64(st.Blocks)*size)
		slow, fast := f.trend.full()
		full.Values = append(full.Values, v(name, slow), v(name+"_6h", fast))
	}
	all := []Reading{df, inode, abs, full, readonly, stuck}
	return slices.DeleteFunc(all, func(rd Reading) bool { return len(rd.Values) == 0 })
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// describe makes the descriptions anew if other filesystems are mounted than before.
func (r *filesystemReader) describe(mounts []mount) {
	shape := new(strings.Builder)
	for _, m := range mounts {
		fmt.Fprintf(shape, "%s %q %q\n", m.typ, m.device, m.at)
	}
	if r.shape == shape.String() {
		return
	}
	r.shape = shape.String()
	percent := "\ngraph_args --upper-limit 100 -l 0\ngraph_vlabel %\ngraph_scale no\ngraph_category disk"
	yesno := "\ngraph_args --base 1000 -l 0 --upper-limit 1\ngraph_scale no\ngraph_category disk"
	d := filesystemServices{
		df:    describe("df", "graph_title Disk usage in percent"+percent),
		inode: describe("df_inode", "graph_title Inode usage in percent"+percent),
		abs:   describe("df_abs", "graph_title Filesystem usage (in bytes)\ngraph_args --base 1024 --lower-limit 0\ngraph_vlabel bytes\ngraph_category disk\ngraph_total Total"),
		full: describe("df_full", `graph_title Days until a filesystem is full
			graph_args --base 1000 -l 0 --upper-limit 365
			graph_vlabel days
			graph_scale no
			graph_category disk
			graph_info If it goes on as in the last seven days, or six hours: the straight line through what was free. Ten years stand for "never".`),
		readonly: describe("df_readonly", "graph_title Filesystems that turned read-only"+yesno+"\ngraph_info 1 if it can no longer be written to, though it could, or should by /etc/fstab. After an error of the disk Linux does that to save what is there."),
		stuck:    describe("df_stuck", "graph_title Filesystems that do not answer"+yesno+"\ngraph_info 1 if it did not even tell its size within five seconds. Whatever touches it hangs."),
	}
	for i := range mounts {
		m := &mounts[i]
		name := m.field()
		add(d.df, name, m.at, "warning 92", "critical 98")
		add(d.inode, name, m.at, "warning 92", "critical 98")
		add(d.abs, m.absField(), m.at, "cdef "+m.absField()+",1024,*")
		add(d.readonly, name, m.at, "critical 0.5")
		add(d.stuck, name, m.at, "critical 0.5")
		if m.typ != "tmpfs" {
			add(d.full, name, m.at, "min 0")
			add(d.full, name+"_6h", m.at+" (6 hours)", "min 0")
		}
	}
	r.desc = d
}

// add adds a field with a label and attributes ("type DERIVE"). A name that is there already stays as it is.
func add(s *munin.Service, name, label string, attrs ...string) {
	if s.Field(name) != nil {
		return
	}
	f := munin.Field{Name: name, Attrs: []munin.Attr{{Name: "label", Value: label}}}
	for _, a := range attrs {
		key, value, _ := strings.Cut(a, " ")
		f.Attrs = append(f.Attrs, munin.Attr{Name: key, Value: value})
	}
	s.Fields = append(s.Fields, f)
}

// Shape of a trend.
const (
	trendStep   = 5 * time.Minute
	trendFast   = 6 * time.Hour
	trendSlow   = 7 * 24 * time.Hour
	trendPoints = int(trendSlow / trendStep)
	trendLeast  = time.Hour // of which something must be known
	never       = 3650      // days
)

// trend says when a filesystem will be full, from what was free every five minutes of the last seven days. It begins anew with
// the program: after a start the slow trend knows no more than the fast one for six hours.
type trend struct {
	size   float64 // of the filesystem; another size begins anew
	begin  time.Duration
	next   time.Duration
	points []trendPoint // the oldest first
}

type trendPoint struct{ days, free float32 }

// add notes how many bytes are free.
func (t *trend) add(now time.Duration, free, size float64) {
	if size != t.size || now < t.begin {
		*t = trend{size: size, begin: now, next: now}
	}
	if now < t.next {
		return
	}
	t.next = now + trendStep
	if len(t.points) == trendPoints {
		t.points = slices.Delete(t.points, 0, trendPoints/16)
	}
	// A share of the size keeps a float32 exact enough: to a ten-millionth of the disk.
	t.points = append(t.points, trendPoint{float32((now - t.begin).Hours() / 24), float32(free / size)})
}

// full is in how many days nothing will be free, by the trend of seven days and of six hours; never if it is not getting less,
// NaN while too little is known.
func (t *trend) full() (slow, fast float64) { return t.fit(trendSlow), t.fit(trendFast) }

func (t *trend) fit(span time.Duration) float64 {
	n := len(t.points)
	if n == 0 {
		return math.NaN()
	}
	last := t.points[n-1]
	from := slices.IndexFunc(t.points, func(p trendPoint) bool { return float64(last.days-p.days) <= span.Hours()/24 })
	if points := t.points[from:]; float64(last.days-points[0].days) < trendLeast.Hours()/24-1e-6 {
		return math.NaN()
	} else if perDay := slope(points); perDay < -1e-9 {
		return min(never, float64(last.free)/-perDay)
	}
	return never
}

// slope is that of the straight line through the points (least squares).
func slope(points []trendPoint) float64 {
	var meanX, meanY, xx, xy float64
	for i, p := range points {
		dx := float64(p.days) - meanX
		meanX += dx / float64(i+1)
		meanY += (float64(p.free) - meanY) / float64(i+1)
		xx += dx * (float64(p.days) - meanX)
		xy += dx * (float64(p.free) - meanY)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}
