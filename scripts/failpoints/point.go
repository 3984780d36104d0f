package failpoints

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.etcd.io/gofail/code"
)

// Point is one place in the product.
type Point struct {
	Name string // a Go identifier, the same in comment and environment
	File string // path below the root
	Line int    // from 1
}

// pointLine is a line that gofail takes for a place. It wants it exactly so, and takes a comment that follows for its code.
var pointLine = regexp.MustCompile(`^\s*// gofail: var (\w+) struct\{\}$`)

// anyPoint finds also what was meant as one and is none.
const anyPoint = "// gofail"

// Points lists the places of a module's own code, scripts apart, by file and line. One that is spelt in another way, is
// followed by a comment, or bears a name that is taken is an error: nobody would notice that it is not there.
func Points(root string) ([]Point, error) {
	files, err := sources(root)
	if err != nil {
		return nil, err
	}
	var all []Point
	at := map[string]Point{}
	for _, file := range files {
		some, err := pointsIn(root, file)
		if err != nil {
			return nil, err
		}
		for _, p := range some {
			if first, taken := at[p.Name]; taken {
				return nil, fmt.Errorf("%s:%d: failpoint %s is in %s:%d already", p.File, p.Line, p.Name, first.File, first.Line)
			}
			at[p.Name] = p
		}
		all = append(all, some...)
	}
	return all, nil
}

func pointsIn(root, file string) ([]Point, error) {
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, fmt.Errorf("look for failpoints: %w", err)
	}
	var some []Point
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if !strings.Contains(line, anyPoint) {
			continue
		}
		match := pointLine.FindStringSubmatch(line)
		if match == nil {
			return nil, fmt.Errorf("%s:%d: not a failpoint: %q", file, i+1, strings.TrimSpace(line))
		}
		if i+1 < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[i+1]), "//") {
			return nil, fmt.Errorf("%s:%d: the comment below failpoint %s would become code", file, i+2, match[1])
		}
		some = append(some, Point{Name: match[1], File: file, Line: i + 1})
	}
	return some, nil
}

// sources lists the files that go into a program of the module, below root.
func sources(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || path == filepath.Join(root, "scripts")) {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			below, err := filepath.Rel(root, path)
			files = append(files, below)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for failpoints: %w", err)
	}
	return files, nil
}

// awake is a file with its failpoints as code, and the file that has to lie beside it then.
func awake(text []byte, pkg string) (changed, beside []byte, err error) {
	var out, binding bytes.Buffer
	points, err := code.ToFailpoints(&out, bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	if err := code.NewBinding(pkg, points).Write(&binding); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), binding.Bytes(), nil
}
