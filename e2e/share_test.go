package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tocsin/e2e/lab"
	"tocsin/internal/abuseipdb/fake"
	"tocsin/internal/api"
)

// The service that these tests talk to runs in this process and listens on the victim's own loopback: only there may a
// service be reached without TLS.
var serviceAt = netip.MustParseAddrPort("127.0.0.1:8053")

const (
	serviceURL = "http://127.0.0.1:8053/api/v2/"
	serviceKey = "canarykey0123456789abcdefcanarykey"
	watchUser  = 4244 // of the account that the package would make
)

// Addresses of the attacker. A list holds public ones only, so that these are, on a link that leads nowhere else.
var (
	listed   = netip.MustParseAddr("41.0.0.66")
	listed22 = netip.MustParseAddr("41.0.0.67") // on a list of one port
	pardoned = netip.MustParseAddr("41.0.0.68") // on the list, and on the allow list
	unlisted = netip.MustParseAddr("41.0.0.69")
)

const reporting = `
[report]
enabled = true
url = "` + serviceURL + `"
hold = "10s"
`

const listing = `
[[list]]
name = "abuseipdb"
url = "abuseipdb:"
`

// sharing is a scene with a service, and attackers from public addresses.
type sharing struct {
	*scene

	service *fake.Server
	watch   *lab.Proc // where it does not run as the guard's child
}

// share makes a scene in which the service has our key. There is no guard yet.
func share(t *testing.T, limit time.Duration, o fake.Options) *sharing {
	t.Helper()
	s := &sharing{scene: newScene(t, limit)}
	plan := fake.PremiumPlan()
	o.Accounts = []fake.Account{{Name: "us", Key: serviceKey, Plan: plan}}
	s.service = fake.New(o)
	stop, err := s.Victim.Serve(serviceAt, s.service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		for _, v := range s.service.Violations() {
			t.Errorf("the service was not asked as it should be: %+v", v)
		}
		if t.Failed() && s.watch != nil {
			t.Logf("the watch process said:\n%s", s.watch.Output())
		}
	})
	accounts, err := s.Victim.Read("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	s.write("/etc/passwd", fmt.Sprintf("%stocsin:x:%d:4243::/:/bin/false\n", regexp.MustCompile(`(?m)^tocsin:.*\n`).ReplaceAllString(accounts, ""), watchUser), 0o644)
	s.addresses(listed, listed22, pardoned, unlisted)
	s.script(fmt.Sprintf(`ip route add 41.0.0.0/24 dev attacker
install -d -m 710 -g 4243 %[1]s
install -d -m 750 -o %[2]d -g 4243 %[1]s/watch`, stateDir, watchUser))
	s.storeKey(serviceKey)
	return s
}

func (s *sharing) storeKey(text string) {
	s.t.Helper()
	cmd := exec.Command(program, "--state", stateDir, "reputation", "key")
	cmd.Stdin = strings.NewReader(text + "\n")
	p, err := s.Victim.Start(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		s.t.Fatalf("tocsin reputation key: %v: %s", err, p.Output())
	}
}

// unit makes the guard run as its unit does: it starts no watch process, which is another unit's.
func (s *sharing) unit() {
	s.t.Helper()
	need(s.t, "setpriv")
	s.under = []string{"setpriv", "--bounding-set", "-all,+net_admin,+dac_read_search", "--inh-caps", "-all", "--no-new-privs",
		"--regid", "4243", "--clear-groups"}
}

// startWatch starts the watch process as its unit does. It returns at once.
func (s *sharing) startWatch() {
	s.t.Helper()
	cmd := exec.Command(program, "--config", configFile, "--state", stateDir, "--socket", socket, "watch")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: watchUser, Gid: 4243}}
	var err error
	if s.watch, err = s.Victim.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
}

// turn makes the watch process take a list for one that was never fetched, once it is started again: a turn comes once a
// day, and no test waits for it.
func (s *sharing) turn(list string) {
	s.t.Helper()
	s.write(stateDir+"/watch/lists/"+list+".state", `{"version":1}`, 0o644)
}

// reputation is what `tocsin reputation --json` says.
type reputation struct {
	Guard *api.ListStates `json:"guard"`
	Watch *api.Reputation `json:"watch"`
}

