package main

import (
	"fmt"
	"io"

	"tocsin"
	"tocsin/internal/alert"
	"tocsin/internal/api"
	"tocsin/internal/config"
)

// explainRules lists the rules of warnings as they hold with this machine's configuration, without asking anybody. name is
// "" for all of them.
func (e *env) explainRules(name string) error {
	c, _, err := e.config()
	if err != nil {
		return err
	}
	rules, wrong := alert.Compile(alert.Shipped(), c.Rules)
	if len(wrong) > 0 {
		return wrong
	}
	out := api.Rules{Schema: api.SchemaRules, Rules: []api.Rule{}}
	for _, d := range rules.All() {
		if name == "" || name == d.Name {
			out.Rules = append(out.Rules, ruleOf(&d))
		}
	}
	if len(out.Rules) == 0 {
		return api.Errorf(api.ExitFailed, "tocsin explain rules lists them", fmt.Sprintf("there is no rule %q", name))
	}
	return e.print(out, func(w io.Writer) { printRules(w, out.Rules) })
}

func ruleOf(d *alert.Described) api.Rule {
	r := api.Rule{Name: d.Name, Kind: d.Kind, Enabled: d.Enabled, Own: d.Own, Set: settingsOf(&d.Rule)}
	if d.Own {
		r.Where = d.Pos("").String()
	}
	return r
}

func settingsOf(u *config.Rule) []api.RuleSetting {
	all := []api.RuleSetting{}
	for _, s := range u.Settings() {
		if s.Key != "name" {
			all = append(all, api.RuleSetting(s))
		}
	}
	return all
}

func printRules(w io.Writer, all []api.Rule) {
	for _, r := range all {
		where := "shipped"
		if r.Own {
			where = r.Where
		}
		if !r.Enabled {
			where += ", switched off"
		}
		fmt.Fprintf(w, "[[rule]]  # %s\nname = %q\n", tocsin.Printable(where), r.Name)
		for _, s := range r.Set {
			fmt.Fprintf(w, "%s = %s\n", s.Key, tocsin.Printable(s.Value))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "A [[rule]] of the same name in tocsin.toml changes what it names; see: tocsin explain warnings")
}
