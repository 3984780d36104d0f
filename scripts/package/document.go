package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/duoflow/duoflow/cmd/manual"
)

// shells are those that completion is made for, and what its file is called there.
var shells = []struct{ shell, dir, file string }{
	{"bash", "usr/share/bash-completion/completions", "%s"},
	{"zsh", "usr/share/zsh/vendor-completions", "_%s"},
	{"fish", "usr/share/fish/vendor_completions.d", "%s.fish"},
}

// sections are the manual sections of the programs.
var sections = map[string]int{"duoflowd": 8, "duoctl": 1, "duoetl": 1}

// settings are the pages of configuration files: of which struct, in which package, and who reads the file.
var settings = map[string]struct{ page, dir, file, short, reader string }{
	"duoflowd": {"duoflow-node.yaml", "node", "/etc/duoflow/node.yaml", "configuration of a duoflow node", "duoflowd(8)"},
	"duoetl":   {"duoflow-etl.yaml", "etl", "/etc/duoflow/etl.yaml", "configuration of duoetl", "duoetl(1)"},
}

// document writes manual pages and completion to share, as each program has them for itself.
func (j *job) document(ctx context.Context, _ string) error {
	for _, p := range j.wanted() {
		program, err := j.native(ctx, p)
		if err != nil {
			return err
		}
		page, err := command(ctx, "/", []string{"HOME=/"}, program, "manual")
		if err != nil {
			return err
		}
		if err := j.share(p.name, fmt.Sprintf("usr/share/man/man%d/%s.%[1]d", sections[p.name], p.name), page); err != nil {
			return err
		}
		for _, s := range shells {
			text, err := command(ctx, "/", []string{"HOME=/"}, program, "completion", s.shell)
			if err != nil {
				return err
			}
			if err := j.share(p.name, filepath.Join(s.dir, fmt.Sprintf(s.file, p.name)), text); err != nil {
				return err
			}
		}
		if err := j.describe(p.name); err != nil {
			return err
		}
	}
	return nil
}

// describe writes the page of the file that a program is configured with, if there is one.
func (j *job) describe(program string) error {
	s, ok := settings[program]
	if !ok {
		return nil
	}
	keys, err := readKeys(filepath.Join(j.root, s.dir))
	if err != nil {
		return err
	}
	page := &manual.Page{}
	page.Title(s.page, 5, "duoflow "+j.stamp.linked())
	page.Name(s.page, s.short)
	page.Section("description")
	page.Text(s.file + " is what " + s.reader + " reads unless --config names another file. It is YAML. Unknown keys are refused, and all mistakes are reported at once.\n\n" +
		"In the names of keys below, NAME stands for a name that you choose, and a list's items have the keys after it.")
	writeKeys(page, keys)
	page.Section("see also")
	page.Text(s.reader + ", duoctl(1)")
	return j.share(program, "usr/share/man/man5/"+s.page+".5", page.String())
}

// share writes a file that is the same for all architectures.
func (j *job) share(program, path, text string) error {
	path = filepath.Join(j.work, "share", program, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