func (s *sharing) reputation() reputation {
	s.t.Helper()
	return ask[reputation](s.scene, "reputation")
}

// list is one list as the guard has it; the zero one if it has none of that name.
func (s *sharing) list(name string) api.ListState {
	s.t.Helper()
	if g := s.reputation().Guard; g != nil {
		for _, l := range g.Lists {
			if l.Name == name {
				return l
			}
		}
	}
	return api.ListState{}
}

func (s *sharing) inForce(name string, entries int) {
	s.t.Helper()
	s.within(time.Minute, fmt.Sprintf("list %s with %d entries", name, entries), func() (bool, error) {
		l := s.list(name)
		return l.InForce && l.Entries == entries, nil
	})
}

// knocks fails the test unless the attacker's address gets in, or does not, as wanted.
func (s *sharing) knocks(from netip.Addr, port uint16, want bool) {
	s.t.Helper()
	patience := silent
	if want {
		patience = answer
	}
	if err := s.Attacker.ConnectFrom(from, lab.At(lab.VictimAttacker, port), patience); err == nil != want {
		s.t.Errorf("%s connects to port %d: %v, want %t", from, port, err, want)
	}
}

func scored(addrs ...netip.Addr) (all []fake.Listed) {
	for _, a := range addrs {
		all = append(all, fake.Listed{Addr: a, Country: "FR", Score: 100})
	}
	return all
}

// Who is on a list cannot connect, who is allowed or on none can; and after a restart the lists are in force before there
// is a network, with no service and no watch process to ask.
func TestListedAddressCannotConnect(t *testing.T) {
	s := share(t, 2*time.Minute, fake.Options{List: scored(listed, pardoned)})
	s.write("/run/lab/drop.txt", "# one port\n"+listed22.String()+"\n", 0o644)
	s.configure(sshd + listing + "[[list]]\nname = \"drop\"\nurl = \"file:/run/lab/drop.txt\"\nports = [22]\n" +
		"[report]\nurl = \"" + serviceURL + "\"\n")
	s.knocks(listed, 22, true)
	s.run("--config", configFile)
	s.must("allow", pardoned.String())
	s.inForce("abuseipdb", 1)
	s.inForce("drop", 1)
	packets := func() {
		t.Helper()
		for _, port := range []uint16{22, 2200} {
			s.knocks(listed, port, false)
			s.knocks(listed22, port, port != 22)
			s.knocks(pardoned, port, true)
			s.knocks(unlisted, port, true)
		}
		s.reaches(s.Honest, lab.VictimHonest, 22)
	}
	packets()

	r := s.reputation()
	for _, l := range r.Guard.Lists {
		if l.Packets < 1 || l.Packets > 50 {
			t.Errorf("list %s: %d packets counted", l.Name, l.Packets)
		}
	}
	if l := s.list("abuseipdb"); l.Allowed != 1 || l.Delivered != 2 {
		t.Errorf("list abuseipdb: %+v", l)
	}
	text := s.must("reputation")
	for _, want := range []string{"abuseipdb", "drop", "1 entry of the allow list has addresses in it", "reports are off"} {
		if !strings.Contains(text, want) {
			t.Errorf("tocsin reputation does not say %q:\n%s", want, text)
		}
	}
	if !regexp.MustCompile(`(?m)^drop +1 +\S.* 22 .*[1-9][0-9]* packets? `).MatchString(text) {
		t.Errorf("tocsin reputation does not tell the ports and packets of drop:\n%s", text)
	}

	s.stop()
	s.script("nft flush ruleset; ip link set attacker down; ip link set honest down; ip link set lo down")
	s.again()
	for _, name := range []string{"abuseipdb", "drop"} {
		if l := s.list(name); !l.InForce || l.Entries != 1 {
			t.Errorf("with the network down: list %s %+v", name, l)
		}
	}
	s.script(`ip link set lo up; ip link set attacker up; ip link set honest up
ip route replace 192.0.2.0/24 dev attacker; ip route replace 41.0.0.0/24 dev attacker; ip route replace 198.51.100.0/24 dev honest`)
	packets()
}

