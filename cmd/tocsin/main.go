// Command tocsin guards a server: it reads its logs, bans who attacks it, and tells why.
//
// This package is the door: the command line, one file a command, and the exit codes. What the commands do lies in the
// rooms behind it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // time zones of the configuration, also where the machine has none

	"github.com/alecthomas/kong"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/config"
	"tocsin/internal/source"
)

func main() {
	forgetStart()
	os.Exit(runAs(os.Args[0], os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// cli is the whole command line. The help texts are what people read first: each says what the command answers.
type cli struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration (default ${config}, if it is there)."`
	State  string `placeholder:"DIR" help:"Folder of what must survive (default /var/lib/tocsin)."`
	Socket string `placeholder:"PATH" help:"The guard's socket (default /run/tocsin/guard.sock)."`
	JSON   bool   `name:"json" help:"One JSON object instead of text. Its fields are a promise: see the manual."`

	Status statusCmd `cmd:"" default:"1" help:"What is going on (also: tocsin alone)."`
	Why    whyCmd    `cmd:"" help:"Why an address is banned, or what is known of it."`
	Bans   bansCmd   `cmd:"" help:"Who is banned, or was."`
	Ban    banCmd    `cmd:"" help:"Ban by hand."`
	Unban  unbanCmd  `cmd:"" help:"Lift bans."`
	Allow  allowCmd  `cmd:"" help:"Never ban an address; without an address, the allow list."`

	Run     runCmd     `cmd:"" help:"Guard this machine."`
	Restore restoreCmd `cmd:"" help:"Put bans and lists into the firewall again, as the last guard left them, and end. For the boot."`
	Off     offCmd     `cmd:"" help:"Emergency exit: let everybody in, until tocsin on. Works without a running guard."`
	On      onCmd      `cmd:"" help:"End the emergency exit."`
	Reload  reloadCmd  `cmd:"" help:"Read the configuration again. A bad one changes nothing."`
	Doctor  doctorCmd  `cmd:"" help:"What is wrong with the guard itself, and what to type."`

	Import importCmd `cmd:"" help:"Take over what fail2ban or Munin knows."`
	Diff   diffCmd   `cmd:"" help:"Who fail2ban and Tocsin would each ban, and why they differ."`

	Alerts  alertsCmd  `cmd:"" help:"What is wrong with the servers, and who looks after it."`
	Silence silenceCmd `cmd:"" help:"Tell nothing of a server, a group or a rule for a time."`
	Night   nightCmd   `cmd:"" help:"What happened since yesterday evening."`

	Servers  serversCmd  `cmd:"" help:"All servers that are supervised."`
	Server   serverCmd   `cmd:"" help:"What is measured on a server, now."`
	Probes   probesCmd   `cmd:"" help:"What is read on this machine, what it costs, what doubles it."`
	MuninRun muninRunCmd `cmd:"" name:"munin-run" help:"Run one of Munin's plugins as it is run for the graphs."`
	Query    queryCmd    `cmd:"" help:"Ask the store of samples in PromQL."`
	Graph    graphCmd    `cmd:"" help:"Draw a service in the terminal, or write it as CSV."`
	Token    tokenCmd    `cmd:"" help:"Who may ask over the network."`
	User     userCmd     `cmd:"" help:"Who may see the pages."`
	Notify   notifyCmd   `cmd:"" help:"Who is told of warnings, and whether that works."`

	Reputation reputationCmd `cmd:"" help:"Other people's lists, and what they are told."`
	Hub        hubCmd        `cmd:"" help:"Run a hub that speaks AbuseIPDB's language, and look after its members."`
	Watch      watchCmd      `cmd:"" help:"Fetch the lists and send the reports. The guard starts it itself where it can."`

	Replay     replayCmd     `cmd:"" help:"Who would have been banned by old logs."`
	Test       testCmd       `cmd:"" help:"What a filter makes of each line of a file."`
	Check      checkCmd      `cmd:"" help:"Read the configuration and say what it means, or every mistake in it."`
	Explain    explainCmd    `cmd:"" help:"The manual about a word, a setting or a finding, offline."`
	Metrics    metricsCmd    `cmd:"" help:"What the guard counts, in Prometheus' format."`
	Runner     runnerCmd     `cmd:"" help:"Run the commands of fail2ban's actions for the guard, which starts it itself where it can."`
	Resolver   resolverCmd   `cmd:"" hidden:""`
	Starter    starterCmd    `cmd:"" hidden:""`
	Version    versionCmd    `cmd:"" help:"Which version this is."`
	Completion completionCmd `cmd:"" help:"Completion for a shell."`
}

// env is what a command is given.
type env struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	flags          *cli
	fail2ban       string // the command's --fail2ban, over that of the configuration
	parser         *kong.Kong
}

// run is main without the process: it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c,
		kong.Name("tocsin"),
		kong.Description("Guards a server: bans who attacks it, and tells why.\n\nThe emergency exit is: tocsin off"),
		kong.Vars{"config": defaultConfig},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
	)
	if err != nil {
		panic("BUG: command line: " + err.Error())
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		return report(stderr, asksForJSON(args), usageError(err))
	}
	e := &env{ctx: context.Background(), stdin: stdin, stdout: stdout, stderr: stderr, flags: &c, parser: parser}
	if err := parsed.BindToProvider(e.client); err != nil {
		panic("BUG: command line: " + err.Error())
	}
	return report(stderr, c.JSON, parsed.Run(e))
}

