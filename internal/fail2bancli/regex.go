package fail2bancli

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
	"tocsin/internal/regex"
	"tocsin/internal/source"
)

var regexOptions = []option{
	{0, "version", false}, {'h', "help", false}, {'c', "config", true}, {'d', "datepattern", true}, {0, "timezone", true},
	{0, "TZ", true}, {'e', "encoding", true}, {'r', "raw", false}, {0, "usedns", true}, {'L', "maxlines", true},
	{'m', "journalmatch", true}, {'l', "log-level", true}, {'V', "", false}, {'v', "verbose", false},
	{0, "verbosity", true}, {0, "verbose-date", false}, {0, "VD", false}, {'D', "debuggex", false},
	{0, "no-check-all", false}, {'o', "out", true}, {0, "print-no-missed", false}, {0, "print-no-ignored", false},
	{0, "print-all-matched", false}, {0, "print-all-missed", false}, {0, "print-all-ignored", false},
	{'t', "log-traceback", false}, {0, "full-traceback", false},
}

// maxShown is how many lines and groups are shown unless all are asked for.
const maxShown = 20

// regexRun is one run of fail2ban-regex.
type regexRun struct {
	w        *bufio.Writer
	dir      string // of the configuration
	out      string // what is to be printed of each failure in place of the summary
	verbose  int
	encoding string
	set      map[string]string // the options that were given
	def      fail2ban.Filter
	journal  bool
	started  time.Time
	trial    *trial

	stats  [3]lineStats // by kind
	tested int
	preHit int
	pre    []string // groups of the prefregex
	hits   []int    // by failregex
	who    [][]found
	shows  [3]bool // keep every line of the kind
	hides  [3]bool
}

// The kinds of lines.
const (
	matchedLine = iota
	ignoredLine
	missedLine
)

var kindNames = [3]string{"matched", "ignored", "missed"}

type lineStats struct {
	n     int
	lines []string
}

// Regex answers as fail2ban-regex does and returns its exit code: 0 also where nothing matched, 255 for a mistake.
func Regex(args []string, o Options) int {
	w := bufio.NewWriter(o.Stdout)
	defer w.Flush()
	opts, rest, err := getopt(args, regexOptions, true)
	if err != nil {
		fmt.Fprintf(o.Stderr, "Usage: fail2ban-regex [OPTIONS] <LOG> <REGEX> [IGNOREREGEX]\n\nfail2ban-regex: error: %s\n", tocsin.Printable(err.Error()))
		return 2
	}
	r := &regexRun{w: w, started: time.Now(), dir: "/etc/fail2ban", encoding: "UTF-8", set: map[string]string{}}
	if code := r.options(opts, o); code >= 0 {
		return code
	}
	if errs := r.mistakes(rest); len(errs) > 0 {
		regexUsage(w)
		w.Flush()
		fmt.Fprintf(o.Stderr, "\n%s\n", strings.Join(errs, "\n"))
		return exitFail
	}
	r.say("\nRunning tests\n=============\n")
	if err := r.run(rest); err != nil {
		fmt.Fprintln(w, printableText(err.Error()))
		return exitFail
	}
	return exitOK
}

// options takes the options in. It returns an exit code if nothing is left to do, or else -1.
func (r *regexRun) options(opts []given, o Options) int {
	for _, opt := range opts {
		switch opt.name {
		case "help":
			regexUsage(r.w)
			return exitOK
		case "version":
			fmt.Fprintf(r.w, "fail2ban-regex %s (Tocsin %s)\n", fail2ban.Version, o.Release)
			return exitOK
		case "V":
			fmt.Fprintln(r.w, fail2ban.Version)
			return exitOK
		case "verbose":
			r.verbose++
		case "verbosity":
			n, err := strconv.Atoi(opt.value)
			if err != nil {
				fmt.Fprintf(o.Stderr, "fail2ban-regex: error: option --verbosity: invalid integer value: %s\n", quote(opt.value))
				return 2
			}
			r.verbose = n
		case "config":
			r.dir = opt.value
		case "encoding":
			r.encoding = opt.value
		case "out":
			r.out = opt.value
		case "TZ":
			r.set["timezone"] = opt.value
		default:
			r.set[opt.name] = opt.value
		}
	}
	r.shows = [3]bool{r.has("print-all-matched"), r.has("print-all-ignored"), r.has("print-all-missed")}
	r.hides = [3]bool{!r.has("print-all-matched"), r.has("print-no-ignored"), r.has("print-no-missed")}
	return -1
}

