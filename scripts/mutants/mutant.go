package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutant is one change and the tests that must not pass with it.
type mutant struct {
	name string
	file string // path of the changed file
	dir  string // folder of the tests' package
	// tests must each fail.
	tests []string
	tags  string
	// on are versions of Postgres, such as "15"; the empty one is what is installed.
	on    []string
	hunks []hunk
}

// hunk is lines, each with its end, and what takes their place.
type hunk struct{ old, new string }

// read parses a file of mutants.
func read(path string) ([]mutant, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []mutant
	number := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		number++
		line := lines.Text()
		if name, begins := strings.CutPrefix(line, "== "); begins {
			all = append(all, mutant{name: name, dir: filepath.Dir(path), on: []string{""}})
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if len(all) == 0 || !all[len(all)-1].add(filepath.Dir(path), line) {
			return nil, fmt.Errorf("%s:%d: cannot read %q", path, number, line)
		}
	}
	for _, m := range all {
		if m.file == "" || len(m.tests) == 0 || len(m.hunks) == 0 {
			return nil, fmt.Errorf("%s: mutant %q lacks its file, its test or a line with a minus", path, m.name)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no mutants", path)
	}
	return all, nil
}

// add takes in one line of the mutant's section; false when it has no meaning.
func (m *mutant) add(dir, line string) bool {
	switch line[0] {
	case '-':
		last := len(m.hunks) - 1
		if last < 0 || m.hunks[last].new != "" {
			m.hunks, last = append(m.hunks, hunk{}), last+1
		}
		m.hunks[last].old += line[1:] + "\n"
		return true
	case '+':
		if len(m.hunks) == 0 {
			return false
		}
		m.hunks[len(m.hunks)-1].new += line[1:] + "\n"
		return true
	}
	key, value, _ := strings.Cut(line, " ")
	switch key {
	case "file":
		m.file = filepath.Join(dir, value)
	case "package":
		m.dir = filepath.Join(dir, value)
	case "test":
		m.tests = append(m.tests, strings.Fields(value)...)
	case "tags":
		m.tags = value
	case "on":
		m.on = strings.Fields(value)
	default:
		return false
	}
	return true
}

// errPlace: the code has changed, and the mutant must be written anew.
var errPlace = errors.New("its lines are not in the file exactly once")

// apply returns the text of the file with the change.
func (m mutant) apply() ([]byte, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return nil, err
	}
	changed := "\n" + string(text)
	for _, h := range m.hunks {
		if strings.Count(changed, "\n"+h.old) != 1 {
			return nil, errPlace
		}
		changed = strings.Replace(changed, "\n"+h.old, "\n"+h.new, 1)
	}
	return []byte(changed[1:]), nil
}