// usageError sends whoever mistyped a command to the help of that command.
func usageError(err error) *api.Error {
	hint := "tocsin --help"
	var mistake *kong.ParseError
	if errors.As(err, &mistake) {
		if cmd := mistake.Context.Selected(); cmd != nil {
			if cmd.Parent != nil && cmd.Parent.DefaultCmd == cmd { // it was not named
				cmd = cmd.Parent
			}
			hint = cmd.FullPath() + " --help"
		}
	}
	return api.Errorf(api.ExitUsage, hint, err.Error())
}

// asksForJSON says whether a command line that cannot be read asks for JSON: a script wants its mistakes so too.
func asksForJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json") || slices.Contains(args, "--json=true")
}

// report tells an error to a person, or to a script, and returns the exit code that belongs to it.
func report(stderr io.Writer, asJSON bool, err error) int {
	if err == nil {
		return api.ExitDone
	}
	var silent exitError
	if errors.As(err, &silent) {
		return int(silent)
	}
	e := errorOf(err)
	if asJSON {
		_ = encode(stderr, e)
		return e.Exit
	}
	for line := range strings.Lines(e.Msg) {
		line = tocsin.Printable(strings.TrimRight(line, "\n"))
		if !strings.HasPrefix(line, "  ") {
			line = "tocsin: " + line
		}
		fmt.Fprintln(stderr, line)
	}
	if e.Hint != "" {
		fmt.Fprintf(stderr, "  hint: %s\n", e.Hint)
	}
	return e.Exit
}

// errorOf finds the exit code of an error: the one table of docs/manual/cli.md.
func errorOf(err error) *api.Error {
	var e *api.Error
	var mistakes config.Errors
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &mistakes):
		return api.Errorf(api.ExitFindings, "", mistakes.Error())
	case errors.Is(err, os.ErrPermission):
		return api.Errorf(api.ExitPermission, "try again with sudo", err.Error())
	case errors.Is(err, source.ErrDamaged):
		return api.Errorf(api.ExitData, "", err.Error())
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.EISDIR):
		return api.Errorf(api.ExitOpen, "", err.Error())
	}
	return api.Errorf(api.ExitFailed, "", err.Error())
}

// exitError is an exit code of which everything has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// warn tells of something that is not as it should be, while the command goes on.
func (e *env) warn(msg string) {
	if e.flags.JSON {
		_ = encode(e.stderr, struct {
			Schema  string `json:"schema"`
			Warning string `json:"warning"`
		}{"tocsin.warning/1", msg})
		return
	}
	fmt.Fprintf(e.stderr, "tocsin: warning: %s\n", tocsin.Printable(msg))
}

// print writes v as one JSON object if that is asked for, or else as text.
func (e *env) print(v any, text func(w io.Writer)) error {
	if !e.flags.JSON {
		text(e.stdout)
		return nil
	}
	return encode(e.stdout, v)
}

// encode writes v as one line of JSON.
func encode(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// whoami names the person at the keyboard, for the record of who did what.
func whoami() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if sudo := os.Getenv("SUDO_USER"); sudo != "" && os.Getuid() == 0 {
		name += " (sudo by " + sudo + ")"
	}
	return name
}

// release is the version that CHANGELOG.md describes on top.
const release = "0.1.0"

// version says what was built: the release, and the commit where git told the compiler.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return release
	}
	var commit, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			commit = "+" + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "-changed"
		}
	}
	if commit == "" {
		return release
	}
	return release + commit + changed
}
