package fail2ban

import (
	"io/fs"
	"time"
)

// Version is the fail2ban whose configuration and habits this package knows.
const Version = "1.0.2"

// Config is what a folder like /etc/fail2ban says, every layer, include, reference and tag put in.
type Config struct {
	Dir      string   // where it lies, as given to Load
	Files    []string // what was read of fail2ban.conf and jail.conf, with all layers and includes
	Main     Main
	Jails    []*Jail   // the enabled ones in the order of the files, those that cannot run included
	Disabled []string  // names of the others
	Problems []Problem // of fail2ban.conf, and of jail.conf as a whole

	main [][]any // the commands of fail2ban.conf
	glob func(pattern string) ([]string, error)
}

// Main is fail2ban.conf.
type Main struct {
	Loglevel, Logtarget, Syslogsocket, Socket, Pidfile, Allowipv6, Dbfile string

	Dbmaxmatches int
	Dbpurgeage   time.Duration
}

// Problem is something that was read and cannot be done as it says.
type Problem struct {
	Pos     Pos
	Msg     string // what is wrong, or not done
	Instead string // what happens instead
}

// Jail is one enabled jail.
type Jail struct {
	Name     string
	Pos      Pos       // of its header
	Err      error     // why it cannot run; nil if it can. Then only Name, Pos and Problems can be relied on
	Problems []Problem // what differs from what the files say

	Backend        string            // "auto", "systemd", "polling", "pyinotify", "gamin"
	BackendOptions map[string]string // of "systemd[journalflags=1]"
	FilterSpec     string            // as written: "sshd[mode=aggressive]"; "" if the jail has no filter
	Filter         Filter            // what the jail says in its place is in it
	Logpaths       []Logpath         // as written, patterns not expanded
	Logencoding    string            // "auto", "UTF-8"
	Logtimezone    string            // "" or a fixed offset: "UTC+0200"

	Maxretry, Maxmatches int
	Findtime             time.Duration
	Bantime              time.Duration // negative: without end
	Growth               *Growth       // bantime.increment; nil: bans do not grow

	Ignoreself    bool
	Ignoreip      []string // addresses, networks, host names, as written
	Ignorecommand string   // with its static tags put in; "" if there is none
	Ignorecache   string   // as written

	Actions []*Action

	where    map[string]Pos // of its options
	backend  string         // as written
	commands commands       // of the filter and the jail, for Stream
	skipped  string         // why the jail cannot run, in fail2ban's words; "" if it has none
}

// Where is where an option of the jail is written, the jail's header if it is nowhere.
func (j *Jail) Where(option string) Pos {
	if pos, ok := j.where[option]; ok {
		return pos
	}
	return j.Pos
}

// Logpath is one line of logpath.
type Logpath struct {
	Pattern string // a pattern of Python's glob: GoPattern makes one of filepath.Match of it
	Tail    bool   // begin at the end of a log that was never read
	Pos     Pos

	place string // "head", "tail" or whatever stands there
}

// Growth is what bantime.increment and its companions say.
type Growth struct {
	Factor       string // a Python expression, "" for 1
	Formula      string // a Python expression, "" for the default one
	Multipliers  string // "1 2 4 8", "" if there is a formula
	Maxtime      time.Duration
	Rndtime      time.Duration
	Overalljails bool
	Pos          Pos
}

// Action is one action of a jail: its file with the arguments of the jail put in.
type Action struct {
	Name    string // of its file in action.d
	Actname string // unique in its jail
	Pos     Pos    // where the jail names it
	Files   []string
	Options []Option // in the order of fail2ban's own dump; commands and tags alike, values as written
	Python  bool     // name.py: a class, which nobody here can run

	named string // Actname before it was made unique
}

// Option is one option of an action. Name may carry a condition: "blocktype?family=inet6".
type Option struct {
	Name, Value string
	Pos         Pos
}

// LoadOptions say where a configuration is read from.
type LoadOptions struct {
	Dir  string                                 // what fsys is: %(fail2ban_confpath)s, and the beginning of every Pos.File
	Glob func(pattern string) ([]string, error) // finds log files, as Python's glob does; nil: in the file system
	FS   fs.FS                                  // nil: os.DirFS(Dir)

	Journals []string // jails that are read as if they had backend = systemd
}
