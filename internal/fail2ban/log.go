package fail2ban

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The levels of fail2ban's log that its messages about jails have.
const (
	LogError   = "ERROR"
	LogWarning = "WARNING"
	LogNotice  = "NOTICE"
	LogInfo    = "INFO"
	LogDebug   = "DEBUG"
)

// The parts of fail2ban in whose name its messages are written.
const (
	FromFilter   = "fail2ban.filter"
	FromActions  = "fail2ban.actions"
	FromObserver = "fail2ban.observer"
	FromServer   = "fail2ban.server"
	FromJail     = "fail2ban.jail"
)

// AppendLog appends a line of fail2ban.log with its line end, the local time of at in milliseconds:
//
//	2026-11-22 14:53:48,372 fail2ban.actions        [15757]: NOTICE  [sshd] Ban 192.0.2.10
//
// msg stays one line: what a line cannot hold is written as Go would.
func AppendLog(dst []byte, at time.Time, pid int, component, level, msg string) []byte {
	dst = at.AppendFormat(dst, "2006-01-02 15:04:05")
	dst = fmt.Appendf(dst, ",%03d ", at.Nanosecond()/1e6)
	dst = fmt.Appendf(dst, "%-24s[%d]: %-7s ", component, pid, level)
	return append(append(dst, oneLine(msg)...), '\n')
}

// AppendSyslog appends the same without time, padding and line end, as fail2ban sends it to syslog. The journal gets msg
// alone, under the identifier fail2ban.
func AppendSyslog(dst []byte, pid int, component, level, msg string) []byte {
	return fmt.Appendf(dst, "%s[%d]: %s %s", component, pid, level, oneLine(msg))
}

// oneLine replaces what would end a line or change how it is shown.
func oneLine(s string) string {
	if strings.IndexFunc(s, breaksLine) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case breaksLine(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func breaksLine(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

// maxLogID is how much of an id stands in a message, in bytes.
const maxLogID = 512

// logID is an id as a message says it. The text of an id comes from strangers, and other programs read addresses out of
// the message: jail recidive bans what stands behind "] Ban ". So an id with anything in it that could end the word or
// the bracket before it is quoted, and nothing in quotes looks like an address behind a word.
func logID(id string) string {
	if len(id) > maxLogID {
		id = strings.ToValidUTF8(id[:maxLogID], "") + "..."
	}
	odd := func(r rune) bool {
		return unicode.IsSpace(r) || breaksLine(r) || !unicode.IsGraphic(r) || strings.ContainsRune("[]\"'`", r) || r == utf8.RuneError
	}
	if id == "" || strings.IndexFunc(id, odd) >= 0 {
		return strings.ReplaceAll(strconv.QuoteToASCII(id), " ", `\x20`)
	}
	return id
}

// logTime is a time in a message: local, to the second.
func logTime(at time.Time) string { return at.Format(time.DateTime) }

// The messages that fail2ban writes of a jail, and that recidive, log watchers and people's scripts read. The component
// and the level that each is written with stand behind it.

// LogFound is a failure: FromFilter, LogInfo.
func LogFound(jail, id string, at time.Time) string {
	return "[" + jail + "] Found " + logID(id) + " - " + logTime(at)
}

// LogFoundBad is a failure of an id that was banned former times before and therefore counts for weight ones: FromObserver,
// LogInfo. bans says that the jail bans it for that.
func LogFoundBad(jail, id string, at time.Time, former, weight int, bans bool) string {
	s := fmt.Sprintf("[%s] Found %s, bad - %s, %d # -> %d.0", jail, logID(id), logTime(at), former, weight)
	if bans {
		s += ", Ban"
	}
	return s
}

// LogAttempt is a failure that the client was told of: FromFilter, LogInfo.
func LogAttempt(jail, id string, at time.Time) string {
	return "[" + jail + "] Attempt " + logID(id) + " - " + logTime(at)
}

// LogIgnore is a failure that does not count, by is "ip", "dns", "command" or "ignoreself rule": FromFilter, LogInfo.
func LogIgnore(jail, id, by string) string {
	return "[" + jail + "] Ignore " + logID(id) + " by " + by
}

// LogBan is a ban: FromActions, LogNotice.
func LogBan(jail, id string) string { return "[" + jail + "] Ban " + logID(id) }

// LogExpired is a ban that was over before it began: FromActions, LogInfo.
func LogExpired(jail, id string) string {
	return "[" + jail + "] Ignore " + logID(id) + ", expired bantime"
}

// LogRestoreBan is a ban put in force again after a start: FromActions, LogNotice.
func LogRestoreBan(jail, id string) string { return "[" + jail + "] Restore Ban " + logID(id) }

// LogUnban is the end of a ban: FromActions, LogNotice.
func LogUnban(jail, id string) string { return "[" + jail + "] Unban " + logID(id) }

// LogAlready is a failure that came to maxretry while the ban held: FromActions, LogNotice (LogWarning a minute after it).
func LogAlready(jail, id string) string { return "[" + jail + "] " + logID(id) + " already banned" }

// LogIncreaseBan is the ban number count of an id, which is longer than the first one, until until (zero: without end):
// FromObserver, LogNotice.
func LogIncreaseBan(jail, id string, count int, length time.Duration, until time.Time) string {
	long, end := "permanent", "infinite"
	if !until.IsZero() {
		long, end = SecondsText(length), logTime(until)
	}
	return fmt.Sprintf("[%s] Increase Ban %s (%d # %s -> %s)", jail, logID(id), count, long, end)
}
