package fail2ban

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

// actionOptions are the options of an action that fail2ban itself knows, in its order. Every other one is a tag.
var actionOptions = []string{"actionstart", "actionstart_on_demand", "actionstop", "actionflush", "actionreload", "actioncheck",
	"actionrepair", "actionrepair_on_unban", "actionban", "actionprolong", "actionreban", "actionunban", "norestored"}

// actionBools are those that are true or false.
var actionBools = []string{"actionstart_on_demand", "actionrepair_on_unban", "norestored"}

// lateTags are the tags of an action that mean something only once somebody is banned, so that no option of that name takes
// their place before.
var lateTags = []string{"matches", "ipmatches", "ipjailmatches", "timeout", "bantime"}

// Option is the value of an option; ok is false if the action has none of that name. A conditional one is asked for by its
// whole name, "blocktype?family=inet6".
func (a *Action) Option(name string) (v string, ok bool) {
	for _, o := range a.Options {
		if o.Name == name {
			return o.Value, true
		}
	}
	return "", false
}

// readActions reads the actions that list names, seen from a jail with the options jail.
func (j *Jail) readActions(lib *library, list value, jail *dict) error {
	text := list.String()
	specs, offsets, more := splitSpecs(text, maxActions)
	if more {
		return &Error{Pos: j.place(list), Msg: fmt.Sprintf("the jail has more than %d actions", maxActions), Hint: "look for a list that is put in twice"}
	}
	var errs []error
	for i, spec := range specs {
		pos := list[min(strings.Count(text[:offsets[i]], "\n"), len(list)-1)].pos
		a, err := j.readAction(lib, strings.TrimSpace(spec), pos, jail)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		j.addAction(a)
	}
	return errors.Join(errs...)
}

// addAction appends a, under a name that no other action of the jail has.
func (j *Jail) addAction(a *Action) {
	taken := func(name string) bool {
		return slices.ContainsFunc(j.Actions, func(b *Action) bool { return b.Actname == name })
	}
	a.Actname = a.named
	for n := 2; taken(a.Actname); n++ {
		a.Actname = fmt.Sprintf("%s-%d", a.named, n)
	}
	if a.Actname != a.named {
		j.problem(a.Pos, fmt.Sprintf("two actions have the name %s", a.named),
			fmt.Sprintf("this one is called %s; fail2ban would start no jail. Write [actname=...] behind it", a.Actname))
	}
	if a.Python {
		j.problem(a.Pos, fmt.Sprintf("action %s is written in Python, which only fail2ban can run", a.Name), "the jail runs without it")
	}
	j.Actions = append(j.Actions, a)
}

func (j *Jail) readAction(lib *library, spec string, pos Pos, jail *dict) (*Action, error) {
	name, given, err := parseSpec(spec)
	if err != nil {
		j.skip("Invalid action definition %s: %v", PythonValue(spec), err)
		return nil, &Error{Pos: pos, Msg: fmt.Sprintf("action %q: %v", spec, err), Hint: "write it like sendmail[dest=\"me@example.com\"]"}
	}
	opts := dictAt(given, pos)
	a := &Action{Name: name, Pos: pos, Python: strings.HasSuffix(name, ".py")}
	if a.Python {
		a.python(lib, opts)
		return a, nil
	}
	a.nameIn(j.Name, opts)
	c, err := lib.named("action.d", name, "action")
	if err != nil {
		j.skip("Unable to read action %s", PythonValue(name))
		return nil, at(err, pos)
	}
	if c.sections["Definition"] == nil {
		return nil, &Error{Pos: Pos{File: c.files[0], Line: 1}, Msg: fmt.Sprintf("action %s has no section [Definition]", name),
			Hint: "a file that is only included by others is no action"}
	}
	a.Files = c.files
	return a, a.read(newDefinition(c, actionOptions, opts), jail)
}

// nameIn gives the action its two names: name, that of the jail unless it is given, and actname, that of its file, with what
// is special in name behind it.
func (a *Action) nameIn(jail string, opts *dict) {
	name, ok := opts.get("name")
	if !ok {
		name = value{{jail, a.Pos}}
		opts.set("name", name)
	}
	if v, ok := opts.get("actname"); ok {
		a.named = v.String()
		return
	}
	a.named = a.Name
	if n := name.String(); n != jail {
		rest, ok := strings.CutPrefix(n, jail)
		if !ok {
			rest = "-" + n
		}
		a.named += rest
	}
	opts.set("actname", value{{a.named, a.Pos}})
}

func (a *Action) read(d *definition, jail *dict) error {
	if errs := d.read(jail, false); len(errs) > 0 {
		return errors.Join(errs...)
	}
	combined, err := d.combined(lateTags, nil)
	if err != nil {
		return err
	}
	add := func(from *dict, known bool) {
		for _, name := range from.keys {
			v := from.m[name]
			if slices.Contains(actionOptions, name) == known && !strings.HasPrefix(name, "known/") {
				a.Options = append(a.Options, Option{Name: name, Value: v.String(), Pos: v[0].pos})
			}
		}
	}
	add(combined, true)
	add(d.given, false)
	return nil
}

// python makes an action of a file that holds a class. Its options are the arguments of the class.
func (a *Action) python(lib *library, opts *dict) {
	a.Files = []string{path.Join(lib.dir, "action.d", a.Name)}
	a.named = strings.TrimSuffix(a.Name, ".py")
	for _, name := range opts.keys {
		if name == "actname" {
			a.named = opts.m[name].String()
			continue
		}
		a.Options = append(a.Options, Option{Name: name, Value: opts.m[name].String(), Pos: a.Pos})
	}
}

// json writes the options as Python's json.dumps does.
func (a *Action) json() string {
	var b strings.Builder
	for i, o := range a.Options {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(jsonText(o.Name) + ": " + jsonText(o.Value))
	}
	return "{" + b.String() + "}"
}

func jsonText(s string) string {
	var plain strings.Builder
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("BUG: " + err.Error())
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(plain.String(), "\n") {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		}
	}
	return b.String()
}

// at puts a place in front of an error that has none.
func at(err error, pos Pos) error {
	var e *Error
	switch {
	case !errors.As(err, &e):
		return &Error{Pos: pos, Msg: err.Error()}
	case e.Pos.Line == 0: // a file that does not exist: who names it matters more
		return &Error{Pos: pos, Msg: e.Msg + " " + e.Pos.File, Hint: e.Hint}
	}
	return err
}