// Lists that are none are not used: the one in force stays, the reason is said, and somebody may use what there is.
func TestBadListsAreNotUsed(t *testing.T) {
	const entries = 100
	list := func(n int) []fake.Listed {
		all := scored(listed)
		for i := range n - 1 {
			all = append(all, fake.Listed{Addr: netip.AddrFrom4([4]byte{31, 0, 0, byte(i)}), Country: "FR", Score: 100})
		}
		return all
	}
	s := share(t, 3*time.Minute, fake.Options{List: list(entries)})
	s.unit()
	s.configure(sshd + listing + "[report]\nurl = \"" + serviceURL + "\"\n")
	s.run("--config", configFile)
	s.startWatch()
	s.inForce("abuseipdb", entries)
	for _, tt := range []struct {
		name  string
		fault fake.Kind
		list  int
		want  string // what is said
	}{
		{"500", fake.Error500, entries, "500"},
		{"a page with status 200", fake.PageHTML, entries, "no list"},
		{"cut", fake.CutHalf, entries, "the answer was lost"},
		{"429 of the machine before the service", fake.Busy, entries, "429"},
		{"empty", "", 0, "it is empty"},
		{"less than half", "", entries/2 - 1, "less than half"},
	} {
		s.watch.Kill()
		if tt.fault != "" {
			s.service.Inject(fake.Fault{Kind: tt.fault, Endpoint: fake.Blacklist, Times: 1})
		}
		s.service.SetList(list(max(tt.list, 1))[:tt.list])
		s.turn("abuseipdb")
		asked := len(s.service.Requests())
		s.startWatch()
		var said string
		s.within(30*time.Second, tt.name+" to be noticed", func() (bool, error) {
			w := s.reputation().Watch
			if w == nil || len(s.service.Requests()) == asked || len(w.Lists) != 1 {
				return false, nil
			}
			said = w.Lists[0].Error + strings.Join(w.Lists[0].Refused, "; ")
			return said != "" && !strings.Contains(said, "interrupted"), nil
		})
		if !strings.Contains(said, tt.want) {
			t.Errorf("%s: it says %q, want %q", tt.name, said, tt.want)
		}
		if l := s.list("abuseipdb"); !l.InForce || l.Entries != entries {
			t.Errorf("%s: in force are %d entries, want %d", tt.name, l.Entries, entries)
		}
		s.knocks(listed, 22, false)
	}
	if text := s.must("reputation"); !strings.Contains(text, "tocsin reputation accept abuseipdb") {
		t.Errorf("tocsin reputation does not say how the list can be used:\n%s", text)
	}
	s.must("reputation", "accept", "abuseipdb")
	s.inForce("abuseipdb", entries/2-1)
	s.knocks(listed, 22, false)
}

// Lists of half a million addresses are swapped while a listed one knocks a thousand times a second, and an honest one a
// hundred times: of the listed none gets through, and of the honest no packet is dropped.
func TestSwapUnderFire(t *testing.T) {
	const entries, editions, port = 500_000, 4, 8080
	edition := func(n int) []fake.Listed {
		all := scored(listed)
		for i := range entries - 1 {
			a := uint32(31<<24 + i*32 + n) // public, all of it
			all = append(all, fake.Listed{Addr: netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}), Country: "FR", Score: 100})
		}
		return all
	}
	s := share(t, 4*time.Minute, fake.Options{List: edition(0)})
	s.unit()
	s.configure(sshd + listing + fmt.Sprintf("limit = %d\n[report]\nurl = %q\n", entries, serviceURL))
	s.run("--config", configFile)
	for _, h := range []netip.Addr{lab.VictimAttacker, lab.VictimHonest} {
		stop, err := s.Victim.Listen(lab.At(h, port), "hello")
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	s.startWatch()
	s.inForce("abuseipdb", entries)

	fire, cease := context.WithCancel(s.ctx)
	defer cease()
	var bad, good lab.Knocks
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() {
		bad, errs[0] = s.Attacker.Knock(fire, listed, lab.At(lab.VictimAttacker, port), 1000, silent)
	})
	wg.Go(func() {
		good, errs[1] = s.Honest.Knock(fire, lab.Honest, lab.At(lab.VictimHonest, port), 100, 30*time.Second)
	})
	for n := 1; n <= editions; n++ {
		s.watch.Kill()
		s.service.SetList(edition(n))
		s.turn("abuseipdb")
		before := s.list("abuseipdb")
		s.startWatch()
		s.within(time.Minute, fmt.Sprintf("edition %d", n), func() (bool, error) {
			l := s.list("abuseipdb")
			return l.InForce && l.Entries == entries && l.Taken != nil && !l.Taken.Equal(*before.Taken), nil
		})
	}
	cease()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("listed %+v, honest %+v", bad, good)
	if bad.In > 0 || bad.Tried < 1000 {
		t.Errorf("of %d connections from a listed address %d got through", bad.Tried, bad.In)
	}
	if good.In < good.Tried || good.Late > 0 || good.Tried < 100 {
		t.Errorf("of %d honest connections %d came, %d of them late", good.Tried, good.In, good.Late)
	}
	if l := s.list("abuseipdb"); l.Packets < uint64(bad.Tried) {
		t.Errorf("%d packets counted, at least %d were dropped", l.Packets, bad.Tried)
	}
}

