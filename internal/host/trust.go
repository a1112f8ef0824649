package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxLinks is how many symbolic links may lead from one to the next, as in the kernel.
const maxLinks = 40

// RootOnly says who else than root may change a file or what its name leads to: the file itself, every folder above it,
// and the same for each symbolic link on the way. A folder that everybody may write is no harm if it is sticky, as /tmp is:
// what root has in it stays. What does not exist is well. seen are paths that were found well.
func RootOnly(path string, seen map[string]bool) error {
	return rootOnlyAfter(0, filepath.Clean(path), seen)
}

func rootOnlyAfter(links int, path string, seen map[string]bool) error {
	if seen[path] {
		return nil
	}
	if links > maxLinks {
		return fmt.Errorf("%s: too many symbolic links", path)
	}
	dir := filepath.Dir(path)
	if dir != path {
		if err := rootOnlyAfter(links, dir, seen); err != nil {
			return err
		}
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if err := onlyRootWrites(path, info); err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if err := rootOnlyTarget(links+1, path, dir, seen); err != nil {
			return err
		}
	}
	seen[path] = true
	return nil
}

func rootOnlyTarget(links int, path, dir string, seen map[string]bool) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(target) {
		if dir, err = filepath.EvalSymlinks(dir); err != nil { // or its .. would lead elsewhere
			return err
		}
		target = filepath.Join(dir, target)
	}
	return rootOnlyAfter(links, filepath.Clean(target), seen)
}

func onlyRootWrites(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: cannot tell who owns it", path)
	}
	mode := info.Mode()
	switch {
	case st.Uid != 0:
		return fmt.Errorf("%s belongs to user %d; chown root %s", path, st.Uid, path)
	case mode.Type() == fs.ModeSymlink:
		return nil // its mode means nothing, and where it leads is looked at too
	case mode.IsDir() && mode&fs.ModeSticky != 0:
		return nil
	case mode.Perm()&0o002 != 0:
		return fmt.Errorf("%s can be written by everybody; chmod o-w %s", path, path)
	case mode.Perm()&0o020 != 0 && st.Gid != 0:
		return fmt.Errorf("%s can be written by group %d; chmod g-w %s", path, st.Gid, path)
	}
	return nil
}
