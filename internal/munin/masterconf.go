package munin

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Bounds of a master's configuration. 4,000 nodes with ten lines each are 40,000 lines and 2 MB.
const (
	maxConfFile  = 16 << 20
	maxConfFiles = 10_000
	maxConfLines = 2_000_000 // of all files
)

// MasterConf is what a master's munin.conf says, with the files that it includes.
type MasterConf struct {
	Files    []string // that were read, in order
	Hosts    []*ConfHost
	Contacts []*ConfContact
	Settings []Setting // every line that was understood; where one is said twice the later counts
	Problems []Problem // what was not understood or could not be read; the rest holds

	levels map[string]map[string]int // by level: the index of the setting that counts, by name
	hosts  map[string]*ConfHost      // by level
	of     map[string][]int          // by level of a service: the indices of its settings, and of those of its fields
}

// Setting is one line of munin.conf: what it is of, and what it says.
type Setting struct {
	Group string // levels are separated by ";"; "" is above all groups
	Host  string // "": it is of the group
	Path  string // service, children and field, separated by dots: "df._dev_vda"; "": it is of the host
	Attr
	File string
	Line int
}

// ConfHost is a host of munin.conf: one that is polled, or one that has graphs of other hosts' curves.
type ConfHost struct {
	Group, Name    string
	Address        string // as written: a name, an IP address with or without brackets, or a URL with munin, ssh or cmd; "" for none
	Port           int    // for an address that names none
	Update         bool   // false: nothing is fetched
	UseNodeName    bool   // ask for the name that the node calls itself, not for Name
	UseDefaultNode bool   // ask for no name at all
	File           string // where it is named first
	Line           int
}

// ConfContact is somebody or something that is told of warnings.
type ConfContact struct {
	Name        string
	Command     string   // for a shell, the message on its standard input; "" if there is none
	Text        string   // in Munin's language of variables; "" for the usual one
	AlwaysSend  []string // states that are told again at each run
	MaxMessages int      // messages of one run of the command; 0: all
	File        string
	Line        int
}

// defaultPort is where a munin-node listens.
const defaultPort = 4949

// masterWords are what a line of munin.conf may end its left side with; anything else a master refuses.
var masterWords = strings.Fields(`
	address always_send category_order cdef cdef_name cgitmpdir cgiurl cgiurl_graph colour command compare contact contacts
	create_args critical dbdir domain_order draw dropdownlimit extinfo fetch_data filename fork graph graph_args
	graph_args_after graph_category graph_data_size graph_future graph_height graph_info graph_noscale graph_order
	graph_period graph_printf graph_scale graph_sources graph_strategy graph_sums graph_title graph_total graph_vlabel
	graph_vtitle graph_width graphable group_order host_name htaccess html_rename html_strategy htmldir includedir info label
	line local_address logdir max max_cgi_graph_jobs max_graph_jobs max_html_jobs max_messages max_processes max_size_x
	max_size_y min munin_cgi_graph_jobs nagios ncsa ncsa_config ncsa_server negative node_order notify_alias nsca nsca_config
	nsca_server num_messages num_unknowns ok onlynullcdef palette pipe pipe_command port predict process realname
	realservname rrdcached_socket rundir service_order skipdraw ssh_command ssh_options stack state staticdir sum text timeout
	timeout_fetch_all_nodes timeout_fetch_one_node tls tls_ca_certificate tls_certificate tls_match tls_pem tls_private_key
	tls_verify_certificate tls_verify_depth tmpldir trend type unknown unknown_limit update update_rate use_default_name
	use_default_node use_node_name version warn warning worker_start_delay
	ignore_unknown update_priority oldname`)

// ReadMasterConf reads munin.conf at path, and then the files of the folder that its includedir names: all but hidden ones
// and those that end in ~, in the order of their names. The error is that path itself cannot be read.
func ReadMasterConf(path string) (*MasterConf, error) {
	m := &MasterConf{}
	r := newMasterReader(m)
	if err := r.file(path); err != nil {
		return nil, err
	}
	if dir, ok := m.Get("", "", "", "includedir"); ok {
		r.folder(path, dir)
	}
	r.finish()
	return m, nil
}

// ParseMasterConf reads the text of one munin.conf; name is for messages, and nothing is included.
func ParseMasterConf(name string, text []byte) *MasterConf {
	m := &MasterConf{}
	r := newMasterReader(m)
	r.text(name, text)
	r.finish()
	return m
}

// Get is what holds for a host, a service or a field: the setting of the place itself or, without one, of the nearest that
// is above it: field, service, parent service, host, groups from the inner to the outer, everything. path is as in
// Setting, "" for the host; host is "" for a group.
func (m *MasterConf) Get(group, host, path, name string) (s Setting, ok bool) {
	if m == nil {
		return Setting{}, false
	}
	for {
		if i, ok := m.levels[level(group, host, path)][name]; ok {
			return m.Settings[i], true
		}
		switch {
		case path != "":
			path, _, ok = cutLast(path, ".")
			if !ok {
				path = ""
			}
		case host != "":
			host = ""
		case group != "":
			group, _, ok = cutLast(group, ";")
			if !ok {
				group = ""
			}
		default:
			return Setting{}, false
		}
	}
}

