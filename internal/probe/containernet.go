package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Bounds of the search for a process of a container.
const (
	maxPidDirs = 256
	maxPids    = 256
)

// namespaces tells whose network a process has.
type namespaces struct {
	proc   string
	byLink bool   // /proc/PID/ns/net can be read, which needs the right to trace
	host   string // ours
}

// newNamespaces takes the network of process 1 for the host's, or our own where process 1 is hidden.
func newNamespaces(proc string) namespaces {
	n := namespaces{proc: proc, byLink: true}
	for _, n.byLink = range []bool{true, false} {
		for _, pid := range []string{"1", "self"} {
			if n.host = n.of(pid); n.host != "" {
				return n
			}
		}
	}
	return n
}

// of names the network namespace of a process, "" if that is hidden or the process is gone. Where the link may not be read
// the file net/dev tells: each namespace has one of its own, with its own inode number, and anybody may look at it.
func (n namespaces) of(pid string) string {
	if n.byLink {
		link, _ := os.Readlink(filepath.Join(n.proc, pid, "ns/net"))
		return link
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(n.proc, pid, "net/dev"), &st); err != nil {
		return ""
	}
	return strconv.FormatUint(st.Ino, 10)
}

// isMember says whether a process belongs to one of the groups at paths, or to a group inside. The process may have ended
// and its number may have gone to another.
func isMember(k *kernelFile, proc, pid string, paths []string) bool {
	for line := range bytes.Lines(k.read(filepath.Join(proc, pid, "cgroup"))) {
		if bytes.Count(line, []byte(":")) < 2 {
			continue
		}
		path := strings.TrimSuffix(string(bytes.SplitN(line, []byte(":"), 3)[2]), "\n")
		for _, p := range paths {
			if p != "" && (path == "/"+p || strings.HasPrefix(path, "/"+p+"/")) {
				return true
			}
		}
	}
	return false
}

// findPid finds a process that has the container's network: the first one that is number 1 in a namespace of processes, for
// services inside may have networks of their own; else the first. all lists those that were looked at. It looks at the
// container's own directory first, then at those inside, the shallow ones before the deep ones.
func findPid(k *kernelFile, proc, dir string) (pid string, all []string) {
	dirs := []string{dir}
	for i := 0; i < len(dirs) && len(all) < maxPids; i++ {
		for line := range bytes.Lines(k.read(filepath.Join(dirs[i], "cgroup.procs"))) {
			if p := string(bytes.TrimSpace(line)); p != "0" && parsePid(p) > 0 && len(all) < maxPids { // 0: in no namespace of ours
				all = append(all, p)
			}
		}
		entries, err := os.ReadDir(dirs[i])
		if err != nil {
			continue
		}
		for _, e := range entries {
			// nspawn itself sits in supervisor, and has the host's network.
			if e.IsDir() && e.Name() != "supervisor" && len(dirs) < maxPidDirs {
				dirs = append(dirs, filepath.Join(dirs[i], e.Name()))
			}
		}
	}
	for _, p := range all {
		if isInit(k.read(filepath.Join(proc, p, "status"))) {
			return p, all
		}
	}
	if len(all) > 0 {
		return all[0], all
	}
	return "", nil
}

// isInit says whether a /proc/PID/status is that of a process with number 1 in its own namespace.
func isInit(status []byte) bool {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			numbers := bytes.Fields(rest)
			return len(numbers) > 1 && string(numbers[len(numbers)-1]) == "1"
		}
	}
	return false
}

func parsePid(s string) int {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

// veths are the host's ends of pairs of virtual cards, added up by the namespace of the other end.
type veths struct {
	conn *netlink.Conn
	sums map[int32][3]float64 // received, sent, lost by the other end
}

// errNoVeths says that a namespace has no card whose other end is here.
var errNoVeths = errors.New("no virtual card leads there")

// openVeths asks the kernel for all cards with their counters. It needs no privilege.
func openVeths() (*veths, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	v := &veths{conn: conn, sums: map[int32][3]float64{}}
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump}, Data: make([]byte, unix.SizeofIfInfomsg),
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	for _, m := range answers {
		v.add(m.Data)
	}
	return v, nil
}

func (v *veths) Close() error { return v.conn.Close() }

// add counts one card (rtnetlink(7)). What the host's end received is what the other end sent.
func (v *veths) add(data []byte) {
	if len(data) < unix.SizeofIfInfomsg {
		return
	}
	d, err := netlink.NewAttributeDecoder(data[unix.SizeofIfInfomsg:])
	if err != nil {
		return
	}
	nsid, stats := int32(-1), []byte(nil)
	for d.Next() {
		switch d.Type() {
		case unix.IFLA_LINK_NETNSID:
			nsid = d.Int32()
		case unix.IFLA_STATS64:
			stats = slices.Clone(d.Bytes())
		}
	}
	// struct rtnl_link_stats64: packets r/t, bytes r/t, errors r/t, dropped r/t.
	if d.Err() != nil || nsid < 0 || len(stats) < 8*8 {
		return
	}
	at := func(i int) float64 { return float64(binary.NativeEndian.Uint64(stats[8*i:])) }
	sum := v.sums[nsid]
	v.sums[nsid] = [3]float64{sum[0] + at(3), sum[1] + at(2), sum[2] + at(4) + at(5) + at(6) + at(7)}
}

// rtmGetNsid and netnsaPid ask for the number by which we know the namespace of a process (linux/net_namespace.h).
const (
	rtmGetNsid = 90
	netnsaNsid = 1
	netnsaPid  = 2
)

// of tells the traffic of the namespace of a process, even of one that /proc hides. The number of the namespace is the group
// by which containers that share it are told.
func (v *veths) of(pid string) (nsid int32, received, sent, lost float64, err error) {
	e := netlink.NewAttributeEncoder()
	e.Uint32(netnsaPid, uint32(parsePid(pid)))
	attrs, err := e.Encode()
	if err != nil {
		return 0, 0, 0, 0, err
	}
	// struct rtgenmsg is one byte, padded to four.
	answers, err := v.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: rtmGetNsid, Flags: netlink.Request}, Data: append(make([]byte, 4), attrs...),
	})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	nsid = -1
	for _, m := range answers {
		if len(m.Data) < 4 {
			continue
		}
		d, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			return 0, 0, 0, 0, err
		}
		for d.Next() {
			if d.Type() == netnsaNsid {
				nsid = d.Int32()
			}
		}
	}
	sum, ok := v.sums[nsid]
	if !ok {
		return 0, 0, 0, 0, errNoVeths
	}
	return nsid, sum[0], sum[1], sum[2], nil
}
