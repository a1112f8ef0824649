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
	"os/signal"
	"os/user"
	"runtime/debug"
	"strings"
	"syscall"
	_ "time/tzdata" // time zones of the configuration, also where the machine has none

	"github.com/alecthomas/kong"

	"tocsin/internal/api"
	"tocsin/internal/config"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

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

	Run    runCmd    `cmd:"" help:"Guard this machine."`
	Off    offCmd    `cmd:"" help:"Emergency exit: let everybody in, until tocsin on. Works without a running guard."`
	On     onCmd     `cmd:"" help:"End the emergency exit."`
	Reload reloadCmd `cmd:"" help:"Read the configuration again. A bad one changes nothing."`
	Doctor doctorCmd `cmd:"" help:"What is wrong with the guard itself, and what to type."`

	Replay     replayCmd     `cmd:"" help:"Who would have been banned by old logs."`
	Test       testCmd       `cmd:"" help:"What a filter makes of each line of a file."`
	Check      checkCmd      `cmd:"" help:"Read the configuration and say what it means, or every mistake in it."`
	Explain    explainCmd    `cmd:"" help:"The manual about a word, a setting or a finding, offline."`
	Metrics    metricsCmd    `cmd:"" help:"What the guard counts, in Prometheus' format."`
	Version    versionCmd    `cmd:"" help:"Which version this is."`
	Completion completionCmd `cmd:"" help:"Completion for a shell."`
}

// defaultConfig is read if it is there and no other is named.
const defaultConfig = "/etc/tocsin/tocsin.toml"

// env is what a command is given.
type env struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	flags          *cli
	parser         *kong.Kong
}

// run is main without the process: it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

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
		return report(stderr, false, api.Errorf(api.ExitUsage, "tocsin --help", err.Error()))
	}
	e := &env{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, flags: &c, parser: parser}
	return report(stderr, c.JSON, parsed.Run(e))
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
		_ = json.NewEncoder(stderr).Encode(e)
		return e.Exit
	}
	for line := range strings.Lines(e.Msg) {
		line = strings.TrimRight(line, "\n")
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
	case errors.Is(err, os.ErrNotExist):
		return api.Errorf(api.ExitOpen, "", err.Error())
	}
	return api.Errorf(api.ExitFailed, "", err.Error())
}

// exitError is an exit code of which everything has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// print writes v as one JSON object if that is asked for, or else as text.
func (e *env) print(v any, text func(w io.Writer)) error {
	if !e.flags.JSON {
		text(e.stdout)
		return nil
	}
	enc := json.NewEncoder(e.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// config reads the configuration that the command line names, and lets the command line have the last word.
func (e *env) config() (*config.Config, string, error) {
	path := e.flags.Config
	if path == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			path = defaultConfig
		}
	}
	c := config.Default()
	if path != "" {
		var err error
		if c, err = config.Load(path); err != nil {
			return nil, path, err
		}
	}
	e.adjust(c)
	return c, path, nil
}

// adjust puts the flags over the configuration.
func (e *env) adjust(c *config.Config) {
	fallBack(c)
	if e.flags.State != "" {
		c.State = e.flags.State
	}
	if e.flags.Socket != "" {
		c.Socket = e.flags.Socket
	}
}

// client makes a client for the guard that the command line or the configuration means. A configuration with mistakes
// must not keep anybody from asking.
func (e *env) client() *api.Client {
	c, _, err := e.config()
	if err != nil {
		c = config.Default()
		e.adjust(c)
	}
	return api.NewClient(c.Socket)
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
