package fail2bancli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
)

var clientOptions = []option{
	{'h', "help", false}, {'c', "conf", true}, {'s', "socket", true}, {'p', "pidfile", true}, {'x', "", false},
	{'f', "", false}, {'b', "", false}, {'d', "", false}, {'t', "test", false}, {'v', "", false}, {'i', "", false},
	{'q', "", false}, {'V', "", false}, {0, "version", false}, {0, "loglevel", true}, {0, "logtarget", true},
	{0, "syslogsocket", true}, {0, "async", false}, {0, "pname", true}, {0, "timeout", true}, {0, "str2sec", true},
	{0, "dp", false}, {0, "dump-pretty", false},
}

// client is one run of fail2ban-client.
type client struct {
	o     Options
	dir   string // of the configuration
	guard *api.Client
	conf  *fail2ban.Config // once it was read
}

// Client answers as fail2ban-client does and returns its exit code: 0, or 255 for whatever went wrong.
func Client(args []string, o Options) int {
	opts, rest, err := getopt(args, clientOptions, false)
	if err != nil {
		usage(o.Stdout)
		complain(o.Stderr, "ERROR", "Init of command line failed")
		return exitFail
	}
	c := &client{o: o, dir: "/etc/fail2ban"}
	socket := o.Socket
	var dump, test, ask bool
	for _, opt := range opts {
		switch opt.name {
		case "help":
			usage(o.Stdout)
			return exitOK
		case "V":
			fmt.Fprintln(o.Stdout, fail2ban.Version)
			return exitOK
		case "version":
			fmt.Fprintln(o.Stdout, banner(o))
			return exitOK
		case "str2sec":
			return c.seconds(opt.value)
		case "conf":
			c.dir = opt.value
		case "socket":
			if !isOldSocket(opt.value) {
				socket = opt.value
			}
		case "d", "dp", "dump-pretty":
			dump = true
		case "test":
			test = true
		case "i":
			ask = true
		}
	}
	ctx := context.Background()
	c.guard = api.NewClient(socket)
	if dump || test {
		if code := c.showConfig(dump, test); code != exitOK || !test || len(rest) == 0 {
			return code
		}
	}
	switch {
	case ask:
		return c.interactive(ctx, rest)
	case len(rest) == 0:
		usage(o.Stdout)
		return exitFail
	}
	return c.run(ctx, rest)
}

// isOldSocket says whether a path is fail2ban's own socket, which scripts name out of habit. Nobody answers there.
func isOldSocket(path string) bool {
	path = filepath.Clean(path)
	return path == "/var/run/fail2ban/fail2ban.sock" || path == "/run/fail2ban/fail2ban.sock"
}

// run carries out one command and prints what fail2ban-client prints.
func (c *client) run(ctx context.Context, command []string) int {
	text, err := c.do(ctx, command)
	if err == nil {
		fmt.Fprintln(c.o.Stdout, text)
		return exitOK
	}
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		fmt.Fprintln(c.o.Stdout, text) // what was done all the same
		for _, err := range several.Unwrap() {
			c.tell(err)
		}
		return exitFail
	}
	c.tell(err)
	return exitFail
}

// tell says what went wrong: a line of log on standard error and, if the guard refused, a sentence on standard output.
func (c *client) tell(err error) {
	var no *nok
	var told *api.Error
	switch {
	case errors.As(err, &no):
		complain(c.o.Stderr, "ERROR", "NOK: "+no.args)
		fmt.Fprintln(c.o.Stdout, no.msg)
	case errors.As(err, &told) && (told.Exit == api.ExitUnreachable || told.Exit == api.ExitTryLater):
		complain(c.o.Stderr, "ERROR", tocsin.Printable(told.Msg)+". Is tocsin running?")
	case errors.As(err, &told):
		msg := tocsin.Printable(told.Msg)
		complain(c.o.Stderr, "ERROR", "NOK: ("+quote(msg)+",)")
		if told.Hint != "" {
			msg += "; " + tocsin.Printable(told.Hint)
		}
		fmt.Fprintln(c.o.Stdout, msg)
	default:
		complain(c.o.Stderr, "ERROR", tocsin.Printable(err.Error()))
	}
}

// nok is a refusal in the form of fail2ban's server: an exception's arguments for the log, a sentence for the user.
type nok struct{ args, msg string }

func (e *nok) Error() string { return e.msg }

// exception is a nok whose sentence is its only argument.
func exception(format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	return &nok{"(" + quote(msg) + ",)", msg}
}

// incomplete is the refusal of a command that lacks a word.
func incomplete() error {
	return &nok{"('list index out of range',)", "Sorry but the command is invalid"}
}

func noJail(name string) error {
	return &nok{"(" + quote(name) + ",)", "Sorry but the jail '" + tocsin.Printable(name) + "' does not exist"}
}

// jailError turns the guard's answer about a jail that is not there into fail2ban's.
func jailError(name string, err error) error {
	var told *api.Error
	if errors.As(err, &told) && told.Code == api.CodeNoJail {
		return noJail(name)
	}
	return err
}

