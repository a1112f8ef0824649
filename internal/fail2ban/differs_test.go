package fail2ban

import (
	"os"
	"strings"
	"testing"
)

// TestDiffers holds the rows of the manual's table of differences that are about reading the configuration. Each names
// what Load tells, and what jail a is then.
func TestDiffers(t *testing.T) {
	manual, err := os.ReadFile("../../docs/manual/from-fail2ban.md")
	if err != nil {
		t.Fatal(err)
	}
	const on = "enabled = true\n"
	tests := []struct {
		id, files string
		told      string // part of the only thing told; "" for nothing
		runs      bool   // whether jail a runs
		want      string // part of what -d prints for it
	}{
		{"broken-jail", "-- jail.local --\n[b]\n" + on + "filter = nix\n[a]\n" + on, "b: /f2b/jail.local:3: no such filter", true, "^f <HOST> w$"},
		{"broken-line", "-- jail.local --\n[a]\n" + on + "maxretry = 7\nmaxretry = 8\n", "stands twice", true, "['set', 'a', 'maxretry', 7]"},
		{"not-utf8", "-- jail.local --\n# gr\xfcn\n[a]\n" + on + "findtime = 1\xfc\nmaxretry = 7\n", "jail.local:4: the line is not UTF-8", true, "['set', 'a', 'maxretry', 7]"},
		{"off-jail", "-- jail.local --\n[b]\nfilter = %(nix)s\n[a]\n" + on, "", true, "^f <HOST> w$"},
		{"bad-value", "-- jail.local --\n[a]\n" + on + "maxretry = many\n", "3 is used", true, "['start', 'a']"},
		{"mistyped", "-- jail.local --\n[a]\n" + on + "bantme = 1h\n", "is bantime meant?", true, "['start', 'a']"},
		{"mode", "-- filter.d/g.conf --\n[Definition]\nfailregex = <re-<mode>>\nre-aggressive = ^<HOST>\n-- jail.local --\n[a]\n" + on + "filter = g[mode=agressive]\n",
			"there are: re-aggressive", false, "config-error"},
		{"no-definition", "-- filter.d/g.conf --\n[DEFAULT]\nfailregex = ^<HOST>\n-- jail.local --\n[a]\n" + on + "filter = g\n", "has no section [Definition]", false, "config-error"},
		{"actname", "-- jail.local --\n[a]\n" + on + "action = b\n  b\n", "this one is called b-2", true, "'actionban', 'note <ip>'"},
		{"python-action", "-- jail.local --\n[a]\n" + on + "action = smtp.py\n  a\n", "only fail2ban can run", true, "'ban <ip> any'"},
		{"known-percent", "-- filter.d/g.conf --\n[Definition]\nfailregex = ^100%% <HOST>\n-- jail.local --\n[a]\n" + on + "filter = g\nfailregex = %(known/failregex)s$\n", "", true, "'^100% <HOST>$'"},
		{"condition", "-- jail.local --\n[a]\n" + on + "action = a[port?family=inet6=six]\n", "", true, "['port?family=inet6', 'six']"},
	}
	for _, tt := range tests {
		if !strings.Contains(string(manual), "<!-- id: "+tt.id+" -->") {
			t.Errorf("%s: from-fail2ban.md has no row of that id", tt.id)
		}
		c := loadSmall(t, tt.files)
		list := told(c)
		if tt.told == "" && len(list) > 0 || tt.told != "" && (len(list) != 1 || !strings.Contains(list[0], tt.told)) {
			t.Errorf("%s: told %q, want %q", tt.id, list, tt.told)
		}
		a := c.Jails[len(c.Jails)-1]
		if a.Name != "a" || (a.Err == nil) != tt.runs {
			t.Errorf("%s: jail %s, error %v", tt.id, a.Name, a.Err)
		}
		var printed strings.Builder
		for _, command := range c.Stream() {
			printed.WriteString(PythonValue(command) + "\n")
		}
		if !strings.Contains(printed.String(), tt.want) {
			t.Errorf("%s: -d prints\n%s\nwant %s", tt.id, &printed, tt.want)
		}
	}
}