func (r *regexRun) has(name string) bool {
	_, ok := r.set[name]
	return ok
}

func (r *regexRun) mistakes(rest []string) (errs []string) {
	for _, kind := range []string{"missed", "ignored"} {
		if r.has("print-no-"+kind) && r.has("print-all-"+kind) {
			errs = append(errs, "ERROR: --print-no-"+kind+" and --print-all-"+kind+" are mutually exclusive.")
		}
	}
	if r.has("debuggex") {
		errs = append(errs, "ERROR: -D is not answered here: it puts lines of your log into links to another site.")
	}
	if len(rest) != 2 && len(rest) != 3 {
		errs = append(errs, "ERROR: provide both <LOG> and <REGEX>.")
	}
	return errs
}

// say prints a line of the report, which --out keeps back.
func (r *regexRun) say(format string, args ...any) {
	if r.out == "" {
		fmt.Fprintf(r.w, format+"\n", args...)
	}
}

func (r *regexRun) run(args []string) error {
	log := args[0]
	r.journal = strings.HasPrefix(log, "systemd-journal")
	t := &trial{
		sessions: map[string]*dict{}, usedns: "warn", maxLines: 1, raw: r.has("raw"), now: time.Now, lookUp: resolver(),
		first: r.has("no-check-all") || r.out != "", skipPending: r.out != "",
	}
	if dns, ok := r.set["usedns"]; ok {
		t.usedns, t.raw = dns, t.raw || dns == "raw"
	}
	r.trial = t
	if err := r.given(); err != nil {
		return err
	}
	if err := r.readFilter(args[1]); err != nil {
		return err
	}
	if len(args) == 3 {
		r.say("Use %11s line : %s", "ignoreregex", tocsin.Printable(shorten(args[2])))
		r.def.Ignoreregex = []fail2ban.Regex{{Text: args[2], Pos: fail2ban.Pos{File: "ignoreregex"}}}
	}
	if err := r.compile(); err != nil {
		return err
	}
	read := r.process
	if r.journal {
		read = r.readJournal
	}
	if err := read(log); err != nil {
		return err
	}
	if r.out == "" {
		r.report()
	}
	return nil
}

// given takes the settings of the command line, which win over those of the filter.
func (r *regexRun) given() error {
	if s, ok := r.set["maxlines"]; ok {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 1000 {
			return fmt.Errorf("ERROR: maxlines %s is no number from 1 to 1000", quote(s))
		}
		if n > 0 {
			r.def.Maxlines = n
			r.say("Use         maxlines : %d", n)
		}
	}
	if s, ok := r.set["datepattern"]; ok {
		r.setDates(strings.Split(s, "\n"), "option -d")
	}
	return nil
}

func (r *regexRun) setDates(lines []string, from string) {
	for _, line := range lines {
		if line = strings.TrimSpace(line); line != "" {
			r.def.Datepattern = append(r.def.Datepattern, fail2ban.Regex{Text: line, Pos: fail2ban.Pos{File: from}})
		}
	}
	_, name := describeDates(lines)
	r.say("Use      datepattern : %s : %s", printableText(strings.Join(lines, "\n")), tocsin.Printable(name))
}

// filterName tells a filter's name, with options or without, or a path, from an expression.
var filterName = regexp.MustCompile(`(?ms)^/{0,3}[\w/_\-.]+(?:\[.*\])?$`)

// readFilter reads what the command line names as REGEX: a filter, the path of one, or an expression.
func (r *regexRun) readFilter(value string) error {
	if filterName.MatchString(value) {
		name, opts, err := fail2ban.ParseSpec(value)
		if err != nil {
			return fmt.Errorf("ERROR: Wrong filter name or options: %w\n       while parsing: %s", err, value)
		}
		if file := r.filterFile(name); file != "" {
			return r.loadFilter(value, name, file, opts)
		}
	}
	r.say("Use %11s line : %s", "failregex", tocsin.Printable(shorten(value)))
	r.def.Failregex = []fail2ban.Regex{{Text: value, Pos: fail2ban.Pos{File: "failregex"}}}
	return nil
}

