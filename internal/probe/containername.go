package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxNameFile bounds the files that containers' names are looked up in.
const maxNameFile = 8 << 20

// readPlain reads a regular file of at most limit bytes. It waits for nobody: what is no regular file is refused, as is a
// link in the place of the file.
func readPlain(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// names looks up what people call a container. Where it cannot, the short form of the id stands in.
type names struct {
	root string
	// pods and kubes are read once a walk.
	pods  map[string]map[string]string // by the folder of podman's storage, by id
	kubes map[string]string
}

// of is the name of a container; label is how it is shown.
func (n *names) of(g group) (name, label string) {
	switch g.kind {
	case kindDocker:
		name = n.docker(g.id)
	case kindPodman:
		name = n.podman(g.user, g.id)
	case kindKubernetes:
		name = n.kubernetes(g.id)
	case kindLXC, kindVM:
		name = g.id
		if host := n.proxmox(g); host != "" {
			return name, host + " (" + name + ", " + kindLabels[g.kind] + ")"
		}
	default:
		name = g.id
	}
	if name == "" {
		name = g.id[:min(12, len(g.id))]
	}
	if g.kind == kindService {
		return name, name
	}
	return name, name + " (" + kindLabels[g.kind] + ")"
}

func (n *names) docker(id string) string {
	text, err := readPlain(filepath.Join(n.root, "var/lib/docker/containers", id, "config.v2.json"), maxNameFile)
	if err != nil {
		return ""
	}
	var conf struct{ Name string }
	if json.Unmarshal(text, &conf) != nil {
		return ""
	}
	return strings.TrimPrefix(conf.Name, "/")
}

// podman reads the list of containers of root's storage, or of a user's who runs them without root.
func (n *names) podman(uid, id string) string {
	dir := "var/lib/containers/storage"
	if uid != "" {
		home := n.homeOf(uid)
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".local/share/containers/storage")
	}
	byID, ok := n.pods[dir]
	if !ok {
		byID = map[string]string{}
		if text, err := readPlain(filepath.Join(n.root, dir, "overlay-containers/containers.json"), maxNameFile); err == nil {
			var all []struct {
				ID    string   `json:"id"`
				Names []string `json:"names"`
			}
			if json.Unmarshal(text, &all) == nil {
				for _, c := range all {
					if len(c.Names) > 0 {
						byID[c.ID] = c.Names[0]
					}
				}
			}
		}
		if n.pods == nil {
			n.pods = map[string]map[string]string{}
		}
		n.pods[dir] = byID
	}
	return byID[id]
}

func (n *names) homeOf(uid string) string {
	text, err := readPlain(filepath.Join(n.root, "etc/passwd"), maxNameFile)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if parts := strings.Split(line, ":"); len(parts) == 7 && parts[2] == uid {
			return parts[5]
		}
	}
	return ""
}

// kubernetes reads the names of the logs that the kubelet links: POD_NAMESPACE_CONTAINER-ID.log.
func (n *names) kubernetes(id string) string {
	if n.kubes == nil {
		n.kubes = map[string]string{}
		entries, _ := os.ReadDir(filepath.Join(n.root, "var/log/containers"))
		for _, e := range entries {
			name, is := strings.CutSuffix(e.Name(), ".log")
			if i := strings.LastIndexByte(name, '-'); is && i > 0 && hexID(name[i+1:], "") {
				parts := strings.SplitN(name[:i], "_", 3)
				if len(parts) == 3 {
					n.kubes[name[i+1:]] = parts[1] + "/" + parts[0] + "/" + parts[2]
				}
			}
		}
	}
	return n.kubes[id]
}

// proxmox is the host name of a guest that is known by a number.
func (n *names) proxmox(g group) string {
	if strings.Trim(g.id, "0123456789") != "" {
		return ""
	}
	dir, key := "lxc", "hostname:"
	if g.kind == kindVM {
		dir, key = "qemu-server", "name:"
	}
	text, err := readPlain(filepath.Join(n.root, "etc/pve", dir, g.id+".conf"), maxNameFile)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "[") {
			break // snapshots
		}
		if host, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(host)
		}
	}
	return ""
}
