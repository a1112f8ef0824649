package fail2ban

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Values are what the tags of a command stand for at one ban: "ip", "failures", "matches", and "F-USER" and its like for
// the named groups of the filter ("F-ID" and "F-PORT" for fid and fport). They come from logs, so any text is possible.
type Values map[string]string

// Script is a command for sh -c: Text is its second argument, Args are the ones behind it, which Text refers to.
type Script struct {
	Text string
	Args []string // none of them with a NUL; in all at most 1 MiB
}

// The bounds of a script: Linux takes 128 KiB in one argument, and 2 MiB in all.
const (
	maxScript     = 128<<10 - 1
	maxArg        = 64 << 10 // what is longer is cut
	maxArgs       = 1 << 20
	maxTagRounds  = 25 // how often one tag may be replaced in one option, as in fail2ban
	actionTimeout = 60 * time.Second
)

// dynamicTags are known when something is banned. A tag that Values does not have becomes this text: an action that
// starts knows no address.
var dynamicTags = map[string]string{
	"ip": "", "family": "", "ip-rev": "", "ip-host": "", "fid": "", "failures": "0", "time": "", "bantime": "",
	"bancount": "0", "restored": "0", "matches": "", "ipmatches": "", "ipjailmatches": "", "ipfailures": "0",
	"ipjailfailures": "0", "raw-ticket": "", "jail.banned": "0", "jail.banned_total": "0", "jail.found": "0",
	"jail.found_total": "0", "fq-hostname": "", "sh-hostname": "",
}

// logTags hold lines of logs. An option of that name is not looked into, and escaped where it is put in.
var logTags = []string{"matches", "ipmatches", "ipjailmatches"}

// Command is one command of the action, such as "actionban", for one address family ("inet4", "inet6"; "" where the
// action does not tell them apart), with its tags put in. ok is false if the action has none by that name: nothing is
// to be run.
//
// Options of the action are put in as text, one inside the other; they were written by root. Values are put in last and
// only once. A value that is more than a plain word does not become part of the text: it is an argument of the script,
// and the text gets a variable, quoted as its place demands. fail2ban does the same, but leaves out the quotes, so that
// a variable outside of them is split and matched against file names, and one in single quotes is not seen at all.
// Where no quoting makes a value safe, such as inside a program for awk or in arithmetic, only a plain word is taken and
// anything else is an error. Errors are of type *Error.
//
// A script that calls mail(1) gets its values with a blank before each tilde: a line that begins with ~! is a command to
// mailutils (CVE-2021-32749). What such a script pipes there by itself, an answer of whois for one, is out of reach here;
// Debian's own actions call mail -E 'set escape' for it.
func (a *Action) Command(name, family string, v Values) (s Script, ok bool, err error) {
	pos := a.Pos
	if o := a.option(name, family); o != nil {
		pos = o.Pos
	}
	text, err := a.static(name, family)
	if err != nil || strings.TrimSpace(text) == "" {
		return Script{}, false, err
	}
	if _, ok := v["family"]; !ok && family != "" {
		with := Values{"family": family}
		for tag, value := range v {
			with[tag] = value
		}
		v = with
	}
	s, msg := script(text, v)
	if msg != "" {
		return Script{}, false, &Error{Pos: pos, Msg: name + " of " + a.Name + ": " + msg,
			Hint: "give the value to the program as an argument of its own, or on its standard input"}
	}
	return s, true, nil
}

// OnDemand says whether the action starts at the first ban of each address family, and not with the jail.
func (a *Action) OnDemand() bool {
	if o := a.option("actionstart_on_demand", ""); o != nil {
		return isTrue(o.Value)
	}
	return slices.ContainsFunc(a.Options, func(o Option) bool {
		_, cond := cutCondition(o.Name)
		return strings.HasPrefix(cond, "?family=")
	})
}

// Wants says whether a command of the action has this tag, so that nobody has to look up what is not wanted.
func (a *Action) Wants(tag string) bool {
	for _, o := range a.Options {
		name, _ := cutCondition(o.Name)
		if !strings.HasPrefix(name, "action") {
			continue
		}
		for _, family := range []string{"inet4", "inet6"} {
			text, err := a.static(name, family)
			if err != nil || strings.Contains(text, "<"+tag+">") {
				return true
			}
		}
	}
	return false
}

// Timeout is how long one command of the action may take; a minute if the action does not say.
func (a *Action) Timeout() (time.Duration, error) {
	o := a.option("timeout", "")
	if o == nil || strings.TrimSpace(o.Value) == "" {
		return actionTimeout, nil
	}
	d, err := Seconds(strings.TrimSpace(o.Value))
	if err != nil {
		return 0, &Error{Pos: o.Pos, Msg: "timeout of " + a.Name + ": " + err.Error()}
	}
	return d, nil
}

// Norestored says whether the action is left out for bans that were in force before a restart.
func (a *Action) Norestored() bool {
	o := a.option("norestored", "")
	return o != nil && isTrue(o.Value)
}

// isTrue reads a truth value of fail2ban: what is none of these words is false.
func isTrue(s string) bool {
	return slices.Contains([]string{"1", "on", "true", "yes"}, strings.ToLower(strings.TrimSpace(s)))
}

