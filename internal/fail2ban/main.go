package fail2ban

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Load reads a folder like /etc/fail2ban: fail2ban.conf and jail.conf with all their layers, then the filter and the
// actions of every enabled jail.
//
// It returns an error only if the folder cannot be read, or holds no configuration of jails at all. What is wrong with one
// jail is in its Err and keeps no other from running; everything else that is not as the files say is in Problems.
func Load(o LoadOptions) (*Config, error) {
	lib := &library{fsys: o.FS, dir: strings.TrimRight(o.Dir, "/"), journals: o.Journals}
	if o.FS == nil {
		lib.fsys = os.DirFS(o.Dir)
		root, err := filepath.Abs(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("read configuration of fail2ban: %w", err)
		}
		lib.root = root
	}
	if _, err := fs.ReadDir(lib.fsys, "."); err != nil {
		return nil, fmt.Errorf("read configuration of fail2ban in %s: %s", o.Dir, plainCause(err))
	}
	jails, errs := lib.layers("jail")
	if len(jails.files) == 0 {
		missing := &Error{Pos: Pos{File: lib.shown("jail.conf")}, Msg: "there is neither jail.conf nor jail.local nor a file in jail.d",
			Hint: "name the folder that fail2ban reads, which is /etc/fail2ban unless it is told otherwise"}
		return nil, errors.Join(append(errs, missing)...)
	}
	c := &Config{Dir: o.Dir, glob: o.Glob, Files: jails.files, Problems: leftOut(errs)}
	if c.glob == nil {
		c.glob = globFiles
	}
	c.readMain(lib)
	jails.defaults["fail2ban_version"] = literal(Version, byDefault)
	jails.defaults["fail2ban_confpath"] = literal(lib.dir, byDefault)
	c.readJails(lib, jails)
	c.mistyped(jails)
	return c, nil
}

// leftOut tells of mistakes that cost no more than a line, or a file.
func leftOut(errs []error) []Problem {
	var all []Problem
	for _, err := range errs {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Msg: err.Error()}
		}
		p := Problem{Pos: e.Pos, Msg: e.Msg, Instead: "the line is left out; fail2ban would not start"}
		switch {
		case e.Pos.Line == 0 || strings.HasPrefix(e.Msg, "read "):
			p.Instead = "the file is left out"
		case strings.Contains(e.Msg, "UTF-8"):
			p.Instead = "the line is left out; fail2ban leaves out the whole file"
		case strings.HasPrefix(e.Msg, "header "):
			p.Instead = "the line and those up to the next header are left out; fail2ban would not start"
		case strings.HasPrefix(e.Msg, "section ["):
			p.Instead = "its keys are read as if they stood under the first header; fail2ban would not start"
		}
		all = append(all, p)
	}
	return all
}

// byDefault is the place of what no file says.
var byDefault = Pos{File: "the defaults of fail2ban"}

// mainOptions are the options of fail2ban.conf that its server is told, in the order in which it is.
var mainOptions = []struct{ name, otherwise string }{
	{"syslogsocket", "auto"}, {"loglevel", "INFO"}, {"logtarget", "STDERR"}, {"allowipv6", "auto"},
	{"dbfile", "/var/lib/fail2ban/fail2ban.sqlite3"}, {"dbmaxmatches", ""}, {"dbpurgeage", "1d"},
}

