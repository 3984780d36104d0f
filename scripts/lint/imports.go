package lint

import (
	"path"
	"strings"
)

// rooms says what each package may import from this module. "x/..." is x and all below it. A package that no line
// covers is a finding: a new room is an architecture decision and gets its line here.
var rooms = []struct {
	room string
	may  []string
}{
	{"proto/...", nil},
	{"raftstore", []string{"raftstore/replica", "raftstore/roster", "raftstore/door", "proto/..."}},
	{"raftstore/replica", []string{"raftstore/roster"}},
	{"raftstore/roster", nil},
	{"raftstore/door", nil}, // its other users are node/admin and node/web: what listens, stands behind it
	{"gossip", nil},
	{"airflowctl", []string{"airflowctl/fence", "airflowctl/proc", "airflowctl/airflow", "airflowctl/shim", "airflowctl/schedule", "airflowctl/hook",
		"airflowctl/broker"}},
	{"airflowctl/fence", nil},
	{"airflowctl/proc", nil},
	{"airflowctl/airflow", []string{"airflowctl/fence"}}, // epoch credentials are the fence's
	{"airflowctl/audit", []string{"airflowctl/fence"}},   // the ledger is the fence's
	{"airflowctl/shim", nil},
	{"airflowctl/schedule", nil},
	{"airflowctl/hook", nil},
	{"airflowctl/broker", nil},
	{"node/lease", nil},
	{"node/control", []string{"node/lease"}},
	{"node/backup", []string{"node/lease"}},
	{"node/web", []string{"raftstore/door"}},
	{"node/admin", []string{"raftstore/door", "proto/...", "node/control", "node/lease"}},
	// The admin service is spelled in messages of proto, and node answers it.
	{"node", []string{"raftstore", "raftstore/door", "gossip", "airflowctl/...", "node/...", "proto/..."}},
	// Whole nodes in one goroutine. Of raftstore and airflowctl the words of their interfaces, and the pure half of the former.
	{"node/sim", []string{"node", "node/control", "node/lease", "node/sim/metastore", "raftstore", "raftstore/replica", "raftstore/roster",
		"airflowctl", "airflowctl/fence", "gossip", "proto/..."}},
	{"node/sim/metastore", nil},
	{"node/model", nil}, // a tool: it runs Spin
	{"etl/tile", nil},
	{"etl/nldn", []string{"etl/tile"}},
	{"etl/columnar", []string{"etl/tile"}},
	{"etl/objects", []string{"etl/tile"}},
	{"etl/bigq", []string{"etl/tile", "etl/objects"}},
	{"etl/aggregate", []string{"etl/tile"}},
	{"etl/spark", []string{"etl/tile", "etl/aggregate"}},
	{"etl/warehouse", []string{"etl/tile", "etl/aggregate"}},
	{"etl/synth", []string{"etl/tile"}},
	{"etl/dagrun", nil},
	{"etl/sandbox", []string{"etl/tile", "etl/nldn", "etl/synth"}}, // nldn: tables from given files
	{"etl/...", []string{"etl/..."}},
	{"cmd/duoflowd", []string{"cmd/grid", "cmd/manual", "cmd/release", "cmd/statusline", "node/...", "raftstore", "gossip", "airflowctl/...", "proto/..."}}, // composition root
	{"cmd/grid", nil},
	{"cmd/documents", nil}, // what documents show, for tests
	{"cmd/statusline", nil},
	{"cmd/release", nil},
	{"cmd/manual", nil},
	// fence: `metastore init` and `doctor` run before any daemon; audit without one; gossip: how a keyring is written; backup, and
	// lease, in whose words one is: `backup show` reads a file
	{"cmd/duoctl", []string{"cmd/grid", "cmd/manual", "cmd/release", "proto/...", "airflowctl/fence", "airflowctl/audit", "gossip", "node/backup", "node/lease"}},
	{"cmd/duoetl", []string{"cmd/grid", "cmd/manual", "cmd/release", "cmd/statusline", "etl/..."}},
	{"cmd/duosandbox", []string{"etl/..."}},
	{"scripts/benchetl/part", []string{"etl/..."}},                            // does parts of the pipeline by themselves
	{"scripts/package", []string{"scripts/...", "cmd/release", "cmd/manual"}}, // the version, and pages that no program can write
	{"scripts/...", []string{"scripts/...", "proto/..."}},                     // tools use the product as users do: binaries, files, gRPC
}

