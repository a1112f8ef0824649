package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"tocsin/internal/abuseipdb"
	"tocsin/internal/api"
	"tocsin/internal/host"
)

// What the watch process keeps lies in a folder of its own within the state folder, and belongs to its user.
const (
	watchFolder = "watch"
	watchSocket = "watch.sock"
	watchStore  = "watch.db"
	keyFile     = "key"
	// credential is the key's name where systemd hands it over (systemd.exec(5), LoadCredential).
	credential = "abuseipdb-key"
	maxKeyFile = 4 << 10
)

// WatchFolder is where the watch process keeps its things, given the state folder.
func WatchFolder(state string) string { return filepath.Join(state, watchFolder) }

// WatchSocket is where the watch process answers, given the state folder.
func WatchSocket(state string) string { return filepath.Join(WatchFolder(state), watchSocket) }

// makeWatchFolder makes the folder of the watch process. As root it gives it to the user of the watch process, and lets
// that user through the state folder, which stays closed to him otherwise.
func makeWatchFolder(state string) (dir string, err error) {
	dir = WatchFolder(state)
	if err := os.MkdirAll(state, 0o750); err != nil {
		return dir, fmt.Errorf("make state folder: %w", err)
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return dir, fmt.Errorf("make folder of the watch process: %w", err)
	}
	if !mayGive() {
		return dir, nil
	}
	u := watchUser()
	if err := letThrough(state, u.GID); err != nil {
		return dir, err
	}
	return dir, giveTree(dir, int(u.UID), int(u.GID))
}

// mayGive says whether this process may give files to somebody else.
func mayGive() bool { return os.Geteuid() == 0 && host.Have(unix.CAP_CHOWN) }

// letThrough lets a group enter a folder of root, without reading what is in it.
func letThrough(dir string, gid uint32) error {
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || fi.Mode().Perm()&0o001 != 0 || st.Gid == gid && fi.Mode().Perm()&0o010 != 0 {
		return nil
	}
	if st.Uid != 0 || st.Gid != 0 {
		return fmt.Errorf("the watch process cannot enter %s: it belongs to user %d and group %d; chgrp %d %s && chmod g+x %s", dir, st.Uid, st.Gid, gid, dir, dir)
	}
	if err := os.Chown(dir, -1, int(gid)); err != nil {
		return err
	}
	return os.Chmod(dir, fi.Mode().Perm()|0o010)
}

// giveTree gives a folder and what lies right in it to a user. Links are not followed: the folder is the user's.
func giveTree(dir string, uid, gid int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	err = os.Lchown(dir, uid, gid)
	for _, e := range entries {
		if e.Type().IsRegular() {
			err = errors.Join(err, os.Lchown(filepath.Join(dir, e.Name()), uid, gid))
		}
	}
	return err
}

// StoreKey keeps the API key for the watch process, in a file that only its user can read, and says where.
func StoreKey(state, text string) (path string, err error) {
	if _, err := abuseipdb.NewSecret(text); err != nil {
		return "", api.Errorf(api.ExitData, "copy it from https://www.abuseipdb.com/account/api", err.Error())
	}
	dir, err := makeWatchFolder(state)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, keyFile)
	if err := replaceFile(path, []byte(text+"\n")); err != nil { // mode 0600 from its first moment on
		return "", fmt.Errorf("store the key: %w", err)
	}
	if !mayGive() {
		return path, nil
	}
	u := watchUser()
	return path, os.Lchown(path, int(u.UID), int(u.GID))
}

// replaceFile writes a file so that after a crash at any moment the old or the new one is there, whole.
func replaceFile(path string, text []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ForgetKey removes the stored key. That there is none is no error.
func ForgetKey(state string) (path string, err error) {
	path = filepath.Join(WatchFolder(state), keyFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	return path, nil
}

// keyPaths are where the key may be, the first that holds one counts.
func keyPaths(dir string) []string {
	paths := []string{filepath.Join(dir, keyFile)}
	if handed := os.Getenv("CREDENTIALS_DIRECTORY"); handed != "" {
		paths = append([]string{filepath.Join(handed, credential)}, paths...)
	}
	return paths
}

// isBlank says whether a file holds no key: the unit hands over an empty one where there is none.
func isBlank(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

var errNoKey = errors.New("there is no API key; store it with: tocsin reputation key")

// readKey reads the API key anew for every call, so that a new one counts at once: from systemd's credential, or else the
// stored file.
func readKey(dir string) (abuseipdb.Secret, error) {
	for _, path := range keyPaths(dir) {
		fi, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return abuseipdb.Secret{}, fmt.Errorf("read the API key: %w", err)
		case fi.Size() > maxKeyFile:
			return abuseipdb.Secret{}, fmt.Errorf("the API key in %s has %d bytes, which is none", path, fi.Size())
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return abuseipdb.Secret{}, fmt.Errorf("read the API key: %w", err)
		}
		if isBlank(text) {
			continue
		}
		key, err := abuseipdb.NewSecret(string(text))
		if err != nil {
			return key, fmt.Errorf("%s: %w", path, err)
		}
		return key, nil
	}
	return abuseipdb.Secret{}, errNoKey
}
