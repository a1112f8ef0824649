package munin

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"tocsin"
)

// maxTreeFiles bounds a tree; a master of 50 nodes has 8,000 files.
const maxTreeFiles = 1 << 20

// Tree is the history that a Munin master keeps: its dbdir.
type Tree struct {
	Data     *Datafile // empty where there was none
	Files    []TreeFile
	Problems []Problem
}

// TreeFile is one RRD file and the series whose history it holds.
type TreeFile struct {
	Path string
	tocsin.Series
	Type    Type
	Service *Service // as the datafile describes it; nil if that does not know it
	Former  bool     // the field has another type by now, and with it another file
	// Guessed says that the datafile does not know the file, so that its name was taken apart, which may be read in
	// several ways: a node that was renamed or given up.
	Guessed bool
}

// ReadTree lists the files of the tree at dir, in the order of their paths, without opening them.
func ReadTree(dir string) (*Tree, error) {
	t := &Tree{Data: &Datafile{}}
	var wrong problems
	if d, err := ReadDatafile(filepath.Join(dir, "datafile")); err == nil {
		t.Data = d
		wrong = append(wrong, d.Problems...)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else {
		wrong.add(filepath.Join(dir, "datafile"), 0, "it is not there: whose the files are is guessed from their names")
	}
	names := map[string]bool{} // paths within the tree of what ends in .rrd
	var order []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil:
			wrong.add(path, 0, "%v", errors.Unwrap(err))
			return nil
		case e.IsDir() || !strings.HasSuffix(path, ".rrd"):
			return nil
		case len(order) >= maxTreeFiles:
			return fmt.Errorf("read %s: there are more than %d RRD files", dir, maxTreeFiles)
		}
		name, err := filepath.Rel(dir, path)
		names[name] = true
		order = append(order, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	known := t.Data.files()
	var strange []int
	for _, name := range order {
		f, ok := known[name]
		if !ok {
			strange = append(strange, len(t.Files))
		}
		f.Path = filepath.Join(dir, name)
		t.Files = append(t.Files, f)
	}
	guess(dir, t, strange, &wrong)
	t.Problems = wrong
	return t, nil
}

// typeLetters are the last letters of file names, by type.
var typeLetters = [...]string{Gauge: "g", Counter: "c", Derive: "d", Absolute: "a"}

// RRDName is the path, below a master's dbdir, of the file that holds the series.
func RRDName(s tocsin.Series, t Type) string {
	return fmt.Sprintf("%s/%s-%s-%s-%s.rrd", strings.NewReplacer(";", "/", ":", "/").Replace(s.Group), s.Node,
		strings.ReplaceAll(s.Service, ".", "-"), s.Field, typeLetters[t])
}

// files are the names of the files that the nodes' fields have or had, with what they hold.
func (d *Datafile) files() map[string]TreeFile {
	files := map[string]TreeFile{}
	for _, n := range d.Nodes {
		for _, s := range n.Services {
			for i := range s.Fields {
				series := tocsin.Series{Group: n.Group, Node: n.Name, Service: s.Name, Field: s.Fields[i].Name}
				now := s.Fields[i].Type()
				for t := range typeLetters {
					f := TreeFile{Series: series, Type: Type(t), Service: s, Former: Type(t) != now}
					name := RRDName(series, f.Type)
					if old, ok := files[name]; !ok || old.Former && !f.Former {
						files[name] = f
					}
				}
			}
		}
	}
	return files
}

// guess says of the files at which, which the datafile does not know, whose they may be.
func guess(dir string, t *Tree, which []int, wrong *problems) {
	nodes := map[string][]string{} // known names by folder
	for _, n := range t.Data.Nodes {
		folder := strings.ReplaceAll(n.Group, ";", "/")
		nodes[folder] = append(nodes[folder], n.Name)
	}
	// The nodes that the datafile does not know are told by the shortest of the names they could have.
	candidates := map[string][]string{}
	for _, i := range which {
		folder, base, _ := treeName(dir, t.Files[i].Path)
		if node, ok := dottedNode(base); ok {
			candidates[folder] = append(candidates[folder], node)
		} else if rest, _, ok := cutLast(base, "-"); ok {
			if node, _, ok := cutLast(rest, "-"); ok {
				candidates[folder] = append(candidates[folder], node)
			}
		}
	}
	shortest := map[string]map[string]bool{}
	for folder, names := range candidates {
		shortest[folder] = map[string]bool{}
		for _, n := range names {
			shortest[folder][n] = true
		}
	}
	kept := t.Files[:0]
	next := 0
	for i, f := range t.Files {
		if next < len(which) && which[next] == i {
			next++
			folder, base, typ := treeName(dir, f.Path)
			node := longestNode(nodes[folder], base)
			if node == "" {
				node = shortestNode(shortest[folder], base)
			}
			rest := strings.TrimPrefix(base, node+"-")
			service, field, ok := cutLast(rest, "-")
			if node == "" || !ok || typ < 0 || service == "" || field == "" {
				wrong.add(f.Path, 0, "its name is none that Munin gives; import it with a name of your own")
				continue
			}
			f.Series = tocsin.Series{Group: strings.ReplaceAll(folder, "/", ";"), Node: asUTF8(node), Service: asUTF8(strings.ReplaceAll(service, "-", ".")), Field: asUTF8(field)}
			f.Type, f.Guessed = Type(typ), true
		}
		kept = append(kept, f)
	}
	t.Files = kept
}

// treeName takes the path of a file apart: its folder below dir, its name without type, and the type, -1 if it has none.
func treeName(dir, path string) (folder, base string, typ int) {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return "", "", -1
	}
	folder = asUTF8(filepath.ToSlash(filepath.Dir(name)))
	if folder == "." {
		folder = ""
	}
	base, letter, _ := cutLast(strings.TrimSuffix(filepath.Base(name), ".rrd"), "-")
	for t, l := range typeLetters {
		if l == letter {
			return folder, base, t
		}
	}
	return folder, base, -1
}

// longestNode is the longest of the names that base begins with.
func longestNode(names []string, base string) (node string) {
	for _, n := range names {
		if len(n) > len(node) && strings.HasPrefix(base, n+"-") {
			node = n
		}
	}
	return node
}

// shortestNode is the shortest of the names that base begins with.
func shortestNode(names map[string]bool, base string) string {
	for i := range len(base) {
		if base[i] == '-' && names[base[:i]] {
			return base[:i]
		}
	}
	return ""
}

// dottedNode is the node's name where that has dots, which neither service nor field have in a file's name.
func dottedNode(base string) (node string, ok bool) {
	dot := strings.LastIndexByte(base, '.')
	if dot < 0 {
		return "", false
	}
	dash := strings.IndexByte(base[dot:], '-')
	if dash < 0 {
		return "", false
	}
	return base[:dot+dash], true
}
