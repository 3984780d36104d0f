# Two commands for a fresh Debian 12 (root or sudo; Go and Python 3.11 present):
#
#   make demo     sets everything up and shows a real Airflow scheduler die and its work go on
#   make test     sets everything up and passes the tests
#
# Both install what is missing, start every service they need in a folder and on ports of their own, and clean up.

.PHONY: help demo test build lint model mutants sim fuzz soak robustness chaos steady idle versus bench bench-readme bench-parallel bench-etl bench-jobs test-pg test-airflow2 test-upgrade test-packages release dash setup gen fmt clean
.DEFAULT_GOAL := help

GO_FLAGS := -trimpath
MINUTES  ?= 5
HOURS    ?= 2
KILLS    ?= 1
NATIVE   ?= 5
LABS     ?= 1
PARALLEL ?= 1
PARTS    ?= stub,airflow
PG       ?=
YEARS    ?= 34
ENGINE   ?= duckdb
ETL_OUT  ?= scripts/benchetl/results/$(if $(filter spark,$(ENGINE)),benchetl-spark,benchetl).json
ETL_DOC  ?= $(if $(filter spark,$(ENGINE)),etl/spark/DESIGN.md,README.md)
FROM     ?= bench.json
LISTEN   ?= 127.0.0.1:8050

help: ## say what can be made
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## the demo; CHECK=1 ends by itself and exits non-zero when a figure is wrong; KILLS=10 kills ten times; ENGINE=spark adds up with Spark
	@scripts/setup all dash $(if $(filter spark,$(ENGINE)),spark)
	@mkdir -p bin && go build -o bin/demo ./scripts/demo
	@$(SUDO) bin/demo $(if $(CHECK),-check) -kills $(KILLS) $(if $(ENGINE),-engine $(ENGINE))

test: ## everything: lint, unit, race, simulator, real Postgres, real processes, real Airflow, Spark, Chromium, robustness, demo; STEPS='lint core' for some
	@scripts/setup all
	@$(SUDO) scripts/test $(STEPS)

build: ## the programs: bin/duoflowd, duoctl, duoetl and duosandbox
	@scripts/setup go
	go build $(GO_FLAGS) -o bin/ ./cmd/...

lint: ## vet, the rules of the house, golangci-lint
	@scripts/setup go
	@scripts/test lint

test-upgrade: ## node by node from a commit of before (UPGRADE_FROM, a960086) to this tree and back, while a job commits; wants git's history
	@scripts/setup go services
	@$(SUDO) env DUOFLOW_UPGRADE_FROM=$(UPGRADE_FROM) scripts/test upgrade

test-airflow2: ## a takeover of a real Airflow 2.11, the last of its line, as `make test` does it with 3.3
	@scripts/setup go services
	@$(SUDO) scripts/test airflow2

model: ## the fence with raft broken, and whether somebody is active in the end, searched by Spin (two minutes); MODEL='-events -only REVOKE'
	@scripts/setup go model
	@mkdir -p bin && go build -o bin/model ./node/model
	@bin/model $(MODEL)

mutants: ## each rule of our own code taken out: what sees it, and after how long (about twenty minutes); ONLY=REVOKE, OUT=json
	@scripts/setup go services mutants
	@mkdir -p bin && go build -o bin/mutants ./scripts/mutants
	@$(SUDO) bin/mutants -only '$(ONLY)' -o $(or $(OUT),table) $$(git ls-files '*/mutants.txt')

sim: ## SEEDS (1000) clusters in one goroutine each, twice, from seed FROM_SEED (0) on; SEED=n tells the story of one, MUTE=3,5 without these troubles, KEEP=3,5 with no others; MIX=votes: circumstances of node/sim/mix.go
	@scripts/setup go
	@SEEDS=$(or $(SEEDS),1000) FROM=$(FROM_SEED) SEED=$(SEED) MUTE=$(MUTE) KEEP=$(KEEP) MIX=$(MIX) go test ./node/sim -run TestSeeds -count=1 -timeout 24h -v

