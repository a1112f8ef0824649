package list

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// File reads a list from a file of this machine.
type File struct{ path string }

// NewFile takes a URL such as "file:/var/lib/lists/drop.txt" or "file:///var/lib/lists/drop.txt".
func NewFile(rawURL string) (*File, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "file" || u.Host != "" || !filepath.IsAbs(u.Path) {
		return nil, errors.New("the address of the list is no file: write it like file:/var/lib/lists/drop.txt")
	}
	return &File{u.Path}, nil
}

// Fetch reads the file, unless it is the one that p tells of.
func (f *File) Fetch(_ context.Context, t Terms, p Previous) (*Fetched, error) {
	file, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe that nobody writes to must not hold us up
	if err != nil {
		return nil, fmt.Errorf("read a list: %w", err)
	}
	defer file.Close()
	before, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read a list: %w", err)
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("read a list: %s is no file", f.path)
	}
	got := &Fetched{
		ETag: strconv.FormatInt(before.Size(), 10), Modified: before.ModTime().UTC().Format(time.RFC3339Nano),
		Generated: before.ModTime(),
	}
	if p.ETag == got.ETag && p.Modified == got.Modified {
		return &Fetched{Unchanged: true}, nil
	}
	if got.Parsed, err = Parse(file, t.Limit); err != nil {
		return nil, fmt.Errorf("read a list: %w", err)
	}
	after, err := file.Stat()
	if err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		return nil, fmt.Errorf("read a list: %s was written to meanwhile", f.path)
	}
	return got, nil
}
