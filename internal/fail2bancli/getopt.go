package fail2bancli

import (
	"errors"
	"fmt"
	"strings"
)

// option is one that a command knows.
type option struct {
	short byte   // 0: none
	long  string // "": none
	value bool   // takes one
}

// given is an option of the command line, by its long name, or its short one if it has no other.
type given struct{ name, value string }

// getopt reads a command line as Python's getopt and optparse do: -abc, -oVALUE, --long=VALUE, and long names cut short
// as long as they are clear. mixed allows options behind arguments, as optparse does.
func getopt(args []string, known []option, mixed bool) (opts []given, rest []string, err error) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		next := func() (string, error) {
			if i++; i >= len(args) {
				return "", fmt.Errorf("%s option requires 1 argument", arg)
			}
			return args[i], nil
		}
		switch {
		case arg == "--":
			return opts, append(rest, args[i+1:]...), nil
		case strings.HasPrefix(arg, "--"):
			name, value, has := strings.Cut(arg[2:], "=")
			o, err := longOption(name, known)
			switch {
			case err != nil:
				return nil, nil, err
			case !o.value && has:
				return nil, nil, fmt.Errorf("--%s option does not take a value", o.long)
			case o.value && !has:
				if value, err = next(); err != nil {
					return nil, nil, err
				}
			}
			opts = append(opts, given{o.long, value})
		case len(arg) > 1 && arg[0] == '-':
			more, err := shortOptions(arg[1:], known, next)
			if err != nil {
				return nil, nil, err
			}
			opts = append(opts, more...)
		case !mixed:
			return opts, args[i:], nil
		default:
			rest = append(rest, arg)
		}
	}
	return opts, rest, nil
}

func longOption(name string, known []option) (found option, err error) {
	n := 0
	for _, o := range known {
		if o.long == name {
			return o, nil
		}
		if name != "" && strings.HasPrefix(o.long, name) {
			found, n = o, n+1
		}
	}
	switch n {
	case 0:
		return found, fmt.Errorf("no such option: --%s", name)
	case 1:
		return found, nil
	}
	return found, fmt.Errorf("ambiguous option: --%s", name)
}

// shortOptions reads the letters behind one dash; next is asked for a value that stands in the next argument.
func shortOptions(letters string, known []option, next func() (string, error)) (opts []given, err error) {
	for i := range len(letters) {
		at := -1
		for k, o := range known {
			if o.short == letters[i] {
				at = k
			}
		}
		if at < 0 {
			return nil, fmt.Errorf("no such option: -%c", letters[i])
		}
		o := known[at]
		name := o.long
		if name == "" {
			name = string(o.short)
		}
		if !o.value {
			opts = append(opts, given{name, ""})
			continue
		}
		value := letters[i+1:]
		if value == "" {
			if value, err = next(); err != nil {
				return nil, err
			}
		}
		return append(opts, given{name, value}), nil
	}
	return opts, nil
}

// words splits a line as a shell would, without expanding anything (Python's shlex.split).
func words(line string) ([]string, error) {
	var all []string
	var word strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		b := line[i]
		switch {
		case quote == 0 && (b == ' ' || b == '\t' || b == '\n' || b == '\r'):
			if in {
				all = append(all, word.String())
			}
			word.Reset()
			in = false
			continue
		case quote == 0 && (b == '\'' || b == '"'):
			quote = b
		case quote != 0 && b == quote:
			quote = 0
		case b == '\\' && quote != '\'' && i+1 < len(line) && (quote == 0 || line[i+1] == '"' || line[i+1] == '\\'):
			i++
			word.WriteByte(line[i])
		default:
			word.WriteByte(b)
		}
		in = true
	}
	if quote != 0 {
		return nil, errors.New("no closing quotation")
	}
	if in {
		all = append(all, word.String())
	}
	return all, nil
}
