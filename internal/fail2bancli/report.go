package fail2bancli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tocsin"
)

// report prints the summary.
func (r *regexRun) report() {
	t := r.trial
	r.say("\nResults\n=======")
	if t.prefix != nil {
		lines := []string{tocsin.Printable(t.prefix.expands[0])}
		for _, g := range r.pre {
			lines = append(lines, "    "+g)
		}
		r.say("\nPrefregex: %d total", r.preHit)
		r.list("", lines)
	}
	r.reportRegexes("Failregex", t.fail, r.hits, r.who)
	r.reportRegexes("Ignoreregex", t.ignore, t.ignoreHits, nil)
	if !r.journal || r.has("datepattern") {
		r.reportDates()
	}
	r.say("\nLines: %d lines, %d ignored, %d matched, %d missed", r.tested, r.stats[ignoredLine].n, r.stats[matchedLine].n, r.stats[missedLine].n)
	r.say("[processed in %.2f sec]\n", time.Since(r.started).Seconds())
	for kind := range r.stats {
		if !r.hides[kind] {
			r.reportLines(kind)
		}
	}
}

func (r *regexRun) reportDates() {
	r.say("\nDate template hits:")
	var lines []string
	for _, d := range r.trial.table.templates {
		if r.verbose > 0 || d.hits > 0 {
			lines = append(lines, fmt.Sprintf("[%d] %s", d.hits, tocsin.Printable(d.name)))
		}
	}
	r.list("[# of hits] date format", lines)
}

// list prints lines under a heading.
func (r *regexRun) list(heading string, lines []string) {
	if len(lines) == 0 {
		return
	}
	if heading != "" {
		r.say("|- %s", heading)
	}
	r.say("|  %s\n`-", strings.Join(lines, "\n|  "))
}

func (r *regexRun) reportRegexes(title string, rs *rules, hits []int, who [][]found) {
	total := 0
	var lines []string
	for i, n := range hits {
		total += n
		if n > 0 || r.verbose > 0 {
			lines = append(lines, fmt.Sprintf("%2d) [%d] %s", i+1, n, tocsin.Printable(rs.texts[i])))
		}
		if who != nil {
			for _, f := range who[i] {
				lines = append(lines, "    "+r.foundText(f))
			}
		}
	}
	r.say("\n%s: %d total", title, total)
	r.list(" #) [# of hits] regular expression", lines)
}

func (r *regexRun) foundText(f found) string {
	id, at, again := "None", f.at, ""
	if f.known {
		id = tocsin.Printable(f.id)
	}
	if at.IsZero() {
		at = time.Now()
	}
	if f.again {
		again = " (multiple regex matched)"
	}
	return id + "  " + at.Local().Format("Mon Jan 02 15:04:05 2006") + again
}

func (r *regexRun) reportLines(kind int) {
	s := r.stats[kind]
	name := kindNames[kind]
	header := strings.ToUpper(name[:1]) + name[1:] + " line(s):"
	switch {
	case s.n == 0:
	case s.n < maxShown || r.shows[kind]:
		var lines []string
		for _, l := range s.lines {
			lines = append(lines, printLine(strings.TrimRight(l, " \t\r\n\v\f")))
		}
		r.list(header, lines)
	default:
		r.say("%s too many to print.  Use --print-all-%s to print all %d lines", header, name, s.n)
	}
}

// printFound prints what --out asks for, of each failure of a line.
func (r *regexRun) printFound(all []found) {
	for _, f := range all {
		id := "None"
		if f.known {
			id = f.id
		}
		switch r.out {
		case "id", "fid":
			r.put(id)
		case "ip":
			if ip, ok := f.fail.text("ip"); ok {
				id = ip
			}
			r.put(id)
		case "msg":
			for _, l := range f.fail.lines("matches") {
				r.put(l.whole())
			}
		case "row":
			if f.known {
				id = quote(id)
			}
			fmt.Fprintf(r.w, "[%s,\t%s,\t%s],\n", id, f.stamp(), f.fail.repr("matches"))
		default:
			r.putTags(f, id)
		}
	}
}

func (r *regexRun) put(text string) {
	for s := range strings.SplitSeq(text, "\n") {
		fmt.Fprintln(r.w, printLine(s))
	}
}

// stamp is the time as Python prints it: a float, but for a TAI64N label.
func (f found) stamp() string {
	switch {
	case f.at.IsZero():
		return "None"
	case f.label:
		return strconv.FormatInt(f.at.Unix(), 10)
	}
	return strconv.FormatInt(f.at.Unix(), 10) + ".0"
}

// putTags prints a group, or text with tags in it: <ip> <F-USER>.
func (r *regexRun) putTags(f found, id string) {
	if !strings.Contains(r.out, "<") {
		v, ok := f.fail.values[r.out]
		if s, isText := v.(string); ok && isText {
			r.put(s)
		} else {
			r.put(repr(v))
		}
		return
	}
	lines := f.fail.lines("matches")
	texts := make([]string, len(lines))
	for i, l := range lines {
		texts[i] = l.whole()
	}
	whole := replaceTags(r.out, func(tag string) (string, bool) { return f.tag(tag, id, strings.Join(texts, "\n")) })
	if !strings.Contains(r.out, "<msg>") {
		r.put(whole)
		return
	}
	for _, text := range texts {
		r.put(replaceTags(r.out, func(tag string) (string, bool) {
			if tag == "msg" {
				return text, true
			}
			return f.tag(tag, id, strings.Join(texts, "\n"))
		}))
	}
}

// tag is the value of a tag of actions, as far as one line tells it.
func (f found) tag(tag, id, matches string) (string, bool) {
	ip := id
	if s, ok := f.fail.text("ip"); ok {
		ip = s
	}
	switch tag {
	case "ip":
		return ip, true
	case "fid":
		return id, true
	case "family":
		if strings.Contains(ip, ":") {
			return "inet6", true
		}
		return "inet4", true
	case "time":
		return f.stamp(), true
	case "failures":
		return "0", true // no jail has counted
	case "matches":
		return matches, true
	case "br":
		return "\n", true
	case "sp":
		return " ", true
	}
	if name, ok := strings.CutPrefix(tag, "F-"); ok {
		switch name {
		case "ID":
			return id, true
		case "PORT":
			name = "fport"
		}
		s, _ := f.fail.text(strings.ToLower(name))
		return s, true
	}
	return "", false
}

// replaceTags puts values in the place of <tags>; those that nobody knows stay.
func replaceTags(text string, value func(tag string) (string, bool)) string {
	var b strings.Builder
	for {
		open := strings.IndexByte(text, '<')
		if open < 0 {
			break
		}
		end := strings.IndexByte(text[open:], '>')
		if end < 0 {
			break
		}
		if v, ok := value(text[open+1 : open+end]); ok {
			b.WriteString(text[:open] + v)
			text = text[open+end+1:]
			continue
		}
		b.WriteString(text[:open+1])
		text = text[open+1:]
	}
	return b.String() + text
}
