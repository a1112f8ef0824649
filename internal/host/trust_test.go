package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRootOnly(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root can be made by root only")
	}
	tests := []struct {
		name string
		make func(dir string) error // of dir/f
		want string                 // in the error; "": none
	}{
		{"root's", func(dir string) error { return os.WriteFile(dir+"/f", nil, 0o644) }, ""},
		{"not there", func(string) error { return nil }, ""},
		{"everybody's", func(dir string) error {
			mode(t, dir+"/f", 0o666)
			return nil
		}, "written by everybody"},
		{"somebody's", func(dir string) error { return os.Chown(mode(t, dir+"/f", 0o644), 65534, 0) }, "belongs to user 65534"},
		{"a group's", func(dir string) error { return os.Chown(mode(t, dir+"/f", 0o664), 0, 65534) }, "written by group 65534"},
		{"in an open folder", func(dir string) error { return os.Chmod(dir, 0o777) }, "written by everybody"},
		{"in a sticky folder", func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }, ""},
		{"a link to somebody's", func(dir string) error {
			if err := os.Chown(mode(t, dir+"/g", 0o644), 65534, 0); err != nil {
				return err
			}
			return os.Symlink("g", dir+"/f")
		}, "belongs to user 65534"},
		{"a link to itself", func(dir string) error { return os.Symlink("f", dir+"/f") }, "too many symbolic links"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "d")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := tt.make(dir); err != nil {
				if os.IsPermission(err) {
					t.Skipf("root's privileges are gone: %v", err)
				}
				t.Fatal(err)
			}
			err := RootOnly(dir+"/f", map[string]bool{})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("RootOnly = %v, want %q", err, tt.want)
			}
		})
	}
}

// mode makes a file with a mode, whatever the umask is.
func mode(t *testing.T, path string, perm os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, nil, perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
	return path
}
