package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Key is one setting of tocsin.toml: what the manual says about it and what the reader does with it.
type Key struct {
	Table   string // as its header names it: "guard", "jail", "watch.node"; "" for the top of the file
	Name    string
	Default string // as it would be written; "" if Missing says what happens without it
	Example string // where there is no Default
	Missing string // what happens without it, where there is no Default
	Doc     string // one or two sentences for the manual: meaning, unit, bounds

	set setter
}

const year = 365 * 24 * time.Hour

// keys is every setting, in the order of the manual. Names are fixed: scripts rely on them.
var keys = []Key{
	{Table: "", Name: "state", Default: `"/var/lib/tocsin"`, Doc: "Folder for what must survive: bans, evidence, logins, how far logs were read.",
		set: texts(func(t target) *string { return &t.config.State }, checkPath)},
	{Table: "", Name: "socket", Default: `"/run/tocsin/guard.sock"`, Doc: "Unix socket on which the guard answers the commands. At most 107 bytes.",
		set: texts(func(t target) *string { return &t.config.Socket }, checkSocket)},
	{Table: "", Name: "listen", Default: `"127.0.0.1:8044"`, Doc: `Where the watch process serves pages for people and its interface for programs; "" switches both off. All of it but /metrics and /healthz asks for an account or a token. The guard itself listens on no network.`,
		set: texts(func(t target) *string { return &t.config.Listen }, checkListen)},

	{Table: "guard", Name: "observe", Default: "false", Doc: "Watch, decide and show, but touch no firewall.",
		set: booleans(func(t target) *bool { return &t.config.Guard.Observe })},
	{Table: "guard", Name: "allow", Default: "[]", Doc: "Addresses and prefixes that no jail bans. Loopback, the machine's own addresses, its gateway and resolvers are never banned anyway.",
		set: prefixes(func(t target) *[]netip.Prefix { return &t.config.Guard.Allow })},

	{Table: "fail2ban", Name: "dir", Default: `""`, Doc: `Folder of fail2ban's configuration, usually "/etc/fail2ban": every enabled jail of it runs, and the built-in jail for sshd does not. "" switches it off.`,
		set: texts(func(t target) *string { return &t.config.Fail2ban.Dir }, orNoPath)},
	{Table: "fail2ban", Name: "log", Default: `"auto"`, Doc: `Log that is written in fail2ban's own format. "auto": the logtarget of fail2ban.conf, if an enabled jail reads that file, as recidive does, and the guard does not only observe; "off": none; or a path.`,
		set: texts(func(t target) *string { return &t.config.Fail2ban.Log }, checkLog)},
	{Table: "fail2ban", Name: "ipv6_prefix", Default: "128", Doc: "As ipv6_prefix of a [[jail]], for all jails of fail2ban, which bans single addresses. 32 to 128.",
		set: wholes(func(t target) *int { return &t.config.Fail2ban.IPv6Prefix }, 32, 128)},
	{Table: "fail2ban", Name: "known_factor", Default: "1", Doc: "As known_factor of a [[jail]], for all jails of fail2ban, which has no patience. 1 to 100.",
		set: wholes(func(t target) *int { return &t.config.Fail2ban.KnownFactor }, 1, 100)},
	{Table: "fail2ban", Name: "known_for", Default: `"30d"`, Doc: `How long a login makes an address known to the jails of fail2ban, if known_factor is more than 1; "0s" knows nobody.`,
		set: durations(func(t target) *time.Duration { return &t.config.Fail2ban.KnownFor }, maxDuration, orZero)},
	{Table: "fail2ban", Name: "clear_by_login", Default: "false", Doc: "true: a login clears the failures of the same user from the same address, as in the jails of this file. With fail2ban it does not.",
		set: booleans(func(t target) *bool { return &t.config.Fail2ban.ClearByLogin })},

	{Table: "jail", Name: "name", Example: `"sshd"`, Missing: "a mistake", Doc: "Bans are kept by this name; each jail has its own.",
		set: texts(func(t target) *string { return &t.jail.Name }, checkName)},
	{Table: "jail", Name: "enabled", Default: "true", Doc: "false: the jail is checked, but reads nothing.",
		set: booleans(func(t target) *bool { return &t.jail.Enabled })},
	{Table: "jail", Name: "filter", Example: `"sshd"`, Missing: "the jail's name", Doc: `What a failure looks like in the log, with options as in "sshd[mode=aggressive]".`,
		set: texts(func(t target) *string { return &t.jail.Filter }, checkFilter)},
	{Table: "jail", Name: "sources", Default: `"auto"`, Doc: `Where the lines come from: "file:PATH" (globs are followed), "journal:FIELD=VALUE", "syslog:udp://ADDRESS:PORT". "auto": where sshd logs on this machine.`,
		set: setSources},
	{Table: "jail", Name: "ports", Default: `"auto"`, Doc: `The TCP ports that a ban covers. "auto": where sshd listens; "all": every port and protocol.`,
		set: setPorts},
	{Table: "jail", Name: "verdict", Default: `"drop"`, Doc: `What happens to the packets of somebody banned: "drop" is silence, "reject" answers that nobody is there.`,
		set: setVerdict},
	{Table: "jail", Name: "maxretry", Default: "5", Doc: "As many failures within findtime lead to a ban. 1 to 10000.",
		set: wholes(func(t target) *int { return &t.jail.MaxRetry }, 1, 10_000)},
	{Table: "jail", Name: "findtime", Default: `"10m"`, Doc: "How long a failure counts. The window is exact and slides in the time of the log.",
		set: durations(func(t target) *time.Duration { return &t.jail.FindTime }, year, plain)},
	{Table: "jail", Name: "bantime", Default: `"15m"`, Doc: `How long the first ban lasts; "forever" has no end.`,
		set: durations(func(t target) *time.Duration { return &t.jail.BanTime }, maxDuration, orForever)},
	{Table: "jail", Name: "bantime_factor", Default: "1.0", Doc: "Each ban remembered multiplies the next one by this: 2.0 doubles, 1.0 keeps bans as long as the first. 1 to 100.",
		set: floats(func(t target) *float64 { return &t.jail.BanFactor }, 1, 100)},
	{Table: "jail", Name: "bantime_max", Default: `"5w"`, Doc: "No ban grows beyond this. Without it a longer bantime raises it.",
		set: durations(func(t target) *time.Duration { return &t.jail.BanMax }, maxDuration, orForever)},
	{Table: "jail", Name: "bantime_memory", Default: `"30d"`, Doc: "How long an ended ban still counts for bantime_factor. At most as long as bans are kept.",
		set: durations(func(t target) *time.Duration { return &t.jail.BanMemory }, maxDuration, plain)},
	{Table: "jail", Name: "ipv6_prefix", Default: "64", Doc: "IPv6 failures are counted and banned by this prefix length, for one customer usually has a whole /64. 32 to 128.",
		set: wholes(func(t target) *int { return &t.jail.IPv6Prefix }, 32, 128)},
	{Table: "jail", Name: "known_factor", Default: "3", Doc: "An address that logged in within known_for may fail this many times as often. 1: no patience. 1 to 100.",
		set: wholes(func(t target) *int { return &t.jail.KnownFactor }, 1, 100)},
	{Table: "jail", Name: "known_for", Default: `"30d"`, Doc: `How long a login makes an address known; "0s" knows nobody. At most as long as logins are kept.`,
		set: durations(func(t target) *time.Duration { return &t.jail.KnownFor }, maxDuration, orZero)},
	{Table: "jail", Name: "subnet_bans", Default: "0", Doc: "As many banned addresses of one /24 (IPv4) or /48 (IPv6) within subnet_within ban it whole. 0: off. At most 10000.",
		set: wholes(func(t target) *int { return &t.jail.SubnetBans }, 0, 10_000)},
	{Table: "jail", Name: "subnet_within", Default: `"1d"`, Doc: "How long a ban counts for subnet_bans.",
		set: durations(func(t target) *time.Duration { return &t.jail.SubnetWithin }, year, plain)},
	{Table: "jail", Name: "allow", Default: "[]", Doc: "Addresses and prefixes that this jail does not ban.",
		set: prefixes(func(t target) *[]netip.Prefix { return &t.jail.Allow })},
	{Table: "jail", Name: "max_addresses", Default: "100000", Doc: "Addresses remembered at once; the oldest falls out and is counted. About 100 bytes each. 100 to 10000000.",
		set: wholes(func(t target) *int { return &t.jail.MaxAddresses }, 100, 10_000_000)},
	{Table: "jail", Name: "timezone", Default: `""`, Doc: `Time zone of dates that name none, like "Europe/Paris"; "": the machine's.`,
		set: texts(func(t target) *string { return &t.jail.Timezone }, checkTimezone)},

	{Table: "list", Name: "name", Example: `"abuseipdb"`, Missing: "a mistake", Doc: "What the list is called by the commands, and in the firewall. Up to 32 small letters, digits and dashes.",
		set: texts(func(t target) *string { return &t.list.Name }, checkListName)},
	{Table: "list", Name: "url", Example: `"abuseipdb:"`, Missing: "a mistake", Doc: `Where the list comes from: "abuseipdb:", which asks the service of [report] url with the stored key, "https://...", or "file:/PATH". One address or prefix a line, ipset and netset files too.`,
		set: texts(func(t target) *string { return &t.list.URL }, checkListURL)},
	{Table: "list", Name: "at", Default: `"auto"`, Doc: `The time of day, of this machine, at which it is fetched, like "04:30". "auto": a time of its own for every machine, from its name.`,
		set: texts(func(t target) *string { return &t.list.At }, checkAt)},
	{Table: "list", Name: "confidence", Default: "100", Doc: `For "abuseipdb:": only addresses of at least this score. A free account is given those of 100 whatever it asks. 25 to 100.`,
		set: wholes(func(t target) *int { return &t.list.Confidence }, 25, 100)},
	{Table: "list", Name: "limit", Default: "10000", Doc: "At most so many entries; a longer list is refused. A free account of AbuseIPDB is given 10000. 1 to 2000000.",
		set: wholes(func(t target) *int { return &t.list.Limit }, 1, 2_000_000)},
	{Table: "list", Name: "ports", Default: `"all"`, Doc: `The TCP ports that are closed to the addresses of the list, like [22, 443]. "all": every port and protocol.`,
		set: setListPorts},

	{Table: "report", Name: "enabled", Default: "false", Doc: "true: whom the jails named below ban by evidence is reported. What leaves the machine is in the manual about privacy.",
		set: booleans(func(t target) *bool { return &t.config.Report.Enabled })},
	{Table: "report", Name: "url", Default: `"https://api.abuseipdb.com/api/v2/"`, Doc: "The service: AbuseIPDB, or a hub that speaks its language. Reports, checks and the lists from \"abuseipdb:\" go there.",
		set: setReportURL},
	{Table: "report", Name: "jails", Default: `{ sshd = [18, 22] }`, Doc: "The jails whose bans are reported, each with the categories of AbuseIPDB, 1 to 23, of its reports.",
		set: setReportJails},
	{Table: "report", Name: "hold", Default: `"60s"`, Doc: "A ban is reported when it is this old; one that is lifted before never is. 10s to 1h.",
		set: within(func(t target) *time.Duration { return &t.config.Report.Hold }, leastHold, mostHold)},

	{Table: "watch", Name: "enabled", Default: "true", Doc: "false: this machine is not supervised, and no other is asked.",
		set: booleans(func(t target) *bool { return &t.config.Watch.Enabled })},
	{Table: "watch", Name: "group", Example: `"Gandi"`, Missing: "no group", Doc: `The group of this server, as a rule its hosting provider. Levels stand between ";".`,
		set: texts(func(t target) *string { return &t.config.Watch.Group }, checkGroup)},
	{Table: "watch", Name: "name", Example: `"web1"`, Missing: "the host name", Doc: "What this server is called.",
		set: texts(func(t target) *string { return &t.config.Watch.Name }, checkNode)},
	{Table: "watch", Name: "interval", Default: `"10s"`, Doc: "How often the built-in probes read. What changes slowly, such as filesystems and queues, is read once a minute. 1s to 5m.",
		set: within(func(t target) *time.Duration { return &t.config.Watch.Interval }, time.Second, 5*time.Minute)},
	{Table: "watch", Name: "munin_plugins", Default: `"/etc/munin/plugins"`, Doc: `Folder of Munin's plugins: each that lies there is run, as the user that plugin-conf.d says. "" runs none.`,
		set: texts(func(t target) *string { return &t.config.Watch.MuninPlugins }, orNoPath)},
	{Table: "watch", Name: "munin_node", Default: `""`, Doc: `Where we are a munin-node for an old master, like "127.0.0.1:4949"; "": nowhere.`,
		set: texts(func(t target) *string { return &t.config.Watch.MuninNode }, checkListen)},
	{Table: "watch", Name: "munin_allow", Default: `["127.0.0.0/8", "::1"]`, Doc: "Who may ask at munin_node; anybody else is not answered.",
		set: prefixes(func(t target) *[]netip.Prefix { return &t.config.Watch.MuninAllow })},
	{Table: "watch", Name: "munin_conf", Default: `""`, Doc: `Munin's own configuration, usually "/etc/munin/munin.conf": its nodes are asked, in its groups, as it says to connect. "": none.`,
		set: texts(func(t target) *string { return &t.config.Watch.MuninConf }, orNoPath)},
	{Table: "watch", Name: "capacity", Default: "{}", Doc: `What network cards can carry in bits per second, like { eth0 = "500M" }, where the card does not tell, as in a virtual machine. Without it the most that was seen counts.`,
		set: setCapacity},
	{Table: "watch", Name: "country", Default: `""`, Doc: `A database of MaxMind's format with the country of addresses, for bans by country; "": none.`,
		set: texts(func(t target) *string { return &t.config.Watch.Country }, orNoPath)},
	{Table: "watch", Name: "sites", Default: "[]", Doc: `Addresses of web sites that are asked once a minute, like "https://asso.example/": do they answer, how fast, until when is their certificate good. At most 1000.`,
		set: listOf(func(t target) *[]string { return &t.config.Watch.Sites }, checkSite)},
	{Table: "watch", Name: "domains", Default: "[]", Doc: "Domains whose expiry is asked for once a day, from the registries (RDAP). At most 1000.",
		set: listOf(func(t target) *[]string { return &t.config.Watch.Domains }, checkDomain)},

	{Table: "watch", Name: "deadman", Default: `""`, Doc: `An address that is asked every five minutes while supervision goes on, such as a check of healthchecks.io: whoever answers there tells you when that stops. "": none.`,
		set: texts(func(t target) *string { return &t.config.Watch.Deadman }, checkHook)},

	{Table: "watch.node", Name: "name", Example: `"mail1"`, Missing: "a mistake", Doc: "What the server is called: its own name, unless several are behind one address.",
		set: texts(func(t target) *string { return &t.node.Name }, checkNode)},
	{Table: "watch.node", Name: "group", Example: `"TTN"`, Missing: "no group", Doc: "As group of [watch].",
		set: texts(func(t target) *string { return &t.node.Group }, checkGroup)},
	{Table: "watch.node", Name: "address", Example: `"munin://192.0.2.10:4949"`, Missing: "a mistake", Doc: `Where its munin-node answers: "munin://HOST:PORT", "ssh://USER@HOST/COMMAND" or "cmd:///COMMAND".`,
		set: texts(func(t target) *string { return &t.node.Address }, checkNodeAddress)},
	{Table: "watch.node", Name: "interval", Default: `"1m"`, Doc: "How often it is asked. 10s to 1h.",
		set: within(func(t target) *time.Duration { return &t.node.Interval }, 10*time.Second, time.Hour)},
	{Table: "watch.node", Name: "tls", Default: "false", Doc: "true: only over TLS, as Munin does it (STARTTLS).",
		set: booleans(func(t target) *bool { return &t.node.TLS })},
	{Table: "watch.node", Name: "tls_ca", Default: `""`, Doc: `File with the certificates that sign the node's, for tls; "": any certificate is taken, as in Munin.`,
		set: texts(func(t target) *string { return &t.node.CA }, orNoPath)},
	{Table: "watch.node", Name: "tls_certificate", Default: `""`, Doc: "File with the certificate that is shown to the node, for tls.",
		set: texts(func(t target) *string { return &t.node.Certificate }, orNoPath)},
	{Table: "watch.node", Name: "tls_key", Default: `""`, Doc: "File with the private key of tls_certificate.",
		set: texts(func(t target) *string { return &t.node.Key }, orNoPath)},

	{Table: "watch.remote", Name: "url", Example: `"https://prometheus.example/api/v1/write"`, Missing: "a mistake", Doc: "Every sample is written there too: Prometheus's remote write.",
		set: texts(func(t target) *string { return &t.remote.URL }, checkRemote)},
	{Table: "watch.remote", Name: "token_file", Default: `""`, Doc: `File with the token that is sent with it; "": none.`,
		set: texts(func(t target) *string { return &t.remote.TokenFile }, orNoPath)},

	{Table: "rule", Name: "name", Example: `"disk-space"`, Missing: "a mistake", Doc: "What the rule is called. A rule with the name of a shipped one, or of one further up, changes what it names for the servers that it selects, and keeps the rest.",
		set: texts(func(t target) *string { return &t.rule.Name }, checkRuleName)},
	{Table: "rule", Name: "enabled", Default: "true", Doc: "false: the rule does not hold for what it selects.",
		set: booleans(func(t target) *bool { return &t.rule.Enabled })},
	{Table: "rule", Name: "kind", Default: `"limit"`, Doc: `What is judged: "limit", the value; "forecast", in how many hours it reaches full; "season", how far it is from the same hour of past weeks; "count", how often it left the range of beyond; "silent", a server without news; "together", several servers of a group at once.`,
		set: texts(func(t target) *string { return &t.rule.Kind }, checkRuleKind)},
	{Table: "rule", Name: "group", Default: `"*"`, Doc: `Groups that it selects, one or a list; * stands for any text, ? for one letter.`,
		set: patterns(func(t target) *[]string { return &t.rule.Group })},
	{Table: "rule", Name: "server", Default: `"*"`, Doc: "Servers that it selects, likewise.",
		set: patterns(func(t target) *[]string { return &t.rule.Server })},
	{Table: "rule", Name: "service", Default: `"*"`, Doc: `Services that it selects, likewise, as "df" or "diskstats_latency.*".`,
		set: patterns(func(t target) *[]string { return &t.rule.Service })},
	{Table: "rule", Name: "field", Default: `"*"`, Doc: "Fields that it selects, likewise.",
		set: patterns(func(t target) *[]string { return &t.rule.Field })},
	{Table: "rule", Name: "warning", Default: `""`, Doc: `What is fine, as Munin writes it: "LEAST:MOST", "LEAST:", ":MOST", or "MOST". Beyond it is a warning; "": never.`,
		set: texts(func(t target) *string { return &t.rule.Warning }, plainText)},
	{Table: "rule", Name: "critical", Default: `""`, Doc: "Beyond this it is critical.",
		set: texts(func(t target) *string { return &t.rule.Critical }, plainText)},
	{Table: "rule", Name: "clear_warning", Default: `""`, Doc: `A warning is over only within this, as ":80" for a warning of ":90"; "": within warning.`,
		set: texts(func(t target) *string { return &t.rule.ClearWarning }, plainText)},
	{Table: "rule", Name: "clear_critical", Default: `""`, Doc: "It is critical no more only within this.",
		set: texts(func(t target) *string { return &t.rule.ClearCritical }, plainText)},
	{Table: "rule", Name: "for", Default: `"0s"`, Doc: "It is told when it has lasted this long.",
		set: durations(func(t target) *time.Duration { return &t.rule.For }, maxRuleTime, orZero)},
	{Table: "rule", Name: "clear_for", Default: `"0s"`, Doc: "It is over when it has been fine for this long.",
		set: durations(func(t target) *time.Duration { return &t.rule.ClearFor }, maxRuleTime, orZero)},
	{Table: "rule", Name: "mean", Default: `"0s"`, Doc: `The mean of this time is judged; "0s": each value.`,
		set: durations(func(t target) *time.Duration { return &t.rule.Mean }, maxRuleTime, orZero)},
	{Table: "rule", Name: "percent_of", Default: "[]", Doc: `The value is judged as the percentage that it is of the sum of these fields of its service, as for processors of which one is 100 %.`,
		set: listOf(func(t target) *[]string { return &t.rule.PercentOf }, checkFieldName)},
	{Table: "rule", Name: "over", Default: `"6h"`, Doc: "For forecast: the time through which the straight line is drawn. For count: the time within which is counted. 10m to 7d.",
		set: within(func(t target) *time.Duration { return &t.rule.Over }, 10*time.Minute, maxRuleTime)},
	{Table: "rule", Name: "full", Default: "100", Doc: "For forecast: the value that it must not reach.",
		set: floats(func(t target) *float64 { return &t.rule.Full }, -1e18, 1e18)},
	{Table: "rule", Name: "weeks", Default: "4", Doc: "For season: how many past weeks are compared. 2 to 12.",
		set: wholes(func(t target) *int { return &t.rule.Weeks }, 2, 12)},
	{Table: "rule", Name: "beyond", Default: `""`, Doc: "For count: what is fine; each time that a value leaves it counts.",
		set: texts(func(t target) *string { return &t.rule.Beyond }, plainText)},
	{Table: "rule", Name: "of", Default: "[]", Doc: "For together: the rules that must all hold on a server, as far as it has what they judge.",
		set: listOf(func(t target) *[]string { return &t.rule.Of }, checkRuleName)},
	{Table: "rule", Name: "servers", Default: "3", Doc: "For together: on so many servers of one group at once. 2 to 1000.",
		set: wholes(func(t target) *int { return &t.rule.Servers }, 2, 1000)},
	{Table: "rule", Name: "share", Default: "0", Doc: "For together: and on at least this percentage of them. 0 to 100.",
		set: wholes(func(t target) *int { return &t.rule.Share }, 0, 100)},
	{Table: "rule", Name: "holds", Default: "[]", Doc: "For together: services of which nothing is told on these servers meanwhile; * and ? as above.",
		set: patterns(func(t target) *[]string { return &t.rule.Holds })},
	{Table: "rule", Name: "urgency", Default: `"soon"`, Doc: `Of a warning: "urgent" is told at night too, "soon" waits for the end of quiet hours, "digest" for the morning's digest; "none" is told to nobody, for rules that others are made of.`,
		set: texts(func(t target) *string { return &t.rule.Urgency }, checkUrgency)},
	{Table: "rule", Name: "critical_urgency", Default: `"urgent"`, Doc: "Of what is critical. With urgency none nothing is told at all.",
		set: texts(func(t target) *string { return &t.rule.CriticalUrgency }, checkUrgency)},

	{Table: "mail", Name: "from", Default: `""`, Doc: `The address that mail comes from; "": tocsin@ and the name of this machine.`,
		set: texts(func(t target) *string { return &t.config.Mail.From }, orNoMail)},
	{Table: "mail", Name: "server", Default: `"sendmail"`, Doc: `How mail leaves: "sendmail" gives it to this machine's own; "smtp://USER@HOST:587" to a server, with STARTTLS unless that is this machine; "smtps://USER@HOST:465" with TLS from the start.`,
		set: texts(func(t target) *string { return &t.config.Mail.Server }, checkMailServer)},
	{Table: "mail", Name: "password_file", Default: `""`, Doc: `File with the password of USER; "": none.`,
		set: texts(func(t target) *string { return &t.config.Mail.PasswordFile }, orNoPath)},

	{Table: "contact", Name: "name", Example: `"admins"`, Missing: "a mistake", Doc: "What the contact is called by the commands.",
		set: texts(func(t target) *string { return &t.contact.Name }, checkContactName)},
	{Table: "contact", Name: "language", Default: `"en"`, Doc: `In which language they are told: "en" or "fr".`,
		set: texts(func(t target) *string { return &t.contact.Language }, checkLanguage)},
	{Table: "contact", Name: "timezone", Default: `""`, Doc: `Their time zone, like "Europe/Paris"; "": the machine's.`,
		set: texts(func(t target) *string { return &t.contact.Timezone }, checkTimezone)},
	{Table: "contact", Name: "urgency", Default: `"soon"`, Doc: `Nothing less urgent is told at once: "urgent", "soon" or "digest".`,
		set: setLeastUrgency},
	{Table: "contact", Name: "groups", Default: "[]", Doc: "Only servers of these groups, and of those within them, are told about. Empty: all.",
		set: listOf(func(t target) *[]string { return &t.contact.Groups }, checkGroup)},
	{Table: "contact", Name: "quiet", Default: `""`, Doc: `Hours in which only what is urgent is told, like "22:00-07:00"; the rest waits. "": none.`,
		set: setQuiet},
	{Table: "contact", Name: "per_hour", Default: "20", Doc: "As many messages in an hour; what is more becomes one message. 1 to 1000.",
		set: wholes(func(t target) *int { return &t.contact.PerHour }, 1, 1000)},
	{Table: "contact", Name: "digest", Default: `""`, Doc: `The time of day at which a digest of the night comes, like "07:00"; "": none.`,
		set: texts(func(t target) *string { return &t.contact.Digest }, checkDigest)},
	{Table: "contact", Name: "mail", Default: "[]", Doc: "Addresses of mail. At most 50.",
		set: setRecipients},
	{Table: "contact", Name: "ntfy", Default: `""`, Doc: `A topic of ntfy, like "https://ntfy.sh/TOPIC"; "": none.`,
		set: texts(func(t target) *string { return &t.contact.Ntfy }, checkNtfy)},
	{Table: "contact", Name: "ntfy_token_file", Default: `""`, Doc: `File with the access token for it; "": none.`,
		set: texts(func(t target) *string { return &t.contact.NtfyToken }, orNoPath)},
	{Table: "contact", Name: "webhook", Default: `""`, Doc: `Where a JSON object is posted; "": nowhere.`,
		set: texts(func(t target) *string { return &t.contact.Webhook }, checkHook)},
	{Table: "contact", Name: "webhook_secret_file", Default: `""`, Doc: `File with the key that signs it (HMAC-SHA256); "": it is not signed.`,
		set: texts(func(t target) *string { return &t.contact.Secret }, orNoPath)},
	{Table: "contact", Name: "command", Default: `""`, Doc: `A program that gets Munin's text on its standard input, run by root: its path, or the name of a contact of munin_conf whose command is run. "": none.`,
		set: texts(func(t target) *string { return &t.contact.Command }, checkCommand)},

	{Table: "web", Name: "url", Default: `""`, Doc: "Where people reach the pages, like \"https://tocsin.asso.example\": a proxy with TLS before listen. Other names are not answered, but addresses and localhost. \"\": by the address of listen.",
		set: texts(func(t target) *string { return &t.config.Web.URL }, checkURL)},
	{Table: "web", Name: "title", Default: `"Tocsin"`, Doc: "What every page is called, as a rule the name of the association.",
		set: texts(func(t target) *string { return &t.config.Web.Title }, checkLine)},
	{Table: "web", Name: "language", Default: `"auto"`, Doc: `The language of whoever chose none: "fr", "en", or "auto", which asks the browser.`,
		set: texts(func(t target) *string { return &t.config.Web.Language }, checkPageLanguage)},
	{Table: "web", Name: "proxies", Default: "[]", Doc: "Addresses and prefixes of proxies whose word counts: who the client is (X-Forwarded-For), whether it came over TLS (X-Forwarded-Proto), and user_header.",
		set: prefixes(func(t target) *[]netip.Prefix { return &t.config.Web.Proxies })},
	{Table: "web", Name: "user_header", Default: `""`, Doc: `Header in which a proxy of proxies names the account of whoever logged in there, like "Remote-User"; the account has to exist. "": none.`,
		set: texts(func(t target) *string { return &t.config.Web.UserHeader }, checkHeader)},
	{Table: "web", Name: "proxy_secret_file", Default: `""`, Doc: "File with a secret that the proxies send with each request in the header Tocsin-Proxy; without it their word does not count. user_header needs it where a proxy is on this machine, for whoever has a shell here can ask from its address. The file belongs to the user tocsin. \"\": none.",
		set: texts(func(t target) *string { return &t.config.Web.ProxySecretFile }, orNoPath)},
	{Table: "web", Name: "bans", Default: "true", Doc: "Whether people of the pages may unban, allow and ban, by their roles: the guard then takes it from the user tocsin, within bounds. false: the commands alone.",
		set: booleans(func(t target) *bool { return &t.config.Web.Bans })},

	{Table: "web.oidc", Name: "issuer", Default: `""`, Doc: `Provider of OpenID Connect, like "https://login.asso.example/realms/asso". It has to know the address url + "/oidc". "": none.`,
		set: texts(func(t target) *string { return &t.config.Web.OIDC.Issuer }, checkIssuer)},
	{Table: "web.oidc", Name: "name", Default: `"OpenID Connect"`, Doc: "What the button of the login page calls it.",
		set: texts(func(t target) *string { return &t.config.Web.OIDC.Name }, checkLine)},
	{Table: "web.oidc", Name: "client_id", Default: `""`, Doc: "What the provider calls these pages.",
		set: texts(func(t target) *string { return &t.config.Web.OIDC.ClientID }, checkLine)},
	{Table: "web.oidc", Name: "client_secret_file", Default: `""`, Doc: `File with the secret that the provider gave with it; "": none, as for public clients.`,
		set: texts(func(t target) *string { return &t.config.Web.OIDC.SecretFile }, orNoPath)},
	{Table: "web.oidc", Name: "role_claim", Default: `"groups"`, Doc: `Where in what the provider tells the roles stand, levels with a point between, like "realm_access.roles".`,
		set: texts(func(t target) *string { return &t.config.Web.OIDC.Claim }, checkLine)},
	{Table: "web.oidc", Name: "admin", Default: "[]", Doc: "What has to stand there for the role admin. Whoever has none of these roles is not let in.",
		set: listOf(func(t target) *[]string { return &t.config.Web.OIDC.Admin }, checkLine)},
	{Table: "web.oidc", Name: "support", Default: "[]", Doc: "As admin, for the role support.",
		set: listOf(func(t target) *[]string { return &t.config.Web.OIDC.Support }, checkLine)},
	{Table: "web.oidc", Name: "board", Default: "[]", Doc: "As admin, for the role board.",
		set: listOf(func(t target) *[]string { return &t.config.Web.OIDC.Board }, checkLine)},

	{Table: "retention", Name: "evidence", Default: `"90d"`, Doc: "How long the lines that led to a ban are kept.",
		set: durations(func(t target) *time.Duration { return &t.config.Retention.Evidence }, maxDuration, plain)},
	{Table: "retention", Name: "bans", Default: `"365d"`, Doc: "How long an ended ban is kept.",
		set: durations(func(t target) *time.Duration { return &t.config.Retention.Bans }, maxDuration, plain)},
	{Table: "retention", Name: "logins", Default: `"90d"`, Doc: "How long it is kept from where people logged in.",
		set: durations(func(t target) *time.Duration { return &t.config.Retention.Logins }, maxDuration, plain)},
	{Table: "retention", Name: "samples", Default: `"14d"`, Doc: "How long samples are kept as they came. 1d to 1y.",
		set: within(func(t target) *time.Duration { return &t.config.Retention.Samples }, 24*time.Hour, year)},
	{Table: "retention", Name: "samples_5m", Default: `"2y"`, Doc: "How long their averages, minima and maxima of five minutes are kept. 1d to 100y.",
		set: within(func(t target) *time.Duration { return &t.config.Retention.Samples5m }, 24*time.Hour, maxDuration)},
	{Table: "retention", Name: "samples_1h", Default: `"10y"`, Doc: "How long those of an hour are kept. 1d to 100y.",
		set: within(func(t target) *time.Duration { return &t.config.Retention.Samples1h }, 24*time.Hour, maxDuration)},
}

// Keys lists every setting in the order of the manual.
func Keys() []Key { return slices.Clone(keys) }

// find is the key of a table by its name, nil if there is none.
func find(table, name string) *Key {
	for i := range keys {
		if keys[i].Table == table && keys[i].Name == name {
			return &keys[i]
		}
	}
	return nil
}

// defaults gives every field of a table the value that the manual says.
func (r *reader) defaults(table string, t target) {
	for i := range keys {
		key := &keys[i]
		if key.Table != table || key.Default == "" {
			continue
		}
		own := &reader{config: &Config{}, data: []byte(key.Name + " = " + key.Default), lines: []int{0}}
		var p unstable.Parser
		p.Reset(own.data)
		if p.NextExpression() {
			key.set(&assignment{own, t, key}, own.value(p.Expression(), 0, 0))
		}
		if p.Error() != nil || len(own.errs) > 0 {
			panic("BUG: the default of " + strings.TrimPrefix(table+"."+key.Name, ".") + " is not valid")
		}
	}
}