// setsOf is the sets that a list's chain asks, each with the addresses in it.
func (s *sharing) setsOf(list string) map[string][]netip.Addr {
	s.t.Helper()
	out, err := s.Victim.Run(s.ctx, "nft", "list", "table", "inet", "tocsin")
	if err != nil {
		s.t.Fatalf("nft list table: %v: %s", err, out)
	}
	all := map[string][]netip.Addr{}
	_, chain, _ := strings.Cut(out, "chain list_"+list+" {")
	chain, _, _ = strings.Cut(chain, "\n\t}")
	for _, m := range regexp.MustCompile(`@(\S+)`).FindAllStringSubmatch(chain, -1) {
		_, set, _ := strings.Cut(out, "set "+m[1]+" {")
		set, _, _ = strings.Cut(set, "\n\t}")
		_, elements, _ := strings.Cut(set, "elements = {")
		all[m[1]] = nil
		for _, word := range strings.FieldsFunc(elements, func(r rune) bool { return strings.ContainsRune(" ,\t\n{}", r) }) {
			if a, err := netip.ParseAddr(word); err == nil {
				all[m[1]] = append(all[m[1]], a)
			}
		}
	}
	return all
}

// The watch process, the guard or both are killed at fifty moments of fetching, handing over, swapping and reporting. The
// list in force is always a whole one, and in the end every ban was reported exactly once.
func TestKillsWhileSharing(t *testing.T) {
	t.Parallel() // it waits for holds
	const kills, entries, bansEach = 50, 5000, 5
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	edition := func(n int) (all []fake.Listed) {
		// Each has another length: within a second, in which nobody fetches twice, it is the length that tells two lists apart.
		for i := range entries + n {
			all = append(all, fake.Listed{Addr: netip.AddrFrom4([4]byte{31, byte(n), byte(i >> 8), byte(i)}), Country: "FR", Score: 100})
		}
		return all
	}
	s := share(t, 5*time.Minute, fake.Options{List: edition(0), Deaths: true})
	// Long enough to be killed within, where so much else happens between two kills.
	for _, endpoint := range []string{fake.ReportOne, fake.Blacklist} {
		s.service.Inject(fake.Fault{Kind: fake.Slow, Endpoint: endpoint, Delay: 40 * time.Millisecond})
	}
	s.unit()
	s.configure(sshd + listing + reporting)
	s.run("--config", configFile)
	s.startWatch()
	s.inForce("abuseipdb", entries)
	s.within(time.Minute, "the guard to be followed", func() (bool, error) {
		w := s.reputation().Watch
		return w != nil && w.Reports.Cursor != 0, nil
	})
	s.watch.Kill()

	last := 0 // the edition in force
	whole := func(when string, may ...int) {
		t.Helper()
		sets := s.setsOf("abuseipdb")
		n, found := 0, map[int]bool{}
		for _, addrs := range sets {
			for _, a := range addrs {
				n++
				found[int(a.As4()[1])] = true
			}
		}
		if len(found) != 1 {
			t.Fatalf("%s: %d addresses of the editions %v are in force, want one", when, n, found)
		}
		for e := range found {
			if n != entries+e {
				t.Fatalf("%s: %d addresses of edition %d are in force, want %d", when, n, e, entries+e)
			}
			if !slices.Contains(may, e) {
				t.Fatalf("%s: edition %d is in force, want one of %v", when, e, may)
			}
			last = e
		}
	}
	banned := map[netip.Addr]bool{}
	swapped := 0
	for n := 1; n <= kills; n++ {
		s.service.SetList(edition(n))
		s.turn("abuseipdb")
		s.startWatch()
		for i := range bansEach {
			a := netip.AddrFrom4([4]byte{45, 1, byte(n), byte(10 + i)})
			s.forge(a, 5, time.Now())
			banned[a] = true
		}
		time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond) // what is waited for is a random moment
		guard, watch := random.IntN(3) == 0, true
		if guard {
			// Later there is something to send, and what cannot be sent without a guard waits for a minute.
			watch = n > 20 || random.IntN(2) == 0
		}
		if watch {
			s.watch.Kill()
		}
		if guard {
			s.guard.Kill()
		}
		before := last
		may := []int{last, n}
		for e := last + 1; e < n; e++ { // one that was kept by a watch process that was killed before it handed it over
			may = append(may, e)
		}
		whole(fmt.Sprintf("kill %d", n), may...)
		s.watch.Kill() // it may have gone on alone
		if guard {
			s.again()
			whole(fmt.Sprintf("start behind kill %d", n), may...)
		}
		if last != before {
			swapped++
		}
	}
	s.turn("abuseipdb") // who was killed within a fetch does not fetch again at once
	s.startWatch()
	s.within(2*time.Minute, "every ban to be reported", func() (bool, error) {
		return len(s.service.Reports()) >= len(banned), nil
	})
	s.within(time.Minute, "the newest list", func() (bool, error) {
		for _, addrs := range s.setsOf("abuseipdb") {
			for _, a := range addrs {
				if int(a.As4()[1]) == kills {
					return true, nil
				}
			}
		}
		return false, nil
	})
	whole("in the end", kills)
	for _, r := range s.service.Reports() {
		if !banned[r.Addr] {
			t.Errorf("%s was reported twice, or for nothing", r.Addr)
		}
		delete(banned, r.Addr)
	}
	if len(banned) > 0 {
		t.Errorf("bans that were not reported: %v", banned)
	}
	var st api.ReportState
	s.within(time.Minute, "the queue to be empty", func() (bool, error) {
		w := s.reputation().Watch
		if w == nil {
			return false, nil
		}
		st = w.Reports
		return st.Queued == 0 && st.Held == 0, nil
	})
	if st.Sent+st.Doubles != kills*bansEach || st.Unknown+st.Refused+st.GivenUp+st.Withdrawn != 0 {
		t.Errorf("the sums are not right: %+v", st)
	}
	t.Logf("%d of %d swaps came before the kill; %d sent, %d doubles that the service dropped", swapped, kills, st.Sent, st.Doubles)
}