// filterFile is the file that a name stands for, "" if there is none.
func (r *regexRun) filterFile(name string) string {
	tries := []string{name, name + ".conf", name + ".local"}
	if strings.Contains(name[max(0, len(name)-6):], ".") {
		tries = tries[:1]
	}
	for _, file := range tries {
		if !strings.Contains(file, "/") {
			file = filepath.Join(r.filterDir(), file)
		}
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

func (r *regexRun) filterDir() string {
	if filepath.Base(r.dir) == "filter.d" {
		return r.dir
	}
	return filepath.Join(r.dir, "filter.d")
}

func (r *regexRun) loadFilter(value, name, file string, opts map[string]string) error {
	dir, base := filepath.Split(file)
	fsys := os.DirFS(cmp.Or(dir, "."))
	stem := strings.TrimSuffix(base, filepath.Ext(base))
	if !strings.Contains(name, "/") || filepath.Base(dir) == "filter.d" {
		r.say("Use %11s filter file : %s, basedir: %s", "failregex", stem, tocsin.Printable(filepath.Dir(filepath.Clean(dir))))
	} else {
		r.say("Use %11s file : %s", "failregex", tocsin.Printable(name))
		fsys = single{fsys, base, stem + ".conf"}
	}
	if len(opts) > 0 {
		d := newDict()
		for _, k := range optionOrder(value, opts) {
			d.put(k, opts[k])
		}
		r.say("Use   filter options : %s", d.repr(""))
	}
	logtype := "file"
	if r.journal {
		logtype = "journal"
	}
	def, err := fail2ban.LoadFilter(fsys, stem, opts, logtype)
	if err != nil {
		fmt.Fprintf(r.w, "Wrong config file: %s\n", printableText(err.Error()))
		return fmt.Errorf("ERROR: failed to load filter %s", value)
	}
	if r.verbose > 1 {
		d := newDict()
		for _, k := range append([]string{"logtype", "datepattern"}, optionOrder(value, opts)...) {
			if v, ok := def.Options[k]; ok {
				d.put(k, v)
			}
		}
		r.say("Real  filter options : %s", d.repr(""))
	}
	r.take(def)
	return nil
}

// optionOrder are the names of the options as they stand in name[a=1, b=2].
func optionOrder(value string, opts map[string]string) []string {
	var names []string
	for name := range opts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Index(value, a+"=") - strings.Index(value, b+"=") })
	return names
}

// take takes a filter in; what the command line says stays.
func (r *regexRun) take(def fail2ban.Filter) {
	given := r.def
	r.def = def
	r.def.Maxlines, r.def.Datepattern = given.Maxlines, given.Datepattern
	if _, ok := def.Options["maxlines"]; ok && given.Maxlines == 0 {
		r.def.Maxlines = def.Maxlines
		r.say("Use         maxlines : %d", def.Maxlines)
	}
	if len(given.Datepattern) == 0 && len(def.Datepattern) > 0 {
		var lines []string
		for _, re := range def.Datepattern {
			lines = append(lines, re.Text)
		}
		r.setDates(lines, "")
		r.def.Datepattern = def.Datepattern
	}
}

func (r *regexRun) compile() (err error) {
	t := r.trial
	t.maxLines = max(1, r.def.Maxlines)
	if r.def.Prefregex.Text != "" {
		if t.prefix, err = compile([]fail2ban.Regex{r.def.Prefregex}, t.usedns, 0); err != nil {
			return err
		}
	}
	var flags regex.Flags
	if t.maxLines > 1 {
		flags = regex.Multiline
	}
	if t.fail, err = compile(r.def.Failregex, t.usedns, flags); err != nil {
		return err
	}
	if t.fail == nil {
		return fmt.Errorf("ERROR: filter %s has no failregex", r.def.Name)
	}
	for i := range t.fail.texts {
		if !t.fail.identifies(i) && (t.prefix == nil || !t.prefix.identifies(0)) {
			return fmt.Errorf("ERROR: No failure-id group in '%s'", t.fail.expands[i])
		}
	}
	if t.ignore, err = compile(r.def.Ignoreregex, t.usedns, 0); err != nil {
		return err
	}
	if t.ignore != nil {
		t.ignoreHits = make([]int, len(t.ignore.texts))
	}
	r.hits, r.who = make([]int, len(t.fail.texts)), make([][]found, len(t.fail.texts))
	return r.compileDates()
}

