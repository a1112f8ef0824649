package munin

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds of a node's configuration; Debian's is 150 lines in one file.
const (
	maxPluginConf     = 1 << 20 // bytes of a file
	maxPluginFiles    = 1000
	maxPluginSections = 10_000
	maxPluginNames    = 5000
)

// PluginConf is what the files of a folder like /etc/munin/plugin-conf.d say of plugins.
type PluginConf struct {
	Problems []Problem // what was not understood

	sections map[string]*pluginSection
	wild     []*pluginSection // those for more than one plugin, first the one that counts most
}

// pluginSection is what stands below one [name].
type pluginSection struct {
	name    string
	set     PluginSettings
	env     map[string]string
	matches *regexp.Regexp
}

// PluginSettings say how one plugin is run. The zero value is how a plugin is run of which nothing is said.
type PluginSettings struct {
	User       string // name or number; "": nobody
	Groups     []PluginGroup
	Command    []string      // instead of the plugin; "%c" stands for the plugin with its arguments
	HostName   string        // the node that its services belong to; "": the one that has it
	Timeout    time.Duration // 0: the node's
	UpdateRate time.Duration // 0: nothing is said
	Env        []Attr        // in the order of the names
}

// PluginGroup is a group to run as; the first is the primary one.
type PluginGroup struct {
	Name     string // or number
	Optional bool   // one that does not exist is left out
}

// ReadPluginConf reads the files of dir in the order of their names: the hidden ones, those with strange characters in the
// name and those that node says to ignore are left out. A line that is wrong ends the reading of its file, as in Munin; what
// was read before it holds. A folder that is not there says nothing. node may be nil.
func ReadPluginConf(dir string, node *NodeConf) (*PluginConf, error) {
	c := &PluginConf{sections: map[string]*pluginSection{}}
	entries, err := os.ReadDir(dir) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	var wrong problems
	files := 0
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || !allOf(e.Name(), "-.:") || e.Name()[0] == '.' || node.ignores(e.Name()) {
			continue
		}
		if files++; files > maxPluginFiles {
			wrong.add(dir, 0, "there are more than %d files; the rest is not read", maxPluginFiles)
			break
		}
		text, err := readFile(path, maxPluginConf)
		if err != nil {
			wrong.add(path, 0, "%v", err)
			continue
		}
		c.read(path, text, &wrong)
	}
	c.finish(&wrong)
	c.Problems = wrong
	return c, nil
}

// ParsePluginConf reads the text of one file; name is for messages.
func ParsePluginConf(name string, text []byte) *PluginConf {
	c := &PluginConf{sections: map[string]*pluginSection{}}
	var wrong problems
	c.read(name, text, &wrong)
	c.finish(&wrong)
	c.Problems = wrong
	return c
}

func (c *PluginConf) read(file string, text []byte, wrong *problems) {
	var s *pluginSection
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(uncommented(line))
		if line == "" {
			continue
		}
		why := ""
		if name, ok := section(line); ok && name != "" {
			s, why = c.section(asUTF8(name))
		} else if s == nil {
			why = "it stands before the first [plugin]"
		} else {
			why = s.line(line)
		}
		if why != "" {
			wrong.add(file, n, "%s; the rest of the file is left out", why)
			return
		}
	}
}

func (c *PluginConf) section(name string) (s *pluginSection, why string) {
	if s = c.sections[name]; s != nil {
		return s, ""
	}
	if len(c.sections) >= maxPluginSections {
		return nil, fmt.Sprintf("there are more than %d sections", maxPluginSections)
	}
	s = &pluginSection{name: name, env: map[string]string{}}
	c.sections[name] = s
	return s, ""
}

// line takes one line below a section.
func (s *pluginSection) line(line string) (why string) {
	i := strings.IndexAny(line, blank)
	if i < 0 || !allOf(line[:i], ".") {
		return quoted(line) + " is not a name and a value"
	}
	name, value := line[:i], asUTF8(strings.TrimSpace(line[i:]))
	if strings.IndexByte(value, 0) >= 0 {
		return "there is a zero byte in " + quoted(line)
	}
	env, isEnv := strings.CutPrefix(name, "env.")
	switch {
	case isEnv && env != "":
		s.env[env] = value
	case name == "env":
		return quoted(line) + ` is the old form; write "env.NAME value"`
	case name == "user":
		s.set.User = value
	case name == "group":
		s.set.Groups = nil
		for _, g := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || strings.ContainsRune(blank, r) }) {
			group := PluginGroup{Name: g}
			if inner, ok := strings.CutPrefix(g, "("); ok && strings.HasSuffix(inner, ")") {
				group = PluginGroup{strings.TrimSuffix(inner, ")"), true}
			}
			s.set.Groups = append(s.set.Groups, group)
		}
	case name == "command":
		s.set.Command = strings.Fields(value)
	case name == "host_name":
		s.set.HostName = value
	case name == "timeout":
		d, ok := seconds(value)
		if !ok {
			return "timeout " + quoted(value) + " is no number of seconds"
		}
		s.set.Timeout = d
	case name == "update_rate":
		d, ok := ParseUpdateRate(value)
		if !ok {
			return "update_rate " + quoted(value) + " is no number of seconds"
		}
		s.set.UpdateRate = d
	default:
		return fmt.Sprintf("%s is no setting of a plugin; should it be env.%s?", quoted(name), name)
	}
	return ""
}