robustness: ## every kind of harm there is a list of, alone and in pairs, for MINUTES (5), judged from the outside; SEED=n repeats a run, ONLY=kill-host,switchover PG=18; JOB=airflow: FAILOVERS (100) of a real Airflow
ifeq ($(JOB),airflow)
	@scripts/setup all
	@mkdir -p bin && go build -o bin/tasks ./scripts/robustness/tasks
	@$(SUDO) bin/tasks -failovers $(or $(FAILOVERS),100) $(if $(SEED),-seed $(SEED)) $(if $(ONLY),-only $(ONLY))
else
	@scripts/setup services
	@mkdir -p bin && go build -o bin/robustness ./scripts/robustness
	@$(if $(PG),bin=$$(scripts/test-pg --bin $(PG)) &&) $(SUDO) $(if $(PG),env "DUOFLOW_PG_BIN=$$bin") bin/robustness -minutes $(MINUTES) $(if $(SEED),-seed $(SEED)) $(if $(ONLY),-only $(ONLY))
endif

chaos: robustness ## a short name of robustness

# SECONDS is a variable of bash, which counts them.
fuzz: ## every fuzzer of every decoder for SECONDS (60), one after the other; ONLY=lease,FuzzRead for some, OUT=json; KEEP=1: the corpora of the repository anew, from what was found
	@scripts/setup go services
	@mkdir -p bin && go build -o bin/fuzz ./scripts/fuzz
	@bin/fuzz -seconds $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60) -only '$(ONLY)' -o $(or $(OUT),table) $(if $(KEEP),-keep)

soak: ## the job changes hosts for HOURS (2), and nothing may grow: memory, files, goroutines, roles, disk; the samples go to soak.jsonl
	@scripts/setup services
	@mkdir -p bin && go build -o bin/soak ./scripts/soak
	@$(SUDO) bin/soak -hours $(HOURS) -o $(or $(OUT),table)

steady: ## nothing happens to the job for MINUTES (5) while all but its host breaks; LOAD=8: under that much overload instead
	@scripts/setup services
	@mkdir -p bin && go build -o bin/steady ./scripts/steady
	@$(SUDO) bin/steady -minutes $(MINUTES) $(if $(LOAD),-load $(LOAD),-faults) $(if $(SEED),-seed $(SEED))

idle: ## what a cluster costs that has nothing to do, beside an idle etcd (two minutes); IDLE='-max-cpu 1 -max-rss 30' sets limits
	@scripts/setup services
	@mkdir -p bin && go build -o bin/idle ./scripts/idle
	@$(SUDO) bin/idle $(IDLE)

bench-jobs: ## what JOBS (100) jobs on one cluster cost at rest, and how long one host's half is unserved after a kill; BENCH="-kills 2 -for 10s" for less (about five minutes)
	@scripts/setup services
	@mkdir -p bin && go build -o bin/benchjobs ./scripts/benchjobs
	@$(SUDO) bin/benchjobs -jobs $(or $(JOBS),100) $(BENCH)

versus: ## native Airflow schedulers beside duoflow, measured in one run (about ten minutes)
	@scripts/setup all
	@mkdir -p bin && go build -o bin/versus ./scripts/versus
	@$(SUDO) bin/versus

# Progress and every finished run are in bench.json at once; RESUME=1 goes on with it. About two and a quarter hours.
bench: RUNS = 30
bench: KILLS = 10
bench: ## duoflow beside etcdctl lock, keepalived, an advisory lock (stub job, 11 faults, RUNS=30) and native Airflow schedulers; PARTS= RESUME=1 PG=18
	@scripts/setup all
	@mkdir -p bin && go build -o bin/bench ./scripts/bench
	@$(if $(PG),bin=$$(scripts/test-pg --bin $(PG)) &&) $(SUDO) $(if $(PG),env "DUOFLOW_PG_BIN=$$bin") bin/bench -parts $(PARTS) \
		-runs $(RUNS) -kills $(KILLS) -native $(NATIVE) -labs $(LABS) -parallel $(PARALLEL) $(if $(RESUME),-resume) -out bench.json -plot bench.svg

