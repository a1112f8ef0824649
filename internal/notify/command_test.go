package notify

import (
	"context"
	"strings"
	"testing"
	"time"

	"tocsin"
)

func muninEvent(level tocsin.Level, extra string) *event {
	n := &Notifier{o: Options{Title: func(tocsin.Series) (string, string) { return "Disk usage in percent", "disk" }}}
	value := 91.5
	c := &change{ID: 7, Turn: "began", Group: "OVH;Paris", Server: "web3", Service: "df", Field: "_var", Label: "/var", Level: level.String(), Value: &value, Limit: ":90", Extra: extra, Rule: "munin"}
	return n.event(c)
}

func TestMuninText(t *testing.T) {
	tests := []struct {
		name, template string
		level          tocsin.Level
		want           string
	}{
		{"usual, warning", usualText, tocsin.Warning, "OVH-Paris :: web3 :: Disk usage in percent\n\tWARNINGs: /var is 91.50 (outside range [:90]): full soon.\n\n"},
		{"usual, over", usualText, tocsin.Fine, "OVH-Paris :: web3 :: Disk usage in percent\n\tOKs: /var is 91.50: full soon.\n\n"},
		{"usual, unknown", usualText, tocsin.Unknown, "OVH-Paris :: web3 :: Disk usage in percent\n\tUNKNOWNs: /var is 91.50: full soon.\n\n"},
		{"variables", `${var:worst} ${var:worstid} ${var:plugin} ${var:graph_category} ${var:numcfields} ${var:cfields} ${var:nothing}.`, tocsin.Critical, "CRITICAL 2 df disk 1 _var ."},
		{"if not", `${if:!cfields fine}${if:cfields bad}`, tocsin.Warning, "fine"},
		{"nought is no", `${if:numcfields x}${if:numwfields y}`, tocsin.Warning, "y"},
		{"loop", `${loop<, >:fields ${var:label}=${var:value}}`, tocsin.Warning, "/var=91.50"},
		{"nested", `${loop:wfields ${if:extinfo [${strtrunc:4 ${var:extinfo}}]}}`, tocsin.Warning, "[full]"},
		{"escapes", `a\tb\nc`, tocsin.Warning, "a\tb\nc"},
		{"no word of it", `${HOME} ${x:y} ${strtrunc:z x} $ {var:host} ${var:host`, tocsin.Warning, "${HOME} ${x:y} ${strtrunc:z x} $ {var:host} ${var:host"},
	}
	for _, tt := range tests {
		if got, err := expand(tt.template, muninEvent(tt.level, "full soon")); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	if _, err := expand(strings.Repeat("x", maxTemplate+1), muninEvent(tocsin.Warning, "")); err == nil {
		t.Error("a long text")
	}
	if _, err := expand(strings.Repeat("${loop:fields ${var:extinfo}}", 500), muninEvent(tocsin.Warning, strings.Repeat("x", 1000))); err == nil {
		t.Error("a text that grows long")
	}
	if e := muninEvent(tocsin.Warning, "a\nb\x1b[2J\u202e~!rm"); strings.ContainsAny(e.fields["_var"]["extinfo"], "\n\x1b\u202e") {
		t.Errorf("hostile text: %q", e.fields["_var"]["extinfo"])
	}
}

func FuzzExpand(f *testing.F) {
	f.Add(usualText)
	f.Add("${loop<,>:fields ${if:!x ${strtrunc:3 ${var:label}}}}")
	f.Add("${${${}}}${var:")
	f.Fuzz(func(t *testing.T, template string) {
		got, err := expand(template, muninEvent(tocsin.Critical, "extra"))
		if err == nil && len(got) > maxExpanded {
			t.Errorf("%d bytes", len(got))
		}
	})
}

func TestCommand(t *testing.T) {
	c := contact("sms")
	c.Command = true
	var name, text string
	var values map[string]string
	n := running(t, Options{Contacts: []Contact{c}, Host: "hub", Command: func(_ context.Context, contact, said string, v map[string]string) (string, error) {
		name, text, values = contact, said, v
		return "exit code 0", nil
	}})
	if got := n.Test(t.Context(), "sms"); got[0].Err != nil || name != "sms" || !strings.Contains(text, "essai") {
		t.Errorf("test: %+v, %q", got, text)
	}
	p := n.people[0]
	l := n.tell(p, &body{Change: wireOf(&tocsin.Change{Incident: tocsin.Incident{ID: 3, Rule: "silent", Group: "OVH", Node: "web1", Level: tocsin.Critical, Members: []string{"a", "b"}, Began: time.Now()}, Alias: "the web"}), Title: "x"}, &tocsin.Notice{})
	if _, err := p.ways[0].send(t.Context(), l, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if want := "OVH :: the web :: silent\n\tCRITICALs: silent is 0.00 (outside range []): a b.\n\n"; text != want || values["host"] != "the web" || values["incident"] != "3" {
		t.Errorf("text %q, want %q; values %v", text, want, values)
	}
}