// Host is the host of that group and name, nil if there is none.
func (m *MasterConf) Host(group, name string) *ConfHost {
	if m == nil {
		return nil
	}
	return m.hosts[level(group, name, "")]
}

// level is the key of a place in MasterConf.levels; no name holds a NUL.
func level(group, host, path string) string { return group + "\x00" + host + "\x00" + path }

// masterReader reads the files of one configuration.
type masterReader struct {
	m        *MasterConf
	wrong    problems
	words    map[string]bool
	contacts map[string]*ConfContact
	lines    int
}

func newMasterReader(m *MasterConf) *masterReader {
	m.levels, m.hosts, m.of = map[string]map[string]int{}, map[string]*ConfHost{}, map[string][]int{}
	r := &masterReader{m: m, words: map[string]bool{}, contacts: map[string]*ConfContact{}}
	for _, w := range masterWords {
		r.words[w] = true
	}
	return r
}

func (r *masterReader) file(path string) error {
	text, err := readFile(path, maxConfFile)
	if err != nil {
		return err
	}
	r.text(path, text)
	return nil
}

func (r *masterReader) folder(conf string, dir Setting) {
	folder := dir.Value
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(filepath.Dir(conf), folder)
	}
	entries, err := os.ReadDir(folder) // sorted by name
	if err != nil {
		r.wrong.add(dir.File, dir.Line, "includedir: %v", err)
		return
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") {
			continue
		}
		if len(r.m.Files) > maxConfFiles {
			r.wrong.add(dir.File, dir.Line, "includedir: there are more than %d files; the rest is not read", maxConfFiles)
			return
		}
		if err := r.file(filepath.Join(folder, name)); err != nil {
			r.wrong.add(dir.File, dir.Line, "includedir: %v", err)
		}
	}
}