func (r *regexRun) compileDates() (err error) {
	loc := time.Local
	if name, ok := r.set["timezone"]; ok {
		if loc, err = zone(name); err != nil {
			return err
		}
	}
	t := r.trial
	if t.dates, err = filter.ParseDatepattern(r.def.Datepattern, loc, t.now); err != nil {
		return fmt.Errorf("ERROR: %w", err)
	}
	var patterns []string
	t.undated = -1
	for i, re := range r.def.Datepattern {
		patterns = append(patterns, re.Text)
		if strings.EqualFold(strings.TrimSpace(re.Text), "{NONE}") {
			t.undated = i
		}
	}
	t.table = newDateTable(patterns)
	return nil
}

var fixedZone = regexp.MustCompile(`^(?:UTC|GMT|Z)?(?:([+-])([01]\d):?([0-5]\d)?)?$`)

// zone reads a time zone as fail2ban's logtimezone takes it, UTC+0200, or by its name, Europe/Paris.
func zone(name string) (*time.Location, error) {
	if m := fixedZone.FindStringSubmatch(name); m != nil && name != "" {
		hours, _ := strconv.Atoi(m[2])
		minutes, _ := strconv.Atoi(m[3])
		seconds := (hours*60 + minutes) * 60
		if m[1] == "-" {
			seconds = -seconds
		}
		return time.FixedZone(name, seconds), nil
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("ERROR: Unknown or unsupported time zone: %s", quote(name))
	}
	return loc, nil
}

// process reads LOG: a file, or the lines themselves.
func (r *regexRun) process(log string) error {
	if fi, err := os.Stat(log); err == nil && fi.Mode().IsRegular() {
		decode, err := decoder(r.encoding)
		if err != nil {
			return err
		}
		r.say("Use         log file : %s", tocsin.Printable(log))
		r.say("Use         encoding : %s\n", tocsin.Printable(r.encoding))
		return r.readLog(log, decode)
	}
	lines := []string{log}
	if r.trial.maxLines <= 1 && !strings.Contains(log, "\n") {
		r.say("Use      single line : %s", printLine(shorten(log)))
	} else {
		lines = strings.Split(log, "\n")
		r.say("Use      multi line : %d line(s)", len(lines))
		for i, l := range lines {
			if i >= 5 {
				r.say("| ...")
				break
			}
			r.say("| %2.2s: %s", strconv.Itoa(i+1), printLine(shorten(l)))
		}
		r.say("`-")
	}
	r.say("")
	for _, l := range lines {
		r.line(l, time.Time{})
	}
	return nil
}

// readLog reads a file. Its last line counts only if a newline ends it, as for a guard: it may be half written.
func (r *regexRun) readLog(name string, decode func([]byte) string) error {
	last, waiting := "", false
	_, err := source.Old(context.Background(), []string{name}, nil, func(rec *tocsin.Record) {
		if waiting {
			r.line(last, time.Time{})
		}
		last, waiting = decode(rec.Text), true
	})
	if err == nil && waiting && endsWithNewline(name) {
		r.line(last, time.Time{})
	}
	return err
}

// endsWithNewline says whether the last byte of a file is a newline. What is packed has its own end.
func endsWithNewline(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return true
	}
	defer f.Close()
	var head [2]byte
	if _, err := f.ReadAt(head[:], 0); err == nil && (head == [2]byte{0x1f, 0x8b} || head == [2]byte{0x28, 0xb5}) {
		return true
	}
	var last [1]byte
	if fi, err := f.Stat(); err != nil || fi.Size() == 0 {
		return true
	} else if _, err := f.ReadAt(last[:], fi.Size()-1); err != nil {
		return true
	}
	return last[0] == '\n'
}