bench-readme: ## take the figures of FROM (bench.json; or several, separated by commas) into the repository and the README
	@mkdir -p bin && go build -o bin/bench ./scripts/bench
	@bin/bench -from $(FROM) -out scripts/bench/results/bench.json -plot scripts/bench/results/bench.svg -readme README.md

bench-parallel: ## does it change the figures when two stub laboratories go side by side? ten runs of two faults, each way
	@scripts/setup services
	@mkdir -p bin .run && go build -o bin/bench ./scripts/bench
	@$(SUDO) bin/bench -parts stub -faults kill-host,power-loss -runs 10 -out .run/bench-one.json >/dev/null
	@$(SUDO) bin/bench -parts stub -faults kill-host,power-loss -runs 10 -parallel 2 -out .run/bench-two.json >/dev/null
	@bin/bench -from .run/bench-one.json -beside .run/bench-two.json

# Results and figures in the documents are of all years; of fewer, they go to .run.
bench-etl: LONG = 3
bench-etl: ## the lightning pipeline over YEARS (34) of synthetic tiles of real size, its parts beside DuckDB, polars, pandas, psycopg, rclone and gcsfs (five to ten minutes); ENGINE=spark: the whole with Spark and with DuckDB, LONG times each
	@scripts/setup go services $(if $(filter spark,$(ENGINE)),spark,peers)
	@mkdir -p bin .run && go build -o bin/ ./cmd/duoetl ./cmd/duosandbox ./scripts/benchetl/part ./scripts/benchetl
	@$(SUDO) bin/benchetl -years $(YEARS) -engine $(ENGINE) -runs 5 -long $(LONG) $(if $(filter 34,$(YEARS)),-out $(ETL_OUT) -readme $(ETL_DOC),-out .run/benchetl-$(ENGINE).json)

test-pg: ## the fence, and the simulated Postgres beside the real one, on PostgreSQL 14 to 18; the fence behind PgBouncer too
	@scripts/setup services
	@$(SUDO) scripts/test-pg

release: ## dist/: static programs, Debian packages and checksums for amd64 and arm64, the same bytes wherever it is made; PROGRAMS=duoctl,duoflowd for some
	@scripts/setup go release
	@mkdir -p bin && go build -o bin/package ./scripts/package
	@bin/package -out $(or $(OUT),dist) $(if $(PROGRAMS),-programs $(PROGRAMS))

test-packages: ## the release built twice in different folders, lintian, and the packages installed, run, upgraded, removed and purged in a Debian of their own (root); FRESH=1: the second build finds nothing compiled
	@$(SUDO) env FRESH=$(FRESH) scripts/test packages

dash: ## the lightning dashboard of the database that PGSERVICE or DATABASE_URL names; LISTEN=127.0.0.1:8050; SYNTHETIC=0.01: of one made up
	@scripts/setup $(if $(SYNTHETIC),go services) dash
	@exec .cache/dash/bin/python $(if $(SYNTHETIC),etl/dash/tests/world.py --scale $(SYNTHETIC) --dashboard $(LISTEN),etl/dash/app.py --listen $(LISTEN))

setup: ## install what is missing, and nothing else
	@scripts/setup all

gen: ## regenerate the code of proto/
	scripts/gen

fmt: ## format
	gofmt -w $(shell git ls-files '*.go' ':!*.pb.go')

clean: ## remove what was built and downloaded into the repository
	rm -rf bin .cache .run

# Namespaces and cgroups need root. sudo would take its own PATH, where Go may be missing; the modules that setup has
# fetched are shared, the build cache is root's own.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo env "PATH=$$PATH" "GOMODCACHE=$$(go env GOMODCACHE)")
