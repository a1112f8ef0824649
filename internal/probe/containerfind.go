package probe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of the walk through the control groups. Who may make cgroups, a container among them, may make many.
const (
	maxContainers  = 1000
	maxCgroups     = 50_000
	maxCgroupDepth = 12
)

// The kinds of control groups that are told from each other by their paths.
const (
	kindDocker     = "docker"
	kindPodman     = "podman"
	kindLXC        = "lxc"
	kindNspawn     = "nspawn"
	kindKubernetes = "kubernetes"
	kindVM         = "vm"
	kindService    = "service"
)

// kindLabels are the kinds as people write them.
var kindLabels = map[string]string{
	kindDocker: "Docker", kindPodman: "podman", kindLXC: "LXC", kindNspawn: "nspawn", kindKubernetes: "Kubernetes", kindVM: "virtual machine",
}

// group is what one control group belongs to, as its path tells.
type group struct {
	kind string
	id   string // the name, or what the name has to be looked up by
	user string // uid of who runs it, "" for the system's own (podman without root)
}

// classify tells what a control group below the root of its tree is. ok is false for everything that is no container, virtual
// machine or service, such as slices, sessions and the helpers that stand beside containers.
func classify(path string) (g group, ok bool) {
	base := filepath.Base(path)
	parent := filepath.Base(filepath.Dir(path))
	scope, isScope := strings.CutSuffix(base, ".scope")
	switch {
	case isScope && hexID(scope, "docker-"):
		return group{kind: kindDocker, id: scope[len("docker-"):]}, true
	case parent == "docker" && hexID(base, ""):
		return group{kind: kindDocker, id: base}, true
	case hexID(scope, "libpod-"):
		return group{kind: kindPodman, id: scope[len("libpod-"):], user: userOf(path)}, true
	case isScope && hexID(scope, "cri-containerd-"):
		return group{kind: kindKubernetes, id: scope[len("cri-containerd-"):]}, true
	case isScope && hexID(scope, "crio-"):
		return group{kind: kindKubernetes, id: scope[len("crio-"):]}, true
	case strings.HasPrefix(path, "kubepods") && hexID(base, ""):
		return group{kind: kindKubernetes, id: base}, true
	case strings.HasPrefix(base, "lxc.payload.") && len(base) > len("lxc.payload."):
		return group{kind: kindLXC, id: base[len("lxc.payload."):]}, true
	case path == "lxc/"+base:
		return group{kind: kindLXC, id: base}, true
	case path == "qemu.slice/"+base && isScope:
		return group{kind: kindVM, id: scope}, true
	}
	if unit, is := strings.CutPrefix(base, "systemd-nspawn@"); is && strings.HasSuffix(unit, ".service") {
		return group{kind: kindNspawn, id: unescapeUnit(strings.TrimSuffix(unit, ".service"))}, true
	}
	if name, is := strings.CutPrefix(scope, "machine-"); is && isScope && strings.HasPrefix(path, "machine.slice/") {
		return machine(unescapeUnit(name)), true
	}
	if strings.HasPrefix(path, "system.slice/") && strings.HasSuffix(base, ".service") {
		return group{kind: kindService, id: unescapeUnit(strings.TrimSuffix(base, ".service"))}, true
	}
	return group{}, false
}

// machine tells who registered a machine with systemd: libvirt writes "qemu-3-web" and "lxc-4711-web", nspawn the name.
func machine(name string) group {
	for prefix, kind := range map[string]string{"qemu-": kindVM, "lxc-": kindLXC} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			if number, name, ok := strings.Cut(rest, "-"); ok && name != "" && strings.Trim(number, "0123456789") == "" {
				return group{kind: kind, id: name}
			}
		}
	}
	return group{kind: kindNspawn, id: name}
}

// hexID says whether s is prefix and 64 hexadecimal digits.
func hexID(s, prefix string) bool {
	rest, ok := strings.CutPrefix(s, prefix)
	return ok && len(rest) == 64 && strings.Trim(rest, "0123456789abcdef") == ""
}