// readJournal reads the entries of systemd's journal that -m or the filter asks for.
func (r *regexRun) readJournal(log string) error {
	_, opts, err := fail2ban.ParseSpec(log)
	if err != nil {
		return fmt.Errorf("ERROR: %w", err)
	}
	o := source.JournalOptions{Name: "journal:", Since: time.Unix(0, 0)}
	for name, value := range opts {
		switch name {
		case "journalpath":
			o.Args = append(o.Args, "--directory="+value)
		case "journalfiles":
			for file := range strings.SplitSeq(value, ",") {
				o.Args = append(o.Args, "--file="+strings.TrimSpace(file))
			}
		case "namespace":
			o.Args = append(o.Args, "--namespace="+value)
		}
	}
	if match, ok := r.set["journalmatch"]; ok {
		if o.Match, err = words(match); err != nil {
			return fmt.Errorf("ERROR: %w", err)
		}
	} else if n := len(r.def.Journalmatch); n > 0 {
		if o.Match, err = words(r.def.Journalmatch[n-1]); err != nil {
			return fmt.Errorf("ERROR: %w", err)
		}
	}
	r.say("Use         systemd journal\nUse         encoding : %s", tocsin.Printable(r.encoding))
	if len(o.Match) > 0 {
		r.say("Use    journal match : %s", tocsin.Printable(strings.Join(o.Match, " ")))
	}
	r.say("")
	j, err := source.NewJournal(o)
	if err != nil {
		return err
	}
	return j.Replay(context.Background(), func(rec *tocsin.Record) { r.line(strings.ToValidUTF8(string(rec.Text), "\uFFFD"), rec.At) })
}

// journalTime is the time of an entry as fail2ban puts it before the text.
func journalTime(at time.Time) string {
	return strings.TrimSuffix(at.Local().Format("2006-01-02T15:04:05.000000"), ".000000") + " "
}

// decoder turns bytes of a log into text.
func decoder(encoding string) (func([]byte) string, error) {
	switch strings.ToLower(strings.ReplaceAll(encoding, "_", "-")) {
	case "utf-8", "utf8", "auto", "ascii", "us-ascii":
		return func(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }, nil
	case "latin-1", "latin1", "iso-8859-1", "iso8859-1":
		return func(b []byte) string {
			out := make([]rune, len(b))
			for i, c := range b {
				out[i] = rune(c)
			}
			return string(out)
		}, nil
	}
	return nil, fmt.Errorf("unknown encoding: %s; UTF-8, ASCII and ISO-8859-1 are read here", encoding)
}

// line tries one line and counts it. at is the time of an entry of the journal, zero for a line that carries its own.
func (r *regexRun) line(text string, at time.Time) {
	text = strings.TrimRight(text, "\r\n")
	if at.IsZero() && (text == "" || text[0] == '#') {
		return
	}
	t := r.trial
	before := slices.Clone(t.buffer)
	hits := t.line(text, at)
	helps := false
	var counted []found
	for _, h := range hits {
		h.again = len(counted) > 1
		r.hits[h.rule]++
		if r.verbose > 0 {
			r.who[h.rule] = append(r.who[h.rule], h)
		}
		if h.fail.has("nofail") {
			helps = true
		} else {
			counted = append(counted, h)
		}
	}
	if r.out != "" {
		if len(counted) > 0 {
			r.printFound(counted)
		}
		return
	}
	if t.prefix != nil && t.preMatched {
		r.preHit++
		if n := len(r.pre); r.verbose > 0 && n < maxShown {
			r.pre = append(r.pre, t.preGroups.repr(""))
		} else if n == maxShown {
			r.pre = append(r.pre, "...")
		}
	}
	r.recount(before)
	if !at.IsZero() {
		text = journalTime(at) + text
	}
	switch {
	case helps || t.ignored:
		r.keep(ignoredLine, text)
	case len(counted) > 0:
		r.keep(matchedLine, text)
	default:
		r.keep(missedLine, text)
	}
	r.tested++
}

