package fail2ban

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// kind says how the value of an option is read.
type kind uint8

const (
	textKind kind = iota
	boolKind
	intKind
)

// jailOptions are the options of a jail that fail2ban itself knows, in its order. Anything else in a jail is there to be
// referred to.
var jailOptions = []struct {
	name      string
	kind      kind
	otherwise string // if nobody sets it; "-": then it is not sent to the server, which has its own default
}{
	{"enabled", boolKind, "false"}, {"backend", textKind, "auto"}, {"maxretry", intKind, "-"}, {"maxmatches", intKind, "-"},
	{"findtime", textKind, "-"}, {"bantime", textKind, "-"},
	{"bantime.increment", boolKind, "-"}, {"bantime.factor", textKind, "-"}, {"bantime.formula", textKind, "-"},
	{"bantime.multipliers", textKind, "-"}, {"bantime.maxtime", textKind, "-"}, {"bantime.rndtime", textKind, "-"},
	{"bantime.overalljails", boolKind, "-"},
	{"ignorecommand", textKind, "-"}, {"ignoreself", boolKind, "-"}, {"ignoreip", textKind, "-"}, {"ignorecache", textKind, "-"},
	{"filter", textKind, ""}, {"logtimezone", textKind, "-"}, {"logencoding", textKind, "-"}, {"logpath", textKind, "-"},
	{"action", textKind, ""},
	{"usedns", textKind, "-"}, {"prefregex", textKind, "-"}, {"ignoreregex", textKind, "-"}, {"failregex", textKind, "-"},
	{"maxlines", intKind, "-"}, {"datepattern", textKind, "-"}, {"journalmatch", textKind, "-"},
}

// readJails reads every enabled jail.
func (c *Config) readJails(lib *library, conf *config) {
	for _, name := range conf.order {
		if name == "INCLUDES" || strings.HasPrefix(name, "KNOWN/") {
			continue
		}
		j := &Jail{Name: name, Pos: conf.heads[name]}
		r := &jailReader{Jail: j, lib: lib, conf: conf}
		enabled, err := r.enabled()
		if err == nil && !enabled {
			c.Disabled = append(c.Disabled, name)
			continue
		}
		if len(c.Jails) == maxJails {
			c.Problems = append(c.Problems, Problem{j.Pos, fmt.Sprintf("more than %d jails are enabled", maxJails), "this one and those behind it do not run"})
			return
		}
		if err == nil {
			err = r.read()
		}
		j.Err = err
		c.Jails = append(c.Jails, j)
	}
}

// jailReader reads one jail.
type jailReader struct {
	*Jail
	lib   *library
	conf  *config
	opts  *dict          // what the files say, booleans and numbers as Python writes them
	typed map[string]any // those that are no text; nil for one that is no number
}

func (j *Jail) problem(pos Pos, msg, instead string) {
	j.Problems = append(j.Problems, Problem{pos, msg, instead})
}

// skip keeps why the jail cannot run, in fail2ban's words; the first reason holds.
func (j *Jail) skip(format string, args ...any) {
	if j.skipped == "" {
		j.skipped = fmt.Sprintf(format, args...)
	}
}

// place is where a value was written, or the jail if it is nobody's.
func (j *Jail) place(v value) Pos {
	if len(v) == 0 || v[0].pos.Line == 0 {
		return j.Pos
	}
	return v[0].pos
}

// enabled reads the one option that matters of a jail that does not run.
func (r *jailReader) enabled() (bool, error) {
	v, _, err := r.conf.get(r.Name, "enabled", nil)
	return asBool(v.String()), err
}

func (r *jailReader) read() error {
	if err := r.options("backend", "filter"); err != nil {
		return err
	}
	filter, err := r.filter()
	if err != nil {
		return err
	}
	if err := r.options(); err != nil {
		return err
	}
	if err := r.filterAgain(filter); err != nil {
		return err
	}
	r.commands.add(r.opts, r.typed)
	r.commandsOfJail()
	r.Problems = append(r.Problems, r.Filter.apply(r.commands.list)...)
	r.settings()
	list, _ := r.opts.get("action")
	if err := r.readActions(r.lib, list, r.seen()); err != nil {
		return err
	}
	if len(r.Actions) == 0 {
		r.problem(r.place(list), "the jail has no action", "who is found is counted, and nobody is kept out")
	}
	return nil
}

