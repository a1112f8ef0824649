package source

import (
	"bytes"
	"time"
)

// appendSyslog writes a syslog message to dst as a log file would have it, "HOST IDENT[PID]: TEXT", and answers the time
// that the message claims, or now if it claims none. Both formats are read: RFC 5424, and RFC 3164 as far as programs
// keep to it (the C library sends no host, rsyslog an ISO date). The peer stands in for a host that is missing. ok is
// false if msg follows neither; then all of it is text.
//
// Structured data is left out: no filter asks for it, and its values would let a sender put anything before the text.
func appendSyslog(dst, msg, peer []byte, now time.Time, loc *time.Location) (out []byte, at time.Time, ok bool) {
	msg = bytes.TrimRight(msg, "\r\n\x00")
	rest, ok := cutPriority(msg)
	if !ok {
		return appendPlain(dst, msg, peer), now, false
	}
	if body, found := bytes.CutPrefix(rest, []byte("1 ")); found {
		if out, at, ok := append5424(dst, body, peer, now); ok {
			return out, at, true
		}
		return appendPlain(dst, rest, peer), now, false
	}
	at, rest, ok = cutDate(rest, now, loc)
	if !ok {
		return appendPlain(dst, rest, peer), now, true // RFC 3164, 4.3.2: no date means all of it is the message
	}
	if first, _, _ := bytes.Cut(rest, []byte{' '}); bytes.HasSuffix(first, []byte{':'}) {
		return appendPlain(dst, rest, peer), at, true
	}
	return appendEscaped(dst, rest), at, true
}

func appendPlain(dst, text, peer []byte) []byte {
	dst = append(append(dst, peer...), ' ')
	return appendEscaped(dst, text)
}

// cutPriority takes "<0>" to "<191>" from the front.
func cutPriority(msg []byte) (rest []byte, ok bool) {
	if len(msg) == 0 || msg[0] != '<' {
		return msg, false
	}
	end := bytes.IndexByte(msg[:min(len(msg), 5)], '>')
	if end < 0 {
		return msg, false
	}
	if n, ok := decimal(msg[1:end]); !ok || n > 191 {
		return msg, false
	}
	return msg[end+1:], true
}

// append5424 reads what follows "<PRI>1 ": TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [MSG]
// (https://www.rfc-editor.org/rfc/rfc5424#section-6).
func append5424(dst, b, peer []byte, now time.Time) (out []byte, at time.Time, ok bool) {
	var fields [5][]byte
	for i := range fields {
		if fields[i], b, ok = bytes.Cut(b, []byte{' '}); !ok || len(fields[i]) == 0 {
			return nil, now, false
		}
		if string(fields[i]) == "-" {
			fields[i] = nil
		}
	}
	date, host, app, pid := fields[0], fields[1], fields[2], fields[3]
	if at = now; date != nil {
		if at, ok = isoDate(date); !ok {
			return nil, now, false
		}
	}
	if b, ok = cutStructured(b); !ok {
		return nil, now, false
	}
	if host == nil {
		host = peer
	}
	dst = appendEscaped(dst, host)
	dst = append(dst, ' ')
	if app != nil {
		dst = appendEscaped(dst, app)
		if pid != nil {
			dst = append(dst, '[')
			dst = appendEscaped(dst, pid)
			dst = append(dst, ']')
		}
		dst = append(dst, ": "...)
	}
	return appendEscaped(dst, bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))), at, true
}

// cutStructured takes "-" or "[id name="value" ..][..]" and the space behind it from the front.
func cutStructured(b []byte) (msg []byte, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	} else {
		elements := 0
		for ; len(b) > 0 && b[0] == '['; elements++ {
			end := elementEnd(b)
			if end < 0 {
				return nil, false
			}
			b = b[end+1:]
		}
		if elements == 0 {
			return nil, false
		}
	}
	if len(b) == 0 {
		return b, true
	}
	return b[1:], b[0] == ' '
}

// elementEnd finds the bracket that closes an element. Within quotes it needs a backslash before it, as quotes do.
func elementEnd(b []byte) int {
	quoted := false
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ']' && !quoted:
			return i
		}
	}
	return -1
}

// cutDate takes a date and the space behind it from the front: "Nov  1 00:00:00" in loc, or ISO 8601 with its zone.
func cutDate(b []byte, now time.Time, loc *time.Location) (at time.Time, rest []byte, ok bool) {
	const bsd = len("Nov  1 00:00:00")
	if len(b) > bsd && b[bsd] == ' ' {
		if at, ok := bsdDate(b[:bsd], now, loc); ok {
			return at, b[bsd+1:], true
		}
	}
	first, rest, _ := bytes.Cut(b, []byte{' '})
	if at, ok := isoDate(first); ok {
		return at, rest, true
	}
	return now, b, false
}

func isoDate(b []byte) (at time.Time, ok bool) {
	if len(b) < len("2006-01-02T15:04:05Z") || len(b) > len("2006-01-02T15:04:05.999999999+00:00") || b[10] != 'T' {
		return at, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(b))
	return at, err == nil
}

// bsdDate reads "Nov  1 00:00:00", which has no year: the latest one in which it is at most a day after now.
func bsdDate(b []byte, now time.Time, loc *time.Location) (at time.Time, ok bool) {
	if len(b) != len("Nov  1 00:00:00") || b[3] != ' ' || b[6] != ' ' || b[9] != ':' || b[12] != ':' {
		return at, false
	}
	month := bytes.Index([]byte("JanFebMarAprMayJunJulAugSepOctNovDec"), b[:3])
	if month < 0 || month%3 != 0 {
		return at, false
	}
	day, ok1 := decimal(bytes.TrimLeft(b[4:6], " "))
	hour, ok2 := decimal(b[7:9])
	minute, ok3 := decimal(b[10:12])
	second, ok4 := decimal(b[13:15])
	if !ok1 || !ok2 || !ok3 || !ok4 || hour > 23 || minute > 59 || second > 60 {
		return at, false
	}
	newest := now.In(loc).Year() + 1
	for year := newest; year > newest-9; year-- { // 29 February may be eight years away
		at := time.Date(year, time.Month(month/3+1), int(day), int(hour), int(minute), int(second), 0, loc)
		if at.Day() != int(day) && second != 60 {
			continue // this year has no such day
		}
		if !at.After(now.Add(24 * time.Hour)) {
			return at, true
		}
	}
	return at, false
}
