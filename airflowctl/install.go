package airflowctl

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/airflowctl/airflow"
)

// install is where what an Airflow scheduler is made from lies on this host.
type install struct {
	python string // "" = not found
	home   string // AIRFLOW_HOME
	config string // airflow.cfg
	// executor is the setting of that name; "" = Airflow's own.
	executor string
	// plugins is a folder of code, paths are PYTHONPATH, user is the user's own home.
	plugins, user string
	paths         []string
}

// folderEntries bounds how many files of a folder of code are looked at.
const folderEntries = 5000

// configBytes bounds how much of airflow.cfg is read; Airflow's own has 130 KB.
const configBytes = 4 << 20

// findInstall reads where things are from the environment a job starts from, as Airflow itself does.
func findInstall(cfg Config) install {
	env := map[string]string{}
	for _, entry := range cfg.Env {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	in := install{user: env["HOME"]}
	if in.user == "" && cfg.User != "" {
		if account, err := user.Lookup(cfg.User); err == nil {
			in.user = account.HomeDir
		}
	}
	in.python = findProgram(cfg.Python, env["PATH"])
	in.home = in.expand(cmp.Or(env["AIRFLOW_HOME"], "~/airflow"), env)
	in.config = in.expand(cmp.Or(env["AIRFLOW_CONFIG"], filepath.Join(in.home, "airflow.cfg")), env)
	in.executor = cmp.Or(env["AIRFLOW__CORE__EXECUTOR"], option(in.config, "core", "executor"))
	plugins := cmp.Or(env["AIRFLOW__CORE__PLUGINS_FOLDER"], option(in.config, "core", "plugins_folder"), "{AIRFLOW_HOME}/plugins")
	in.plugins = in.expand(strings.ReplaceAll(plugins, "{AIRFLOW_HOME}", in.home), env)
	for _, dir := range filepath.SplitList(env["PYTHONPATH"]) {
		if filepath.IsAbs(dir) {
			in.paths = append(in.paths, dir)
		}
	}
	return in
}

func (in install) expand(path string, env map[string]string) string {
	path = os.Expand(path, func(name string) string { return env[name] })
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		return filepath.Join(in.user, rest)
	}
	return path
}

func findProgram(name, path string) string {
	if strings.Contains(name, "/") {
		return name
	}
	for _, dir := range filepath.SplitList(path) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	return ""
}

// option reads one option of a file like airflow.cfg; "" when it is not set there. The file may be the job's user's:
// a pipe in its place must not hold us up.
func option(path, section, name string) string {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	in := ""
	for lines := bufio.NewScanner(io.LimitReader(file, configBytes)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			in = line[1 : len(line)-1]
		}
		key, value, found := strings.Cut(line, "=")
		if found && in == section && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fingerprint looks at everything. What is not there has no entry; what cannot be read neither, which is a change too.
func (in install) fingerprint() fingerprint {
	f := fingerprint{}
	for _, path := range []string{in.python, in.config, filepath.Join(in.home, "webserver_config.py")} {
		f.stat(path)
	}
	for _, dir := range in.paths {
		f.stat(filepath.Join(dir, "airflow_local_settings.py"))
		f.packages(dir)
	}
	f.folder(filepath.Join(in.home, "config"))
	f.folder(in.plugins)
	for _, dir := range in.sitePackages(f) {
		f.packages(dir)
	}
	return f
}

// sitePackages are the folders the interpreter takes packages from: those of its virtual environment, if it has one.
func (in install) sitePackages(f fingerprint) []string {
	prefix := filepath.Dir(filepath.Dir(in.python))
	prefixes := []string{prefix}
	if !f.stat(filepath.Join(prefix, "pyvenv.cfg")) {
		if binary, err := filepath.EvalSymlinks(in.python); err == nil {
			prefix = filepath.Dir(filepath.Dir(binary))
		}
		prefixes = []string{prefix, filepath.Join(prefix, "local"), filepath.Join(in.user, ".local")}
	}
	var dirs []string
	for _, prefix := range prefixes {
		for _, pattern := range []string{"lib*/python3*/site-packages", "lib*/python3*/dist-packages"} {
			found, err := filepath.Glob(filepath.Join(prefix, pattern))
			if err == nil { // the only error is a bad pattern: a path with brackets in it
				dirs = append(dirs, found...)
			}
		}
	}
	return dirs
}

// release is the version of Airflow that is installed, as pip names the folder of its metadata; "" = not found.
func (in install) release() string {
	for _, dir := range in.sitePackages(fingerprint{}) {
		for _, name := range []string{"apache_airflow_core", "apache_airflow"} {
			found, _ := filepath.Glob(filepath.Join(dir, name+"-*.dist-info")) // the only error is a bad pattern: a path with brackets in it
			if len(found) > 0 {
				return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), name+"-"), ".dist-info")
			}
		}
	}
	return ""
}

// stat notes the state of one file or folder, links followed, and whether it is there.
func (f fingerprint) stat(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	stamp := fmt.Sprint(info.ModTime().UnixNano())
	if info.Mode().IsRegular() {
		stamp += fmt.Sprint(" ", info.Size())
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		stamp += fmt.Sprint(" ", sys.Ino)
	}
	f[path] = stamp
	return true
}

// packages notes what is installed in a folder: pip makes one folder of metadata for each version of a package.
func (f fingerprint) packages(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if slices.Contains([]string{".dist-info", ".egg-info", ".egg-link", ".pth"}, filepath.Ext(entry.Name())) {
			f.stat(filepath.Join(dir, entry.Name()))
		}
	}
}

// folder notes every file of a folder of code, but not what Python compiles into it.
func (f fingerprint) folder(root string) {
	seen := 0
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		seen++
		switch {
		case err != nil:
			return nil // it is not there, or going
		case seen > folderEntries:
			return fs.SkipAll
		case entry.IsDir() && (entry.Name() == "__pycache__" || entry.Name() == ".git"):
			return fs.SkipDir
		case !entry.IsDir() && filepath.Ext(path) != ".pyc":
			f.stat(path)
		}
		return nil
	})
}

// look is the fingerprint of now, with the metastore's schema while an epoch's role is logged in here. On a host that
// is not active nobody may ask; there, the packages that a migration comes with tell.
func (j *Job) look(ctx context.Context) fingerprint {
	f := findInstall(j.cfg).fingerprint()
	j.mu.Lock()
	store := j.metastore
	j.mu.Unlock()
	if store == nil {
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	schema, err := store.Probe(ctx)
	var unknown *airflow.UnknownSchemaError
	switch {
	case err == nil:
		f[schemaKey] = schema.Revision
	case errors.As(err, &unknown):
		f[schemaKey] = unknown.Revision
	}
	return f
}
