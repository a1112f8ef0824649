package report

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"tocsin"
	"tocsin/internal/abuseipdb"
)

// Service is what was attacked, for the comment. It is one of a few words of ours, never a name that somebody gave.
type Service uint8

// The services. Their numbers lie in files: add at the end.
const (
	Any Service = iota
	SSH
	FTP
	Mail
	SMTP
	Spam
	Web
	WebLogin
	WebSpam
	Bot
	DNS
	SIP
	Database
	Scan
	Flood
	Device
	Login
	Several
	services
)

// serviceWords are followed by an s where there are several.
var serviceWords = [services]string{
	Any: "failure", SSH: "ssh login failure", FTP: "ftp login failure", Mail: "mail login failure", SMTP: "smtp failure",
	Spam: "spam attempt", Web: "web attack request", WebLogin: "web login failure", WebSpam: "web spam attempt",
	Bot: "bad bot request", DNS: "refused dns query", SIP: "sip login failure", Database: "database login failure",
	Scan: "port scan probe", Flood: "flood request", Device: "attack on a device", Login: "login failure", Several: "failure",
}

// byJail are the jails that fail2ban and we have names for.
var byJail = map[string]Service{
	"sshd": SSH, "ssh": SSH, "dropbear": SSH, "selinux-ssh": SSH, "sshd-ddos": SSH,
	"proftpd": FTP, "pure-ftpd": FTP, "vsftpd": FTP, "wuftpd": FTP, "gssftpd": FTP,
	"dovecot": Mail, "courier-auth": Mail, "cyrus-imap": Mail, "uwimap-auth": Mail, "solid-pop3d": Mail, "sieve": Mail,
	"postfix-sasl": Mail, "perdition": Mail, "exim-auth": Mail, "horde": WebLogin, "roundcube-auth": WebLogin,
	"squirrelmail": WebLogin, "sogo-auth": WebLogin, "openwebmail": WebLogin,
	"postfix": SMTP, "sendmail-auth": Mail, "sendmail-reject": SMTP, "exim": SMTP, "exim-spam": Spam, "postfix-rbl": Spam,
	"kerio": SMTP, "qmail-rbl": Spam, "courier-smtp": SMTP,
	"nginx-http-auth": WebLogin, "apache-auth": WebLogin, "lighttpd-auth": WebLogin, "wordpress": WebLogin,
	"phpmyadmin-syslog": WebLogin, "nextcloud": WebLogin, "grafana": WebLogin, "proxmox": WebLogin, "webmin-auth": WebLogin,
	"nginx-botsearch": Bot, "apache-badbots": Bot, "apache-botsearch": Bot, "apache-fakegooglebot": Bot, "nginx-bad-request": Web,
	"apache-noscript": Web, "apache-overflows": Web, "apache-nohome": Web, "apache-modsecurity": Web, "apache-shellshock": Web,
	"php-url-fopen": Web, "suhosin": Web, "nginx-forbidden": Web, "nginx-limit-req": Flood,
	"named-refused": DNS, "asterisk": SIP, "freeswitch": SIP, "mysqld-auth": Database, "mongodb-auth": Database, "mssql-auth": Database,
	"portsentry": Scan,
}

// byCategory is asked in this order where the jail says nothing.
var byCategory = []struct {
	id int
	s  Service
}{{22, SSH}, {5, FTP}, {8, SIP}, {11, Spam}, {10, WebSpam}, {12, WebSpam}, {16, Web}, {21, Web}, {19, Bot}, {14, Scan}, {1, DNS},
	{2, DNS}, {4, Flood}, {6, Flood}, {23, Device}, {18, Login}}

// ServiceOf finds the word for what a jail guards.
func ServiceOf(jail string, categories []int) Service {
	if s, ok := byJail[jail]; ok {
		return s
	}
	for _, c := range byCategory {
		if slices.Contains(categories, c.id) {
			return c.s
		}
	}
	return Any
}

// Comment is what everybody will read about an address: "5 ssh login failures in 41 s". It is built from numbers alone. The
// time of the first failure goes beside it, rounded to the minute.
func Comment(r tocsin.Report) string {
	if r.Failures == 0 {
		return "reported by hand by an operator"
	}
	s := Service(r.Service)
	if s >= services {
		s = Any
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", r.Failures, serviceWords[s])
	if r.Failures != 1 {
		b.WriteByte('s')
	}
	if s == Several {
		b.WriteString(" at several services")
	}
	b.WriteString(" in " + words(r.Last.Sub(r.First)))
	return b.String()
}

// words writes a duration in its two largest units: "41 s", "1 h 30 min".
func words(d time.Duration) string {
	if d < time.Second {
		return "less than 1 s"
	}
	units := []struct {
		name string
		d    time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	i := slices.IndexFunc(units, func(u struct {
		name string
		d    time.Duration
	}) bool {
		return d >= u.d
	})
	text := fmt.Sprintf("%d %s", d/units[i].d, units[i].name)
	if rest := d % units[i].d; i+1 < len(units) && rest >= units[i+1].d {
		text += fmt.Sprintf(" %d %s", rest/units[i+1].d, units[i+1].name)
	}
	return text
}

// merge adds a newer report of the same address to an older one.
func merge(a, b tocsin.Report) tocsin.Report {
	switch {
	case a.Queued.IsZero():
		return b
	case b.Queued.IsZero():
		return a
	}
	all := append(slices.Clone(a.Categories), b.Categories...)
	slices.Sort(all)
	all = slices.Compact(all)
	m := tocsin.Report{Categories: all[:min(len(all), abuseipdb.MaxCategories)], Service: a.Service, Failures: a.Failures + b.Failures,
		First: a.First, Last: a.Last, Queued: b.Queued}
	switch {
	case a.Failures == 0:
		m.Service = b.Service
	case b.Failures > 0 && a.Service != b.Service:
		m.Service = uint8(Several)
	}
	if b.First.Before(m.First) {
		m.First = b.First
	}
	if b.Last.After(m.Last) {
		m.Last = b.Last
	}
	return m
}

// sameness is a hash of what a report says: the server merges equal ones of a day. It is never 0.
func sameness(r tocsin.Report) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, r.Categories, Comment(r))
	return max(h.Sum64(), 1)
}