// text reads one file: sections, and lines of a name and a value. A line that ends in a backslash goes on in the next.
func (r *masterReader) text(file string, text []byte) {
	r.m.Files = append(r.m.Files, file)
	var prefix, begun string
	n, first := 0, 0
	for line := range strings.Lines(string(text)) {
		n++
		if r.lines++; r.lines > maxConfLines {
			r.wrong.add(file, n, "there are more than %d lines; the rest is not read", maxConfLines)
			return
		}
		line = strings.TrimSpace(uncommented(line))
		if begun == "" {
			first = n
		}
		if rest, more := strings.CutSuffix(line, `\`); more && len(begun) < maxLine {
			begun += rest
			continue
		}
		line, begun = begun+line, ""
		switch inner, ok := section(line); {
		case line == "":
		case ok:
			prefix = inner
		default:
			r.line(file, first, prefix, line)
		}
	}
	if begun != "" {
		r.wrong.add(file, first, "the last line ends in a backslash: nothing follows")
	}
}

// uncommented is the line up to its comment. "\#" is no comment but a #.
func uncommented(line string) string {
	for at := 0; ; at++ {
		i := strings.IndexByte(line[at:], '#')
		if i < 0 {
			break
		}
		if at += i; at == 0 || line[at-1] != '\\' {
			line = line[:at]
			break
		}
	}
	return strings.ReplaceAll(line, `\#`, "#")
}

// section is what stands between brackets, if that is all there is.
func section(line string) (inner string, ok bool) {
	inner, ok = strings.CutPrefix(line, "[")
	if !ok {
		return "", false
	}
	inner, ok = strings.CutSuffix(inner, "]")
	return inner, ok && !strings.Contains(inner, "]")
}

// line takes one name and value below a section.
func (r *masterReader) line(file string, n int, prefix, line string) {
	key, value := line, ""
	if i := strings.IndexAny(line, " \t\v\f"); i >= 0 {
		key, value = line[:i], strings.TrimSpace(line[i:])
	}
	s := Setting{File: file, Line: n}
	path := longKey(prefix, key)
	var words []string
	var why string
	s.Group, s.Host, words, why = splitPath(path)
	if why == "" && len(words) > 0 {
		s.Path, s.Attr = strings.Join(words[:len(words)-1], "."), Attr{words[len(words)-1], asUTF8(value)}
	}
	switch {
	case why != "":
		r.wrong.add(file, n, "%s", why)
	case !r.words[s.Name]:
		r.wrong.add(file, n, "%s is no word of munin.conf; the line is left out", quoted(s.Name))
	case value == "":
		r.wrong.add(file, n, "%s has no value", quoted(key))
	case strings.ContainsRune(s.Group+s.Path, 0):
		r.wrong.add(file, n, "there is a zero byte in %s", quoted(key))
	default:
		r.setting(s)
	}
}

// longKey is the whole path of a key that stands in the section prefix.
func longKey(prefix, key string) string {
	if whole, absolute := strings.CutPrefix(key, "."); prefix == "" || absolute {
		return whole
	}
	key = strings.TrimPrefix(key, ":") // a child of the section's service
	if strings.HasSuffix(prefix, ";") {
		return prefix + key
	}
	host, service, within := strings.Cut(prefix[strings.LastIndexByte(prefix, ';')+1:], ":")
	if !strings.Contains(prefix, ";") {
		// The group of "web1.example.org" is "example.org", that of "web1" is "web1".
		_, domain, dotted := strings.Cut(host, ".")
		if !dotted {
			domain = host
		}
		prefix = domain + ";" + prefix
	}
	if within && service != "" {
		return prefix + "." + key
	}
	return strings.TrimSuffix(prefix, ":") + ":" + key
}

func (r *masterReader) setting(s Setting) {
	s.Group, s.Path = strings.Clone(s.Group), strings.Clone(s.Path)
	if s.Host == "" && s.Group == "" && s.Path != "" {
		r.contact(s)
	}
	if s.Host != "" {
		r.host(s)
	}
	at := level(s.Group, s.Host, s.Path)
	if r.m.levels[at] == nil {
		r.m.levels[at] = map[string]int{}
	}
	r.m.levels[at][s.Name] = len(r.m.Settings)
	r.m.Settings = append(r.m.Settings, s)
}

// contact takes "contact.NAME.command" and what else there is of one.
func (r *masterReader) contact(s Setting) {
	kind, name, _ := strings.Cut(s.Path, ".")
	if kind != "contact" || name == "" {
		r.wrong.add(s.File, s.Line, "%s belongs to no host: write [GROUP;HOST] above it", quoted(s.Path+"."+s.Name))
		return
	}
	c := r.contacts[name]
	if c == nil {
		c = &ConfContact{Name: name, File: s.File, Line: s.Line}
		r.contacts[name] = c
		r.m.Contacts = append(r.m.Contacts, c)
	}
	switch s.Name {
	case "command":
		c.Command = strings.TrimLeft(s.Value, "|> \t")
	case "text":
		c.Text = s.Value
	case "always_send":
		c.AlwaysSend = strings.Fields(s.Value)
	case "max_messages":
		c.MaxMessages = r.number(s, 0)
	default:
		r.wrong.add(s.File, s.Line, "a contact has no %s", s.Name)
	}
}

// host takes what is said of a host itself, and remembers that there is one.
func (r *masterReader) host(s Setting) {
	key := level(s.Group, s.Host, "")
	h := r.m.hosts[key]
	if h == nil {
		h = &ConfHost{Group: s.Group, Name: s.Host, Port: defaultPort, Update: true, File: s.File, Line: s.Line}
		r.m.hosts[key] = h
		r.m.Hosts = append(r.m.Hosts, h)
	}
	if s.Path != "" {
		at := level(s.Group, s.Host, s.Path)
		r.m.of[at] = append(r.m.of[at], len(r.m.Settings)) // where it will stand
		if service, _, ok := cutLast(s.Path, "."); ok {
			at = level(s.Group, s.Host, service)
			r.m.of[at] = append(r.m.of[at], len(r.m.Settings))
		}
	}
	if s.Path != "" {
		return
	}
	switch s.Name {
	case "address":
		h.Address = s.Value
	case "port":
		h.Port = r.number(s, defaultPort)
	case "update":
		h.Update = r.yes(s)
	case "use_node_name":
		h.UseNodeName = r.yes(s)
	case "use_default_node", "use_default_name":
		h.UseDefaultNode = r.yes(s)
	}
}

func (r *masterReader) number(s Setting, without int) int {
	n, err := strconv.ParseUint(s.Value, 10, 16)
	if err != nil {
		r.wrong.add(s.File, s.Line, "%s %s is no number; %d is taken", s.Name, quoted(s.Value), without)
		return without
	}
	return int(n)
}

func (r *masterReader) yes(s Setting) bool {
	switch strings.ToLower(s.Value) {
	case "yes", "true", "on", "1":
		return true
	case "no", "false", "off", "0":
		return false
	}
	r.wrong.add(s.File, s.Line, "%s %s is neither yes nor no; no is taken", s.Name, quoted(s.Value))
	return false
}

// finish looks over the whole.
func (r *masterReader) finish() {
	name, named := r.m.Get("", "", "", "use_node_name") // the only two that a host takes from above all
	byDefault, given := r.m.Get("", "", "", "use_default_node")
	for _, h := range r.m.Hosts {
		if named && !r.said(h, name.Name) {
			h.UseNodeName = r.yes(name)
		}
		if given && !r.said(h, byDefault.Name) {
			h.UseDefaultNode = r.yes(byDefault)
		}
		if h.Update && h.Address == "" {
			r.wrong.add(h.File, h.Line, "host %s has no address: nothing can be fetched (write address, or update no)", quoted(h.Name))
		}
	}
	for _, c := range r.m.Contacts {
		if c.Command == "" {
			r.wrong.add(c.File, c.Line, "contact %s has no command: nobody is told", quoted(c.Name))
		}
	}
	r.m.Problems = r.wrong
}

// said says whether the host itself has a setting of that name.
func (r *masterReader) said(h *ConfHost, name string) bool {
	_, ok := r.m.levels[level(h.Group, h.Name, "")][name]
	return ok
}