// options reads options of the jail; all of them if none is named.
func (r *jailReader) options(only ...string) error {
	var errs []error
	r.opts, r.typed, r.where = newDict(), map[string]any{}, map[string]Pos{}
	for _, o := range jailOptions {
		if len(only) > 0 && !slices.Contains(only, o.name) && o.name != "enabled" {
			continue
		}
		v, ok, err := r.conf.get(r.Name, o.name, nil)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case !ok && o.otherwise == "-":
			continue
		case !ok:
			v = literal(o.otherwise, byDefault)
		}
		r.where[o.name] = r.place(v)
		r.opts.set(o.name, r.typedValue(o.name, o.kind, v))
	}
	slices.SortStableFunc(errs, byPos)
	return errors.Join(errs...)
}

// typedValue converts the value of an option, and returns it as references see it.
func (r *jailReader) typedValue(name string, k kind, v value) value {
	switch k {
	case boolKind:
		b := asBool(v.String())
		r.typed[name] = b
		return value{{PythonValue(b), v[0].pos}}
	case intKind:
		n, ok := pythonInt(v.String())
		if !ok {
			r.typed[name] = nil
			return v
		}
		r.typed[name] = n
		return value{{PythonValue(n), v[0].pos}}
	}
	return v
}

// seen are the options as a filter or an action sees them: without those that are no number.
func (r *jailReader) seen() *dict {
	out := newDict()
	for _, k := range r.opts.keys {
		if t, typed := r.typed[k]; typed && t == nil {
			out.set(k, nil)
			continue
		}
		out.set(k, r.opts.m[k])
	}
	return out
}

// filter reads the filter of the jail, and puts its options into the jail under the name known/option. It is nil if the
// jail has none.
func (r *jailReader) filter() (*definition, error) {
	v, _ := r.opts.get("filter")
	pos := r.Pos // a filter that [DEFAULT] names is missed by this jail, not there
	if r.conf.sections[r.Name]["filter"] != nil {
		pos = r.place(v)
	}
	r.FilterSpec = v.String()
	r.backend = r.opts.m["backend"].String()
	if slices.Contains(r.lib.journals, r.Name) {
		r.backend = "systemd"
	}
	r.Filter = Filter{Maxlines: 1}
	if r.FilterSpec == "" {
		return nil, nil
	}
	name, given, err := parseSpec(r.FilterSpec)
	if err != nil {
		r.skip("Invalid filter definition %s: %v", PythonValue(r.FilterSpec), err)
		return nil, &Error{Pos: pos, Msg: fmt.Sprintf("filter %q: %v", r.FilterSpec, err), Hint: "write it like sshd[mode=aggressive]"}
	}
	name = strings.TrimSpace(name)
	logtype := "file"
	if strings.HasPrefix(r.backend, "systemd") {
		logtype = "journal"
	}
	d, err := r.lib.filter("filter.d", name, dictAt(given, pos), logtype)
	if err != nil {
		r.skip("Unable to read the filter %s", PythonValue(name))
		return nil, at(err, pos)
	}
	opts, err := d.whole(r.seen())
	if err != nil {
		return nil, err
	}
	r.Filter.Name = name
	r.Filter.describe(d, opts)
	for _, k := range opts.keys {
		if !strings.HasPrefix(k, "known/") {
			r.conf.sections[r.Name]["known/"+k] = escaped(opts.m[k])
		}
	}
	return d, nil
}

// escaped is v with its per cent signs doubled: a reference to it yields v again.
func escaped(v value) value {
	out := slices.Clone(v)
	for i := range out {
		out[i].text = strings.ReplaceAll(out[i].text, "%", "%%")
	}
	return out
}

// filterAgain reads the filter once more, now that all options of the jail are known: they hide those of the filter.
func (r *jailReader) filterAgain(d *definition) error {
	if d == nil {
		return nil
	}
	if errs := d.read(r.seen(), false); len(errs) > 0 {
		return errors.Join(errs...)
	}
	opts, err := d.combined(nil, filterOptions)
	if err != nil {
		return err
	}
	typed := map[string]any{}
	if v, ok := opts.get("maxlines"); ok {
		typed["maxlines"] = nil
		if n, ok := pythonInt(v.String()); ok {
			typed["maxlines"] = n
		} else {
			r.problem(r.place(v), fmt.Sprintf("maxlines %q is no number", v), "it is left out")
		}
	}
	r.commands.add(opts, typed)
	return nil
}

// commandsOfJail appends the commands for the options that are not a filter's.
func (r *jailReader) commandsOfJail() {
	for _, name := range r.opts.keys {
		switch name {
		case "logpath", "backend", "action", "filter", "enabled":
			continue
		}
		if slices.Contains(filterOptions, name) {
			continue
		}
		arg, raw := r.typed[name]
		r.commands.list = append(r.commands.list, command{name, r.opts.m[name], arg, raw})
	}
}

