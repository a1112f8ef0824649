package daemon

import (
	"fmt"

	"tocsin/internal/api"
	"tocsin/internal/fail2ban"
	"tocsin/internal/firewall"
	"tocsin/internal/host"
)

// refuseBeside refuses to ban by the configuration of a fail2ban that is running itself: everybody would be banned twice,
// every mail sent twice, and an unban by one leave the ban of the other. It asks before anything is touched.
func refuseBeside(o *Options) error {
	c := o.Config
	if c.Fail2ban.Dir == "" || o.BesideFail2ban || o.Observe || c.Guard.Observe || firewall.Available() != nil {
		return nil
	}
	f2b, err := fail2ban.Load(fail2ban.LoadOptions{Dir: c.Fail2ban.Dir})
	if err != nil {
		return nil // told where the configuration is put to use
	}
	r, ok := host.Fail2ban(f2b.Main.Socket, f2b.Main.Pidfile)
	if !ok {
		return nil
	}
	return api.Errorf(api.ExitFindings,
		"stop it with `systemctl disable --now fail2ban`, or watch beside it with --observe, or ban beside it with --beside-fail2ban",
		BesideText(&r)+" and bans by the same configuration; nothing was started")
}

// BesideText says which fail2ban is running, and how that is known.
func BesideText(r *host.Running) string {
	if r.PID == 0 {
		return fmt.Sprintf("fail2ban is running (%s)", r.How)
	}
	return fmt.Sprintf("fail2ban is running as process %d (%s)", r.PID, r.How)
}
