package firewall

import (
	"errors"
	"fmt"
	"syscall"

	"tocsin"
)

// Available says whether this process can use nf_tables here: nil, or why not, in words for the user. It asks the kernel
// to judge the rules that we would make, and changes nothing.
func Available() error {
	s, err := dial(0)
	if err != nil {
		return explain(err)
	}
	defer s.close()
	return probe(s, false)
}

// probe has the kernel check one of everything that we make, with or without rules that reject.
func probe(s *socket, reject bool) error {
	r := ruleset{batch: newBatch("tocsin_probe"), noReject: !reject}
	r.base(nil)
	r.group(newGroup(scope{ports: []uint16{22}}))
	r.group(newGroup(scope{verdict: tocsin.Reject}))
	return explain(s.check(r.batch))
}

// explain puts the usual reasons why nf_tables refuses everything into words. The kernel's answer stays wrapped.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("no permission to change the firewall: root, or CAP_NET_ADMIN, is needed (%w)", err)
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EAFNOSUPPORT),
		errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("this kernel has no nf_tables that could be used, as in OpenVZ guests (%w)", err)
	}
	return err
}