// readMain reads fail2ban.conf. Without one everything is as fail2ban has it.
func (c *Config) readMain(lib *library) {
	conf, errs := lib.layers("fail2ban")
	c.Problems = append(c.Problems, leftOut(errs)...)
	c.Files = append(c.Files, conf.files...)
	defined := conf.sections["Definition"] != nil // without it, fail2ban looks into no [DEFAULT] either
	get := func(name, otherwise string) value {
		if !defined {
			return literal(otherwise, byDefault)
		}
		v, ok, err := conf.get("Definition", name, nil)
		if err != nil {
			c.Problems = append(c.Problems, notRead(err, name, otherwise))
		}
		if !ok || err != nil {
			return literal(otherwise, byDefault)
		}
		return v
	}
	m := &c.Main
	into := map[string]*string{"syslogsocket": &m.Syslogsocket, "loglevel": &m.Loglevel, "logtarget": &m.Logtarget, "allowipv6": &m.Allowipv6, "dbfile": &m.Dbfile}
	m.Dbmaxmatches, m.Dbpurgeage = 10, 24*time.Hour
	c.main = c.threads(conf)
	for _, o := range mainOptions {
		v := get(o.name, o.otherwise)
		switch o.name {
		case "dbmaxmatches":
			if v[0].pos == byDefault { // fail2ban has none to send
				if !defined {
					c.main = append(c.main, []any{"set", o.name, nil})
				}
				continue
			}
			n, ok := pythonInt(v.String())
			if !ok || n < 0 {
				c.Problems = append(c.Problems, Problem{v[0].pos, fmt.Sprintf("dbmaxmatches %q is no number", v), "10 is used"})
				c.main = append(c.main, []any{"set", o.name, nil})
				continue
			}
			m.Dbmaxmatches = n
			c.main = append(c.main, []any{"set", o.name, n})
			continue
		case "dbpurgeage":
			age, err := Seconds(v.String())
			if err != nil || age < 0 {
				c.Problems = append(c.Problems, Problem{v[0].pos, fmt.Sprintf("dbpurgeage %q is no time", v), "1d is used"})
			} else {
				m.Dbpurgeage = age
			}
		default:
			*into[o.name] = v.String()
		}
		c.main = append(c.main, []any{"set", o.name, v.String()})
	}
	m.Socket = get("socket", "/var/run/fail2ban/fail2ban.sock").String()
	m.Pidfile = get("pidfile", "/var/run/fail2ban/fail2ban.pid").String()
	if !isLoglevel(m.Loglevel) {
		v, _, _ := conf.get("Definition", "loglevel", nil)
		c.Problems = append(c.Problems, Problem{v[0].pos, fmt.Sprintf("loglevel %q is none", m.Loglevel), "INFO is used; fail2ban would not start"})
		m.Loglevel = "INFO"
	}
}

// threads is the command that [Thread] of fail2ban.conf leads to. Nothing here has a use for it.
func (c *Config) threads(conf *config) [][]any {
	v, ok, err := conf.get("Thread", "stacksize", nil)
	if _, exists := conf.sections["Thread"]; !exists || !ok || err != nil {
		return nil
	}
	var size any
	if n, ok := pythonInt(v.String()); ok {
		size = n
	}
	return [][]any{{"set", "thread", map[string]any{"stacksize": size}}}
}

// isLoglevel says whether s is a level of fail2ban's log: a name, in any case, or a number.
func isLoglevel(s string) bool {
	levels := []string{"CRITICAL", "FATAL", "ERROR", "WARNING", "WARN", "NOTICE", "INFO", "MSG", "DEBUG", "TRACEDEBUG", "HEAVYDEBUG", "NOTSET"}
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil || slices.Contains(levels, strings.ToUpper(s))
}

// notRead tells that an option cannot be read.
func notRead(err error, name, otherwise string) Problem {
	e := &Error{Msg: err.Error()}
	errors.As(err, &e)
	return Problem{Pos: e.Pos, Msg: name + ": " + e.Msg, Instead: fmt.Sprintf("%s is used; fail2ban would not start", cmp.Or(otherwise, "nothing"))}
}

// pythonInt reads what Python's int() reads.
func pythonInt(s string) (int, bool) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") {
		return 0, false
	}
	n, err := strconv.Atoi(strings.ReplaceAll(s, "_", ""))
	return n, err == nil
}

// asBool reads a truth value: everything but these words is false.
func asBool(s string) bool {
	return slices.Contains([]string{"1", "on", "true", "yes"}, strings.ToLower(s))
}
