package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (*completionCmd) Help() string {
	return "Example: tocsin completion bash > /etc/bash_completion.d/tocsin"
}

// completion is what `tocsin completion --json` prints.
type completion struct {
	Schema string `json:"schema"`
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func (c *completionCmd) Run(e *env) error {
	var script strings.Builder
	commands, common := e.parser.Model.Children, e.parser.Model.Flags
	switch c.Shell {
	case "bash":
		completeBash(&script, commands, common)
	case "zsh":
		fmt.Fprintln(&script, "#compdef tocsin\nautoload -U +X bashcompinit && bashcompinit")
		completeBash(&script, commands, common)
	case "fish":
		completeFish(&script, commands, common)
	}
	out := completion{Schema: "tocsin.completion/1", Shell: c.Shell, Script: script.String()}
	return e.print(out, func(w io.Writer) { fmt.Fprint(w, out.Script) })
}

// bannedNow prints who is banned, for a shell.
const bannedNow = `tocsin bans 2>/dev/null | awk '$1 ~ /^[0-9a-f:.\/]+[.:]/ {print $1}'`

// addressCommands take an address; those that are banned are offered.
const addressCommands = "why|unban"

func completeBash(w io.Writer, commands []*kong.Node, common []*kong.Flag) {
	fmt.Fprint(w, `_tocsin() {
	local cur=${COMP_WORDS[COMP_CWORD]} cmd="" i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in -*) ;; *) cmd=${COMP_WORDS[i]}; break ;; esac
	done
	local words
	case $cmd in
`)
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
		fmt.Fprintf(w, "	%s) words=%q ;;\n", c.Name, strings.Join(append(flagNames(c.Flags), argWords(c)...), " "))
	}
	fmt.Fprintf(w, "	*) words=%q ;;\n", strings.Join(append(names, flagNames(common)...), " "))
	fmt.Fprintf(w, `	esac
	case $cmd in
	%s) [[ $cur == -* ]] || words=$(%s) ;;
	replay|test|check) [[ $cur == -* ]] || { COMPREPLY=($(compgen -f -- "$cur")); return; } ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _tocsin tocsin
`, addressCommands, bannedNow)
}

func completeFish(w io.Writer, commands []*kong.Node, common []*kong.Flag) {
	for _, f := range common {
		fmt.Fprintf(w, "complete -c tocsin -l %s -d %s\n", f.Name, fishQuote(f.Help))
	}
	for _, c := range commands {
		fmt.Fprintf(w, "complete -c tocsin -n __fish_use_subcommand -f -a %s -d %s\n", c.Name, fishQuote(c.Help))
		for _, f := range c.Flags {
			fmt.Fprintf(w, "complete -c tocsin -n '__fish_seen_subcommand_from %s' -l %s -d %s\n", c.Name, f.Name, fishQuote(f.Help))
		}
	}
	for _, name := range strings.Split(addressCommands, "|") {
		fmt.Fprintf(w, "complete -c tocsin -n '__fish_seen_subcommand_from %s' -f -a \"(%s)\"\n", name, strings.ReplaceAll(bannedNow, "$", `\$`))
	}
}

func flagNames(flags []*kong.Flag) []string {
	var out []string
	for _, f := range flags {
		if !f.Hidden {
			out = append(out, "--"+f.Name)
		}
	}
	return out
}

// argWords are the values that a command's argument may take, if they are fixed.
func argWords(c *kong.Node) []string {
	var out []string
	for _, a := range c.Positional {
		out = append(out, a.EnumSlice()...)
	}
	return out
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