// settings turns the options of the jail into what the fields of Jail say.
func (r *jailReader) settings() {
	j := r.Jail
	r.setBackend()
	if v, ok := r.opts.get("logpath"); ok && !strings.HasPrefix(r.backend, "systemd") {
		r.setLogpaths(v)
	}
	j.Logencoding = r.text("logencoding", "auto")
	j.Logtimezone = r.text("logtimezone", "")
	j.Maxretry = max(r.number("maxretry", 3), 1) // as in fail2ban, 0 bans at the first failure
	j.Maxmatches = max(r.number("maxmatches", 5), 0)
	r.number("maxlines", 1)
	j.Findtime = r.duration("findtime", 10*time.Minute)
	if j.Findtime < time.Second {
		v, _ := r.opts.get("findtime")
		r.problem(r.place(v), fmt.Sprintf("findtime %q is no time to look back", v), "10m is used")
		j.Findtime = 10 * time.Minute
	}
	j.Bantime = r.duration("bantime", 10*time.Minute)
	if r.typed["bantime.increment"] == true {
		r.setGrowth()
	}
	j.Ignoreself = r.typed["ignoreself"] != false
	j.Ignoreip = splitWords(r.text("ignoreip", ""))
	j.Ignorecommand = strings.TrimSpace(r.text("ignorecommand", ""))
	j.Ignorecache = r.text("ignorecache", "")
	if j.FilterSpec == "" && len(j.Filter.Failregex) == 0 {
		r.problem(j.Pos, "the jail has no filter", "it finds nobody; people can be banned by hand")
	}
}

func (r *jailReader) text(name, otherwise string) string {
	if v, ok := r.opts.get(name); ok {
		return v.String()
	}
	return otherwise
}

func (r *jailReader) number(name string, otherwise int) int {
	v, ok := r.opts.get(name)
	if !ok {
		return otherwise
	}
	if n, ok := r.typed[name].(int); ok {
		return n
	}
	r.problem(r.place(v), fmt.Sprintf("%s %q is no number", name, v), fmt.Sprintf("%d is used; fail2ban would start no jail", otherwise))
	return otherwise
}

func (r *jailReader) duration(name string, otherwise time.Duration) time.Duration {
	v, ok := r.opts.get(name)
	if !ok {
		return otherwise
	}
	d, err := Seconds(v.String())
	if err != nil {
		r.problem(r.place(v), fmt.Sprintf("%s %v", name, err), fmt.Sprintf("%s is used; fail2ban would start no jail", SecondsText(otherwise)))
		return otherwise
	}
	return d
}

// backends are the ways to read logs that fail2ban has.
var backends = []string{"auto", "pyinotify", "gamin", "polling", "systemd"}

func (r *jailReader) setBackend() {
	v := r.opts.m["backend"]
	name, options, err := ParseSpec(r.backend)
	name = strings.ToLower(strings.TrimSpace(name))
	if err != nil || !slices.Contains(backends, name) {
		r.problem(r.place(v), fmt.Sprintf("backend %q is none", r.backend), "auto is used; fail2ban would start no jail")
		name, options = "auto", nil
	}
	r.Backend, r.BackendOptions = name, options
}

// setLogpaths reads the lines of logpath: a pattern, and behind a blank "head" or "tail".
func (r *jailReader) setLogpaths(v value) {
	for _, l := range v {
		if l.text == "" {
			continue
		}
		p := Logpath{Pattern: l.text, Pos: r.place(value{l})}
		if i := strings.LastIndexByte(l.text, ' '); i >= 0 {
			p.Pattern, p.place = l.text[:i], l.text[i+1:]
		}
		switch strings.ToLower(p.place) {
		case "", "head":
		case "tail":
			p.Tail = true
		default:
			r.problem(p.Pos, fmt.Sprintf("behind a log there may be head or tail, not %q", p.place), "the log is read as with head; fail2ban would start no jail")
		}
		r.Logpaths = append(r.Logpaths, p)
	}
}

func (r *jailReader) setGrowth() {
	g := &Growth{
		Factor:       r.text("bantime.factor", ""),
		Formula:      r.text("bantime.formula", ""),
		Multipliers:  strings.TrimSpace(r.text("bantime.multipliers", "")),
		Overalljails: r.typed["bantime.overalljails"] == true,
		Pos:          r.place(r.opts.m["bantime.increment"]),
	}
	if g.Multipliers != "" {
		g.Formula = "" // fail2ban does not look at it then
	}
	if r.text("bantime.maxtime", "") != "" {
		g.Maxtime = r.duration("bantime.maxtime", 0)
	}
	if r.text("bantime.rndtime", "") != "" {
		g.Rndtime = r.duration("bantime.rndtime", 0)
	}
	r.Growth = g
}