// dependencies says which rooms may use which foreign modules; a module without a line may not be used at all.
var dependencies = []struct {
	module string
	rooms  []string
}{
	{"go.etcd.io/raft/v3", []string{"raftstore/...", "node/sim"}},
	{"go.etcd.io/bbolt", []string{"raftstore"}},
	{"github.com/hanwen/go-fuse/v2", []string{"scripts/slowdisk"}},
	{"go.etcd.io/gofail", []string{"scripts/failpoints"}}, // the product holds comments only
	{"github.com/hashicorp/memberlist", []string{"gossip"}},
	{"github.com/jackc/pgx/v5", []string{"airflowctl/...", "etl/...", "scripts/...", "cmd/duoctl"}}, // duoctl: `metastore init` words the server's errors
	{"github.com/robfig/cron/v3", []string{"airflowctl/schedule"}},
	{"github.com/prometheus/client_golang", []string{"node", "node/web", "cmd/..."}},
	{"github.com/jackc/pgservicefile", []string{"etl"}},
	{"github.com/goccy/go-yaml", []string{"node", "etl/...", "cmd/...", "scripts/..."}},
	{"github.com/spf13/cobra", []string{"cmd/..."}},
	{"github.com/spf13/pflag", []string{"cmd/manual"}}, // cobra's flags
	{"github.com/pmezard/go-difflib/difflib", []string{"cmd/duoctl"}},
	{"github.com/klauspost/compress", []string{"etl/nldn", "etl/columnar", "etl/synth", "etl/sandbox"}},
	{"github.com/versity/versitygw", []string{"etl/sandbox"}},
	{"github.com/gofiber/fiber/v3", []string{"etl/sandbox"}},                   // versitygw's own, to stand inside it
	{"google.golang.org/api/bigquery/v2", []string{"etl/bigq", "etl/sandbox"}}, // the REST API's types
	{"github.com/fsouza/fake-gcs-server", []string{"etl/sandbox"}},
	{"cloud.google.com/go/bigquery", []string{"etl/bigq"}},
	{"cloud.google.com/go/storage", []string{"etl/objects"}},
	{"google.golang.org/api", []string{"etl/objects", "etl/bigq"}},           // options of Google's clients, and their errors
	{"github.com/aws/smithy-go", []string{"etl/objects"}},                    // errors of Amazon's
	{"github.com/aws/aws-sdk-go-v2", []string{"etl/objects", "etl/sandbox"}}, // sandbox: the words in which versitygw is asked for a bucket
	{"github.com/duckdb/duckdb-go/v2", []string{"etl/aggregate"}},
	{"github.com/parquet-go/parquet-go", []string{"etl/columnar"}},
	{"google.golang.org/grpc", []string{"proto/...", "raftstore/door", "raftstore", "node/admin", "cmd/...", "scripts/..."}},
	{"google.golang.org/protobuf", []string{"proto/...", "raftstore/...", "node", "node/admin", "node/sim", "cmd/...", "scripts/..."}},
	{"github.com/anishathalye/porcupine", []string{"scripts/history"}},
	{"go.uber.org/goleak", []string{"scripts/pg/pgtest", "etl/sandbox/sandboxtest"}}, // elsewhere in tests only
	{"golang.org/x/sys", []string{"raftstore/door", "raftstore", "airflowctl/...", "node", "cmd/...", "etl/...", "scripts/..."}},
	{"golang.org/x/sync", []string{"raftstore", "airflowctl/...", "node", "cmd/...", "etl/...", "scripts/..."}},
}

// within tells whether a room matches a pattern of the tables.
func within(room, pattern string) bool {
	base, deep := strings.CutSuffix(pattern, "/...")
	return room == base || deep && strings.HasPrefix(room, base+"/")
}

func withinAny(room string, patterns []string) bool {
	for _, p := range patterns {
		if within(room, p) {
			return true
		}
	}
	return false
}

// allowed lists what a room may import; exact lines win over "..." lines.
func allowed(room string) (may []string, known bool) {
	for _, r := range rooms {
		if r.room == room {
			return r.may, true
		}
	}
	for _, r := range rooms {
		if within(room, r.room) {
			return r.may, true
		}
	}
	return nil, false
}

// importRule proves the import diagram. Tests may import what they like, the module's own packages included.
func importRule(t *tree) []Finding {
	var out []Finding
	for _, s := range t.files {
		if s.test {
			continue
		}
		may, known := allowed(s.dir())
		if !known {
			out = append(out, t.find(s, s.syntax.Package, "imports", "no room called %s; give it a line in scripts/lint/imports.go", s.dir()))
			continue
		}
		for _, spec := range s.syntax.Imports {
			if why := importProblem(s.dir(), may, importPath(spec)); why != "" {
				out = append(out, t.find(s, spec.Pos(), "imports", "%s", why))
			}
		}
	}
	return out
}

func importProblem(room string, may []string, target string) string {
	if inner, ok := strings.CutPrefix(target, module+"/"); ok {
		if !withinAny(inner, may) {
			return room + " may not import " + inner
		}
		return ""
	}
	first, _, _ := strings.Cut(target, "/")
	if !strings.Contains(first, ".") {
		return "" // standard library
	}
	for _, d := range dependencies {
		if !within(target, d.module+"/...") {
			continue
		}
		if !withinAny(room, d.rooms) {
			return room + " may not use " + d.module
		}
		return ""
	}
	return "dependency " + target + " has no line in scripts/lint/imports.go"
}

// badNames say nothing about what is inside.
var badNames = []string{
	"base", "common", "helper", "helpers", "interfaces", "lib", "misc", "models", "shared", "types", "util", "utils",
}

// nameRule refuses packages and directories whose name says nothing.
func nameRule(t *tree) []Finding {
	var out []Finding
	for _, s := range t.files {
		for _, bad := range badNames {
			if s.syntax.Name.Name == bad || path.Base(s.dir()) == bad {
				out = append(out, t.find(s, s.syntax.Package, "names", "package %q: name it after the one idea in it", bad))
			}
		}
	}
	return out
}
