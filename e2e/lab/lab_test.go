package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T) (context.Context, *Lab) {
	t.Helper()
	if why := Missing(); why != "" {
		t.Skip(why)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	l, err := New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return ctx, l
}

// A lab is only worth its tests if its sshd really lets people in, and really logs who it does not.
func TestRealSSHD(t *testing.T) {
	ctx, l := start(t)
	key, err := l.Attacker.Key(ctx, "id")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		try  func() (End, error)
		end  End
		log  string // what sshd must say
	}{
		{"right password", func() (End, error) {
			return l.Honest.SSH(ctx, Login{To: VictimHonest, Port: 2222, Password: Password})
		}, In, "Accepted password for marie from 198.51.100.10 "},
		{"root's password", func() (End, error) {
			return l.Honest.SSH(ctx, Login{User: "root", To: VictimHonest6, Password: Password})
		}, In, "Accepted password for root from 2001:db8:10::10 "},
		{"wrong password", func() (End, error) {
			return l.Attacker.SSH(ctx, Login{To: VictimAttacker, Port: 2200, Password: "x"})
		}, Denied, "Failed password for marie from 192.0.2.66 "},
		{"over IPv6", func() (End, error) {
			return l.Attacker.SSH(ctx, Login{To: VictimAttacker6, Password: "x"})
		}, Denied, "Failed password for marie from 2001:db8:66::66 "},
		{"no such user", func() (End, error) {
			return l.Attacker.SSH(ctx, Login{User: "oracle", To: VictimAttacker, Password: "x"})
		}, Denied, "Failed password for invalid user oracle from 192.0.2.66 "},
		{"wrong password by sftp", func() (End, error) {
			return l.Attacker.SFTP(ctx, Login{User: "root", To: VictimAttacker, Password: "x"})
		}, Denied, "Failed password for root from 192.0.2.66 "},
		{"right password by sftp", func() (End, error) {
			return l.Honest.SFTP(ctx, Login{To: VictimHonest, Port: 2200, Password: Password})
		}, In, "Accepted password for marie from 198.51.100.10 "},
		{"keys only", func() (End, error) {
			return l.Attacker.Keys(ctx, Login{To: VictimAttacker}, key)
		}, Denied, "Connection closed by authenticating user marie 192.0.2.66 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			end, err := tt.try()
			if err != nil || end != tt.end {
				t.Errorf("the client: %v, %v, want %v", end, err, tt.end)
			}
			err = Poll(ctx, 30*time.Second, func() (bool, error) {
				log, err := l.Victim.Read(AuthLog)
				return strings.Contains(log, tt.log), err
			})
			if err != nil {
				t.Errorf("wait for %q in the log: %v", tt.log, err)
			}
		})
	}
}

func TestSessionThatSomebodySitsAt(t *testing.T) {
	ctx, l := start(t)
	s, err := l.Honest.Open(ctx, Login{To: VictimHonest})
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"typo", "tpyo", Password} {
		if err := s.Type(ctx, password, 30*time.Second); err != nil {
			t.Fatalf("type %q: %v", password, err)
		}
	}
	if err := s.Echo(ctx, "hello", 30*time.Second); err != nil {
		t.Errorf("echo: %v; the client said %q", err, s.Output())
	}
	if _, err := l.Victim.Script(ctx, "nft add table inet t; nft add chain inet t c '{ type filter hook prerouting priority raw; }'; nft add rule inet t c ip saddr 198.51.100.10 drop"); err != nil {
		t.Fatal(err)
	}
	if err := s.Echo(ctx, "anybody", time.Second); !errors.Is(err, ErrLate) {
		t.Errorf("echo through a drop rule: %v, want ErrLate", err)
	}
	if err := l.Honest.Connect(At(VictimHonest, 22), time.Second); err == nil {
		t.Error("connected through a drop rule")
	}
	if err := l.Attacker.Connect(At(VictimAttacker, 22), 30*time.Second); err != nil {
		t.Errorf("the other host: %v", err)
	}
}