// seconds is a positive number of seconds, at most a day.
func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return time.Duration(n) * time.Second, err == nil && n > 0 && n <= 24*3600
}

// updateUnits are the units of update_rate; t is a month.
var updateUnits = map[byte]time.Duration{
	's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour,
	'w': 7 * 24 * time.Hour, 't': 31 * 24 * time.Hour, 'y': 365 * 24 * time.Hour,
}

// ParseUpdateRate reads the attribute update_rate: "300", "10s", "5m aligned". ok is false if it is nothing of the kind.
func ParseUpdateRate(text string) (d time.Duration, ok bool) {
	text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "aligned"))
	unit := time.Second
	if n := len(text); n > 0 && updateUnits[text[n-1]] > 0 {
		unit, text = updateUnits[text[n-1]], text[:n-1]
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || time.Duration(n) > 10*updateUnits['y']/unit {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// finish makes the patterns. What stands before or behind the * is a regular expression, as in Munin: "[if_*]" is "^if_".
func (c *PluginConf) finish(wrong *problems) {
	for name, s := range c.sections {
		var pattern, literal string
		if before, ok := strings.CutSuffix(name, "*"); ok {
			pattern, literal = "^"+before, "^"+regexp.QuoteMeta(before)
		} else if after, ok := strings.CutPrefix(name, "*"); ok {
			pattern, literal = after+"$", regexp.QuoteMeta(after)+"$"
		} else {
			continue
		}
		var err error
		if s.matches, err = regexp.Compile(pattern); err != nil {
			wrong.add("["+name+"]", 0, "it is taken as it stands, for it is no regular expression: %v", err)
			s.matches = regexp.MustCompile(literal)
		}
		c.wild = append(c.wild, s)
	}
	slices.SortFunc(c.wild, func(a, b *pluginSection) int { return strings.Compare(b.name, a.name) })
}

// For is how the plugin is run. The section of its name counts most, then the patterns in falling order of their text; of
// each setting and each variable the first that is found counts.
func (c *PluginConf) For(plugin string) PluginSettings {
	var got PluginSettings
	env := map[string]string{}
	take := func(s *pluginSection) {
		if got.User == "" {
			got.User = s.set.User
		}
		if got.Groups == nil {
			got.Groups = s.set.Groups
		}
		if got.Command == nil {
			got.Command = s.set.Command
		}
		if got.HostName == "" {
			got.HostName = s.set.HostName
		}
		if got.Timeout == 0 {
			got.Timeout = s.set.Timeout
		}
		if got.UpdateRate == 0 {
			got.UpdateRate = s.set.UpdateRate
		}
		for name, value := range s.env {
			if _, ok := env[name]; !ok {
				env[name] = value
			}
		}
	}
	if s := c.sections[plugin]; s != nil && s.matches == nil {
		take(s)
	}
	for _, s := range c.wild {
		if s.matches.MatchString(plugin) {
			take(s)
		}
	}
	for name, value := range env {
		got.Env = append(got.Env, Attr{name, value})
	}
	slices.SortFunc(got.Env, func(a, b Attr) int { return strings.Compare(a.Name, b.Name) })
	return got
}

// NodeConf is what munin-node.conf says, as far as it matters to somebody who does the node's work.
type NodeConf struct {
	HostName string        // what the node calls itself; "": the name of the machine
	Listen   []string      // addresses; none or "*": all
	Port     int           // 4949 if nothing is said
	Timeout  time.Duration // of a plugin; 60 s if nothing is said
	User     string        // who plugins run as; "": nobody
	Group    string        // "": munin
	Problems []Problem

	ignore      []*regexp.Regexp
	allow, deny []*regexp.Regexp // of the peer's address as text
	in, out     []netip.Prefix
}

// nodeTimeout is how long munin-node waits for a plugin if nothing is said.
const nodeTimeout = time.Minute

// ReadNodeConf reads the munin-node.conf at path.
func ReadNodeConf(path string) (*NodeConf, error) {
	text, err := readFile(path, maxPluginConf)
	if err != nil {
		return nil, err
	}
	return ParseNodeConf(path, text), nil
}

// UsualNodeConf is for a machine without munin-node.conf: what editors and package managers leave behind is ignored, as
// Debian's says.
func UsualNodeConf() *NodeConf {
	return ParseNodeConf("munin-node.conf", []byte(`
ignore_file [\#~]$
ignore_file DEADJOE$
ignore_file \.bak$
ignore_file %$
ignore_file \.dpkg-(tmp|new|old|dist)$
ignore_file \.rpm(save|new)$
ignore_file \.pod$
`))
}

// ParseNodeConf reads the text of a munin-node.conf; name is for messages. What does not matter here is passed over.
func ParseNodeConf(name string, text []byte) *NodeConf {
	c := &NodeConf{Port: defaultPort, Timeout: nodeTimeout}
	var wrong problems
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(uncommented(line))
		if line == "" {
			continue
		}
		key, value, _ := strings.Cut(strings.Map(func(r rune) rune {
			if strings.ContainsRune(blank, r) {
				return ' '
			}
			return r
		}, line), " ")
		if err := c.set(key, strings.TrimSpace(value)); err != nil {
			wrong.add(name, n, "%s: %v", key, err)
		}
	}
	c.Problems = wrong
	return c
}

func (c *NodeConf) set(key, value string) error {
	pattern := func(to *[]*regexp.Regexp, text string) error {
		re, err := regexp.Compile(text)
		if err == nil {
			*to = append(*to, re)
		}
		return err
	}
	prefix := func(to *[]netip.Prefix) error {
		p, err := netip.ParsePrefix(value)
		if err == nil {
			*to = append(*to, p)
		}
		return err
	}
	switch key {
	case "host_name", "hostname":
		c.HostName = asUTF8(value)
	case "host":
		c.Listen = append(c.Listen, asUTF8(value))
	case "port":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil {
			return errors.New(quoted(value) + " is no port")
		}
		c.Port = int(n)
	case "timeout":
		d, ok := seconds(value)
		if !ok {
			return errors.New(quoted(value) + " is no number of seconds")
		}
		c.Timeout = d
	case "default_plugin_user", "default_client_user":
		c.User = value
	case "default_plugin_group", "default_client_group":
		c.Group = value
	case "ignore_file":
		return pattern(&c.ignore, value)
	case "allow":
		return pattern(&c.allow, "^(?:"+value+")$")
	case "deny":
		return pattern(&c.deny, "^(?:"+value+")$")
	case "cidr_allow":
		return prefix(&c.in)
	case "cidr_deny":
		return prefix(&c.out)
	}
	return nil
}

// ignores says whether a file of that name is left out. Of a nil NodeConf nothing is.
func (c *NodeConf) ignores(name string) bool {
	return c != nil && slices.ContainsFunc(c.ignore, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}

// Allows says whether the node answers to addr: everybody if nothing is said, else who is allowed and not denied.
func (c *NodeConf) Allows(addr netip.Addr) bool {
	if len(c.allow)+len(c.deny)+len(c.in)+len(c.out) == 0 {
		return true
	}
	addr = addr.Unmap()
	among := func(patterns []*regexp.Regexp, prefixes []netip.Prefix) bool {
		return slices.ContainsFunc(patterns, func(re *regexp.Regexp) bool { return re.MatchString(addr.String()) }) ||
			slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	return !among(c.deny, c.out) && among(c.allow, c.in)
}

// Plugins are the names of the plugins in dir, sorted: regular files, or links to them, that may be executed, but none that
// is hidden, ends in .conf, has strange characters in its name or is one that node says to ignore. node may be nil.
func Plugins(dir string, node *NodeConf) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		if !IsPlugin(dir, name, node) {
			continue
		}
		if len(names) == maxPluginNames {
			return names, fmt.Errorf("read %s: there are more than %d plugins", dir, maxPluginNames)
		}
		names = append(names, name)
	}
	return names, nil
}

// IsPlugin says whether Plugins would name it.
func IsPlugin(dir, name string, node *NodeConf) bool {
	if !IsPluginName(name) || name[0] == '.' || strings.HasSuffix(name, ".conf") || node.ignores(name) {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