// userOf is the uid in a path such as user.slice/user-1000.slice/..., "" if there is none.
func userOf(path string) string {
	_, rest, _ := strings.Cut("/"+path, "/user-")
	uid, _, ok := strings.Cut(rest, ".slice")
	if !ok || strings.Trim(uid, "0123456789") != "" {
		return ""
	}
	return uid
}

// unescapeUnit undoes systemd's escaping of unit names: \x2d is a byte (systemd.unit(5)).
func unescapeUnit(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// tree is one hierarchy of control groups: the only one of version 2, or that of one controller of version 1.
type tree struct {
	name string // "unified", or the controller
	dir  string
	v2   bool
}

// cgroupTrees finds the hierarchies. Under systemd's hybrid layout the unified one has no controllers, and is read for its
// processes alone.
func cgroupTrees(sys string) ([]tree, error) {
	root := filepath.Join(sys, "fs/cgroup")
	if isV2(root) {
		return []tree{{"unified", root, true}}, nil
	}
	var trees []tree
	joint := false // cpu and cpuacct are links to one hierarchy of both
	for _, name := range []string{"unified", "systemd", "pids", "memory", "cpuacct", "cpu", "cpu,cpuacct", "blkio"} {
		dir, err := filepath.EvalSymlinks(filepath.Join(root, name))
		if err != nil || joint && name == "cpu,cpuacct" {
			continue
		}
		joint = joint || filepath.Base(dir) == "cpu,cpuacct"
		trees = append(trees, tree{name, dir, isV2(dir)})
	}
	if trees == nil {
		return nil, &Off{"no control groups under " + root}
	}
	return trees, nil
}

func isV2(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.controllers"))
	return err == nil
}

// found is a container and its directory in each tree that has one, in the order of the trees.
type found struct {
	group
	paths []string // below the root of the tree; "" where the tree does not have it
}

// errTooMany ends a walk that came to its bound.
var errTooMany = errors.New("too many control groups")

// findGroups walks all trees for the groups that want chooses. What is inside a container belongs to it.
func findGroups(trees []tree, want func(kind string) bool) ([]*found, error) {
	byGroup := map[group]*found{}
	var all []*found
	var failed error
	for i, t := range trees {
		err := walkCgroups(t.dir, func(path string) (descend bool) {
			g, ok := classify(path)
			if !ok {
				return !strings.HasPrefix(filepath.Base(path), "lxc.monitor")
			}
			if want(g.kind) {
				f := byGroup[g]
				if f == nil {
					f = &found{group: g, paths: make([]string, len(trees))}
					byGroup[g] = f
					all = append(all, f)
				}
				if f.paths[i] == "" {
					f.paths[i] = path
				}
			}
			return g.kind == kindService
		})
		if err != nil {
			failed = err
		}
	}
	slices.SortFunc(all, func(a, b *found) int {
		return strings.Compare(a.kind+"\x00"+a.user+"\x00"+a.id, b.kind+"\x00"+b.user+"\x00"+b.id)
	})
	return all, failed
}

// walkCgroups calls visit with each directory below root, as a path without a slash in front, until visit does not want to
// go deeper. Directories that vanish meanwhile are nothing to tell.
func walkCgroups(root string, visit func(path string) (descend bool)) error {
	n := 0
	var walk func(path string, depth int) error
	walk = func(path string, depth int) error {
		dir := filepath.Join(root, path)
		var st unix.Stat_t
		// A directory without any other inside has two links; that spares most reads (kernfs keeps that count).
		if err := unix.Lstat(dir, &st); err != nil || st.Nlink == 2 {
			return nil
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil
		}
		for _, e := range entries {
			if e.Type() != fs.ModeDir {
				continue
			}
			if n++; n > maxCgroups {
				return errTooMany
			}
			sub := filepath.Join(path, e.Name())
			if visit(sub) && depth < maxCgroupDepth {
				if err := walk(sub, depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk("", 1)
}