// Words of the victim that nobody outside may hear: who is tried, what the host is called, how its log reads.
var canaries = []string{"canaryuser", "canaryhost", "canaryword", "sshd", "Failed password", "Invalid user", "preauth", "victim", lab.User}

// The API key is in one file and in no other place, and what is reported holds nothing of the log.
func TestNothingLeaks(t *testing.T) {
	t.Parallel() // it waits for holds
	s := share(t, 3*time.Minute, fake.Options{Canaries: canaries, List: scored(listed)})
	s.script("hostname canaryhost")
	s.configure(sshd + listing + reporting)
	s.run("--config", configFile, "--debug")
	var texts []string // all that was said to anybody
	said := func(args ...string) string {
		out, _ := s.try(args...)
		texts = append(texts, strings.Join(args, " ")+"\n"+out)
		return out
	}
	s.inForce("abuseipdb", 1)
	s.within(time.Minute, "the guard to be followed", func() (bool, error) {
		w := s.reputation().Watch
		return w != nil && w.Reports.Cursor != 0, nil
	})
	// Real sshd, with names that somebody might have typed by mistake into the wrong field.
	for _, user := range []string{"canaryuser", "canaryuser canaryword", "canaryuser@canaryhost", lab.User, "canaryword"} {
		l := wrong(lab.VictimAttacker, 2200)
		l.User, l.From = user, unlisted
		if _, err := s.Attacker.SSH(s.ctx, l); err != nil {
			t.Fatal(err)
		}
	}
	other := netip.MustParseAddr("45.2.0.9")
	s.forge(other, 5, time.Now())
	s.within(answer, "both to be banned", func() (bool, error) {
		b := s.banned()
		return b[unlisted.String()+"/32"] && b[other.String()+"/32"], nil
	})
	said("reputation", "--dry-run")
	said("reputation", "--dry-run", "--json")
	s.within(time.Minute, "both to be reported", func() (bool, error) { return len(s.service.Reports()) == 2, nil })
	for _, r := range s.service.Reports() {
		if !regexp.MustCompile(`^5 ssh login failures in (\d+|less than 1) s$`).MatchString(r.Comment) || !slices.Equal(r.Categories, []int{18, 22}) {
			t.Errorf("reported: %+v", r)
		}
	}

	for _, args := range [][]string{
		{"reputation"}, {"reputation", "--json"}, {"status"}, {"status", "--json"}, {"doctor"}, {"doctor", "--json"}, {"metrics"},
		{"reputation", "check", "45.2.0.9"}, {"reputation", "forget", "45.2.0.9", "--json"}, {"reputation", "accept", "abuseipdb"},
		{"why", unlisted.String()}, {"check"}, {"reputation", "report", "45.2.0.10"},
	} {
		said(args...)
	}
	// Answers that are errors: a page, and a refusal of the key.
	s.service.Inject(fake.Fault{Kind: fake.PageHTML, Endpoint: fake.Check, Times: 1})
	s.service.Inject(fake.Fault{Kind: fake.CutBefore, Endpoint: fake.Check, Times: 1})
	for range 2 {
		said("reputation", "check", "45.2.0.11")
	}
	mistaken := strings.Replace(serviceKey, "0123", "4567", 1)
	s.storeKey(mistaken)
	if out := said("reputation", "check", "45.2.0.11"); !strings.Contains(out, "reputation key") {
		t.Errorf("a wrong key: %s", out)
	}
	said("doctor")
	s.storeKey(serviceKey)

	secrets := []string{serviceKey, mistaken}
	for pid, text := range s.processes() {
		texts = append(texts, "process "+pid+"\n"+text)
	}
	texts = append(texts, "the output of guard and watch process\n"+s.guard.Output())
	for _, dir := range []string{"/run", "/var/log"} {
		texts = append(texts, s.files(dir)...)
	}
	keys := 0
	for _, text := range texts {
		what, _, _ := strings.Cut(text, "\n")
		for _, secret := range secrets {
			if !strings.Contains(text, secret) {
				continue
			}
			if keys++; what != "file "+stateDir+"/watch/key" {
				t.Errorf("the key is in: %s", what)
			}
		}
	}
	if keys != 1 {
		t.Errorf("the key was found %d times, want once: its file", keys)
	}
	fi, err := os.Stat(s.Victim.Path(stateDir + "/watch/key"))
	if err != nil || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != watchUser {
		t.Errorf("the key's file: %+v, %v", fi, err)
	}
}

// processes are what everybody may know of the victim's processes, and root: command line and environment.
func (s *sharing) processes() map[string]string {
	s.t.Helper()
	out, err := s.Victim.Script(s.ctx, `for p in /proc/[0-9]*; do echo "$p $(tr '\0' ' ' <$p/cmdline) $(tr '\0' ' ' <$p/environ)"; done 2>/dev/null || true`)
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(out) {
		pid, text, _ := strings.Cut(line, " ")
		all[pid] = text
	}
	if !strings.Contains(out, "watch --log-fd") {
		s.t.Errorf("the watch process is not among the processes:\n%s", out)
	}
	return all
}

// files are the files of a folder of the victim, each with its name before it. Programs are left out.
func (s *sharing) files(dir string) (all []string) {
	s.t.Helper()
	root := s.Victim.Path(dir)
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasSuffix(path, program) {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, "file "+dir+strings.TrimPrefix(path, root)+"\n"+string(text))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