// do carries out one command and returns what is to be printed.
func (c *client) do(ctx context.Context, w []string) (string, error) {
	switch w[0] {
	case "ping":
		return c.ping(ctx, w[1:])
	case "version":
		_, err := c.guard.Status(ctx)
		return fail2ban.Version, err
	case "echo":
		return strings.Join(w[1:], " "), nil
	case "status":
		return c.status(ctx, w[1:])
	case "stats", "statistics":
		return c.stats(ctx)
	case "banned":
		return c.banned(ctx, w[1:])
	case "unban":
		return c.unban(ctx, w[1:])
	case "get":
		return c.get(ctx, w[1:])
	case "set":
		return c.set(ctx, w[1:])
	case "reload", "restart":
		return c.reload(ctx, w)
	case "flushlogs":
		_, err := c.guard.Reopen(ctx)
		return "logs: rolled over", err
	case "start":
		return c.start(ctx, w[1:])
	case "stop":
		if len(w) > 1 && w[1] != "--all" {
			return "", exception("a jail is stopped in files: say enabled = false in its section of %s, then fail2ban-client reload", c.file("jail.local"))
		}
		return "", exception("the guard is stopped with: systemctl stop tocsin-guard (its bans stay until their end; tocsin off lifts them all)")
	case "add":
		return "", exception("a jail is added in files: write its section into %s, then fail2ban-client reload", c.file("jail.local"))
	}
	return "", exception("Invalid command")
}

func (c *client) file(name string) string { return filepath.Join(c.dir, name) }

func (c *client) ping(ctx context.Context, w []string) (string, error) {
	if len(w) > 0 {
		if s, err := strconv.ParseFloat(w[0], 64); err == nil && s > 0 && s < 3600 {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, time.Duration(s*float64(time.Second)))
			defer stop()
		}
	}
	_, err := c.guard.Status(ctx)
	return "Server replied: pong", err
}

func (c *client) start(ctx context.Context, w []string) (string, error) {
	if len(w) > 0 {
		return "", exception("a jail is started in files: say enabled = true in its section of %s, then fail2ban-client reload", c.file("jail.local"))
	}
	if _, err := c.guard.Status(ctx); err == nil {
		return "", errors.New("Server already running")
	}
	return "", errors.New("the guard is started with: systemctl start tocsin-guard, or tocsin run --fail2ban " + c.dir)
}

// interactive reads commands line by line, as fail2ban-client -i does.
func (c *client) interactive(ctx context.Context, first []string) int {
	if len(first) > 0 {
		if code := c.run(ctx, first); code != exitOK {
			return code
		}
	}
	out := c.o.Stdout
	fmt.Fprintf(out, "%s reads log file that contains password failure report\nand bans the corresponding IP addresses using firewall rules.\n\n", banner(c.o))
	in := bufio.NewScanner(c.o.Stdin)
	for {
		fmt.Fprint(out, "fail2ban> ")
		if !in.Scan() {
			fmt.Fprintln(out)
			return exitOK
		}
		switch line := in.Text(); line {
		case "exit", "quit":
			return exitOK
		case "help":
			usage(out)
		default:
			w, err := words(line)
			if err != nil {
				complain(c.o.Stderr, "ERROR", err.Error())
			} else if len(w) > 0 {
				c.run(ctx, w)
			}
		}
	}
}

// usage is what -h prints: the commands that are answered here.
func usage(w io.Writer) {
	fmt.Fprint(w, `Usage: `+cmp.Or(filepath.Base(os.Args[0]), "fail2ban-client")+` [OPTIONS] <COMMAND>

Fail2Ban v`+fail2ban.Version+`'s client, for the guard of Tocsin.

Options:
    -c, --conf <DIR>        configuration directory
    -s, --socket <FILE>     the guard's socket
    -d                      dump configuration. For debugging
    -t, --test              test configuration (can be also specified with start parameters)
    -i                      interactive mode
    --str2sec <STRING>      convert time abbreviation format to seconds
    -h, --help              display this help message
    -V, --version           print the version (-V returns machine-readable short format)
    -p, -v, -q, -x, -b, -f, --pname, --loglevel, --logtarget, --syslogsocket, --async, --timeout
                            are taken and make no difference

Command:
    status [--all | <JAIL> [basic|short]]    how it stands
    stats                                    the same as a table
    banned [<IP> ... <IP>]                   who is banned, or by which jails
    unban --all | <IP> ... <IP>              lift bans of all jails
    set <JAIL> banip <IP> ... <IP>           ban by hand
    set <JAIL> unbanip [--report-absent] <IP> ... <IP>
    set <JAIL> addignoreip|delignoreip <IP>  until the next reload
    get <JAIL> banip [<SEP>|--with-time]     the banned, by the end of their ban
    get <JAIL> banned [<IP> ... <IP>]
    get <JAIL> bantime|findtime|maxretry|maxmatches|maxlines|usedns|ignoreip|ignoreself|
               ignorecommand|ignorecache|logpath|logencoding|logtimezone|journalmatch|
               datepattern|prefregex|failregex|ignoreregex|bantime.<OPTION>
    get <JAIL> actions | actionproperties <ACT> | action <ACT> <PROPERTY>
    get loglevel|logtarget|syslogsocket|dbfile|dbmaxmatches|dbpurgeage
    reload [--unban] [--if-exists] [<JAIL>|--all]
    ping, version, flushlogs, echo

Other settings are changed in files (jail.local), then: fail2ban-client reload
The guard is started and stopped with: systemctl start|stop tocsin-guard
`)
}