// recount moves lines that waited for a match over several lines, and were missed until then, to the matched ones.
func (r *regexRun) recount(before []tuple) {
	t := r.trial
	if t.maxLines <= 1 {
		return
	}
	if len(before) >= t.maxLines {
		before = before[1:]
	}
	missed, matched := &r.stats[missedLine], &r.stats[matchedLine]
	for _, l := range before {
		if slices.Contains(t.buffer, l) {
			continue
		}
		if i := slices.Index(missed.lines, l.whole()); i >= 0 {
			missed.lines = slices.Delete(missed.lines, i, i+1)
		}
		if r.shows[matchedLine] {
			matched.lines = append(matched.lines, l.whole())
		}
		matched.n++
		missed.n--
	}
}

func (r *regexRun) keep(kind int, text string) {
	s := &r.stats[kind]
	s.n++
	if !r.hides[kind] && (r.shows[kind] || s.n <= maxShown+1) {
		s.lines = append(s.lines, text)
	}
}

// resolver looks names up, each once; what does not answer within a few seconds has no address.
func resolver() func(string) []string {
	const most = 1000
	known := map[string][]string{}
	return func(name string) []string {
		if all, ok := known[name]; ok || len(known) >= most {
			return all
		}
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		addrs, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", name) // a name that leads nowhere is no failure of ours
		var all []string
		for _, a := range addrs {
			all = append(all, a.Unmap().String())
		}
		slices.Sort(all)
		known[name] = slices.Compact(all)
		return known[name]
	}
}

// single is a folder in which one file goes by another name, and its layers are not there.
type single struct {
	fs.FS
	file, as string
}

func (s single) Open(name string) (fs.File, error) {
	stem := strings.TrimSuffix(s.as, ".conf")
	switch {
	case path.Clean(name) == s.as:
		name = s.file
	case path.Clean(name) == stem+".local", path.Clean(name) == stem+".d":
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return s.FS.Open(name)
}

// printLine makes a line of a log safe to show; tabs stay.
func printLine(s string) string { return strings.Join(printable(strings.Split(s, "\t")), "\t") }

func regexUsage(w io.Writer) {
	fmt.Fprint(w, `Usage: fail2ban-regex [OPTIONS] <LOG> <REGEX> [IGNOREREGEX]

Tests regular expressions and filters of fail2ban against a log, with the engine of Tocsin.

LOG:
  string                a string representing a log line
  filename              path to a log file (/var/log/auth.log), also packed (.gz, .zst)
  systemd-journal       the journal, optionally with journalpath, journalfiles, namespace:
                        systemd-journal[journalpath=/var/log/journal/remote]

REGEX:
  string                a string representing a 'failregex'
  filter                name of filter, optionally with options (sshd[mode=aggressive])
  filename              path to a filter file (filter.d/sshd.conf)

IGNOREREGEX:
  string                a string representing an 'ignoreregex'

Options:
  --version             show program's version number and exit
  -h, --help            show this help message and exit
  -c, --config=DIR      set alternate config directory
  -d, --datepattern=PATTERN
                        set custom pattern used to match date/times
  --timezone, --TZ=ZONE time zone of dates that name none: UTC+0200, Europe/Paris
  -e, --encoding=NAME   file encoding: UTF-8 (default), ASCII, ISO-8859-1
  -r, --raw             raw hosts, don't resolve dns
  --usedns=VALUE        'no': <HOST> takes addresses only; 'raw': names are not resolved
  -L, --maxlines=N      lines that one match may span
  -m, --journalmatch=MATCH
                        what to take from the journal, as for journalctl
  -V                    get version in machine-readable short format
  -v, --verbose         increase verbosity
  --verbosity=N         set numerical level of verbosity (0..4)
  --no-check-all        stop at the first regex that fits, as a guard does
  -o, --out=WHAT        print failure information only: id, ip, msg, row, the name of a
                        group, or text with tags: '<ip> <F-USER>'
  --print-no-missed     do not print any missed lines
  --print-no-ignored    do not print any ignored lines
  --print-all-matched   print all matched lines
  --print-all-missed    print all missed lines, no matter how many
  --print-all-ignored   print all ignored lines, no matter how many
  -l, -t, --verbose-date, --full-traceback
                        are taken and make no difference
`)
}