// option is the option that holds for a family; nil if nobody defines it. The last of a name wins.
func (a *Action) option(name, family string) *Option {
	var plain *Option
	for i := len(a.Options) - 1; i >= 0; i-- {
		switch o := &a.Options[i]; {
		case family != "" && o.Name == name+"?family="+family:
			return o
		case o.Name == name && plain == nil:
			plain = o
		}
	}
	return plain
}

// static is a command with the tags replaced that are options of the action.
func (a *Action) static(name, family string) (string, error) {
	if a.option(name, family) == nil {
		return "", nil
	}
	t := &staticTags{family: family, action: a, busy: map[string]bool{}, done: map[string]string{}}
	text, msg := t.expand("<" + name + ">")
	if msg != "" {
		return "", &Error{Pos: a.option(name, family).Pos, Msg: name + " of " + a.Name + ": " + msg}
	}
	return text, nil
}

// staticTags puts options into one another (substituteRecursiveTags).
type staticTags struct {
	action *Action
	family string
	busy   map[string]bool // being replaced: meeting one again is a loop
	done   map[string]string
	size   int
}

func (t *staticTags) expand(text string) (_, problem string) {
	rounds := map[string]int{}
	for from := 0; ; {
		start, end := innermost(text, from)
		if start < 0 {
			return text, ""
		}
		tag := text[start+1 : end-1]
		repl, ok, problem := t.lookup(tag)
		if problem != "" {
			return "", problem
		}
		if !ok {
			from = end
			continue
		}
		if rounds[tag]++; rounds[tag] > maxTagRounds && strings.Contains(repl, "<") {
			return "", fmt.Sprintf("<%s> is replaced again and again", tag)
		}
		if t.size += len(repl); t.size > maxValue || len(text) > maxValue {
			return "", fmt.Sprintf("the tags grow over %d bytes", maxValue)
		}
		text = text[:start] + repl + text[end:]
		from = max(0, strings.LastIndexByte(text[:start], '<')) // it may complete a tag that began before it
	}
}

// lookup finds the text that a tag stands for; ok is false for those that are no option.
func (t *staticTags) lookup(tag string) (text string, ok bool, problem string) {
	o := t.action.option(tag, t.family)
	switch {
	case tag == "br" && o == nil:
		return "\n", true, ""
	case tag == "sp" && o == nil:
		return " ", true, ""
	case tag == "timeout":
		d, err := t.action.Timeout()
		if err != nil {
			return "", false, err.Error()
		}
		return strconv.FormatInt(int64(d/time.Second), 10), true, ""
	case o == nil || tag == "bantime": // bantime is that of the ban, whatever the action says
		return "", false, ""
	case slices.Contains(logTags, tag):
		return escapeShell(o.Value), true, ""
	case t.busy[tag]:
		return "", false, fmt.Sprintf("<%s> leads back to itself", tag)
	}
	if done, ok := t.done[tag]; ok {
		return done, true, ""
	}
	t.busy[tag] = true
	defer delete(t.busy, tag)
	text, problem = t.expand(o.Value)
	t.done[tag] = text
	return text, problem == "", problem
}

// shellSpecial are the characters that fail2ban never lets become part of a command.
const shellSpecial = "\\#&;`|*?~<>^()[]{}$'\"\n\r"

// escapeShell puts a backslash before each special character (CommandAction.escapeTag).
func escapeShell(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		default:
			if strings.IndexByte(shellSpecial, c) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
	}
	return b.String()
}

// script puts values into a command. The second answer says what is wrong, "" if nothing is.
func script(text string, v Values) (Script, string) {
	text = strings.NewReplacer("<br>", "\n", "<sp>", " ").Replace(text)
	q := &quoter{text: text, values: v, mail: callsMail(text), names: map[string]string{}}
	q.stack = []frame{{kind: inCommand}}
	for q.i < len(q.text) && q.problem == "" && q.out.Len() <= maxScript {
		q.step()
	}
	if q.problem != "" {
		return Script{}, q.problem
	}
	s := Script{Text: q.out.String(), Args: q.args}
	if len(s.Args) > 0 {
		s.Text = q.assignments() + "\n" + s.Text
	}
	size := 0
	for _, arg := range s.Args {
		size += len(arg)
	}
	if len(s.Text) > maxScript || size > maxArgs {
		return Script{}, fmt.Sprintf("the command is longer than %d bytes, or its values than %d", maxScript, maxArgs)
	}
	return s, ""
}

// argument is a value as it can be handed to a program: without NUL, and not too long.
func argument(value string, mail bool) string {
	value = strings.ReplaceAll(value, "\x00", "")
	if mail {
		// printf %b, and echo in dash, would turn \n and \176 into what is kept out here.
		value = strings.NewReplacer("~", " ~", `\`, `\\`).Replace(value)
	}
	if len(value) <= maxArg {
		return value
	}
	n := maxArg
	for n > maxArg-utf8.UTFMax && !utf8.RuneStart(value[n]) {
		n--
	}
	return value[:n]
}

// callsMail says whether a command may hand text to mail(1), which takes commands from its input.
func callsMail(text string) bool {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !isWord(r) && r != '-' && r != '.'
	})
	return slices.ContainsFunc(words, func(w string) bool {
		return slices.Contains([]string{"mail", "Mail", "mailx", "bsd-mailx", "nail", "s-nail", "mail.mailutils", "heirloom-mailx"}, w)
	})
}
