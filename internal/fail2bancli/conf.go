package fail2bancli

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
	"tocsin/internal/filter"
)

// config reads the folder of the configuration, once.
func (c *client) config() (*fail2ban.Config, error) {
	if c.conf != nil {
		return c.conf, nil
	}
	conf, err := fail2ban.Load(fail2ban.LoadOptions{Dir: c.dir})
	if err != nil {
		return nil, err
	}
	c.conf = conf
	return conf, nil
}

// showConfig answers -d and -t. What is not as the files say goes to standard error, with its place.
func (c *client) showConfig(dump, test bool) int {
	conf, err := c.config()
	if err != nil {
		fmt.Fprintf(c.o.Stdout, "ERROR: %s\n", printableText(err.Error()))
		complain(c.o.Stderr, "ERROR", "Init of command line failed")
		return exitFail
	}
	broken := c.problems(conf)
	if dump {
		for _, command := range conf.Stream() {
			fmt.Fprintln(c.o.Stdout, fail2ban.PythonValue(command))
		}
	}
	switch {
	case test && broken:
		complain(c.o.Stderr, "ERROR", "ERROR: test configuration failed")
		return exitFail
	case test:
		fmt.Fprintln(c.o.Stdout, "OK: configuration test is successful")
	}
	return exitOK
}

// problems tells what is wrong with a configuration, and whether a jail cannot run for it.
func (c *client) problems(conf *fail2ban.Config) (broken bool) {
	tell := func(all []fail2ban.Problem) {
		for _, p := range all {
			complain(c.o.Stderr, "WARNING", tocsin.Printable(fmt.Sprintf("%s: %s; %s", p.Pos, p.Msg, p.Instead)))
		}
	}
	tell(conf.Problems)
	for _, j := range conf.Jails {
		tell(j.Problems)
		err := j.Err
		if err == nil {
			err = compiles(j)
		}
		if err == nil {
			continue
		}
		broken = true
		for line := range strings.Lines(err.Error()) {
			complain(c.o.Stderr, "ERROR", tocsin.Printable(strings.TrimRight(line, "\n")))
		}
		complain(c.o.Stderr, "ERROR", "Errors in jail "+quote(j.Name)+". Skipping...")
	}
	return broken
}

// compiles tells whether the guard can take the filter of a jail. fail2ban does not look at expressions before it uses
// them, and calls a test successful that no server starts with.
func compiles(j *fail2ban.Jail) error {
	if len(j.Filter.Failregex) == 0 {
		return nil
	}
	def := j.Filter
	def.Name = cmp.Or(def.Name, j.Name) // failregex stands in the jail itself
	_, err := filter.Compile(def)
	return err
}

// isFloat recognises times that Python works out as a float: months, years, fractions.
var isFloat = regexp.MustCompile(`(?i)[./]|\d\s*(?:y|mo)`)

// seconds answers --str2sec.
func (c *client) seconds(text string) int {
	d, err := fail2ban.Seconds(text)
	if err != nil {
		fmt.Fprintf(c.o.Stdout, "ERROR: %s\n", tocsin.Printable(err.Error()))
		complain(c.o.Stderr, "ERROR", "Init of command line failed")
		return exitFail
	}
	if isFloat.MatchString(text) {
		fmt.Fprintln(c.o.Stdout, fail2ban.PythonValue(d.Seconds()))
	} else {
		fmt.Fprintln(c.o.Stdout, whole(d.Seconds()))
	}
	return exitOK
}

// growth answers "get JAIL bantime.OPTION", which the configuration tells.
func (c *client) growth(j *api.JailDetail, option string) (string, error) {
	if option == "increment" {
		if j.Growing {
			return "True", nil
		}
		return "None", nil
	}
	conf, err := c.config()
	if err != nil {
		return "", err
	}
	for _, jail := range conf.Jails {
		if jail.Name == j.Name && jail.Growth != nil {
			return growthValue(jail.Growth, option)
		}
	}
	return "None", nil
}

func growthValue(g *fail2ban.Growth, option string) (string, error) {
	length := func(d time.Duration) string {
		if d == 0 {
			return "None"
		}
		return whole(d.Seconds())
	}
	switch option {
	case "factor":
		return tocsin.Printable(cmp.Or(g.Factor, "None")), nil
	case "formula":
		return tocsin.Printable(cmp.Or(g.Formula, "None")), nil
	case "multipliers":
		return tocsin.Printable(cmp.Or(g.Multipliers, "None")), nil
	case "maxtime":
		return length(g.Maxtime), nil
	case "rndtime":
		return length(g.Rndtime), nil
	case "overalljails":
		if g.Overalljails {
			return "True", nil
		}
		return "None", nil
	}
	return "", errors.New("no setting is named bantime." + option)
}
