# Two commands for a fresh Debian 12 (root or sudo; Go and Python 3.11 present):
#
#   make demo     sets everything up and shows a real Airflow scheduler die and its work go on
#   make test     sets everything up and passes the tests
#
# Both install what is missing, start every service they need in a folder and on ports of their own, and clean up.

.PHONY: help demo test build lint chaos steady versus bench test-pg setup gen fmt clean
.DEFAULT_GOAL := help

GO_FLAGS := -trimpath -ldflags '-X main.version=$(shell git describe --tags --always --dirty 2>/dev/null || echo devel)'
MINUTES  ?= 5
KILLS    ?= 1
RUNS     ?= 3

help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: ## the demo; CHECK=1 ends by itself and exits non-zero when a figure is wrong; KILLS=10 kills ten times
	@scripts/setup all
	@mkdir -p bin && go build -o bin/demo ./scripts/demo
	@$(SUDO) bin/demo $(if $(CHECK),-check) -kills $(KILLS)

test: ## everything: lint, unit, race, real Postgres, real processes, real Airflow, chaos, demo
	@scripts/setup all
	@$(SUDO) scripts/test $(STEPS)

build: ## bin/duoflowd and bin/duoctl
	go build $(GO_FLAGS) -o bin/ ./cmd/...

lint: ## vet, the rules of the house, golangci-lint
	@scripts/setup go
	@scripts/test lint

chaos: ## kill, freeze and cut off nodes at random for MINUTES (5); SEED=n repeats a run
	@scripts/setup services
	@mkdir -p bin && go build -o bin/chaos ./scripts/chaos
	@$(SUDO) bin/chaos -minutes $(MINUTES) $(if $(SEED),-seed $(SEED))

steady: ## nothing happens to the job for MINUTES (5) while all but its host breaks; LOAD=8: under that much overload instead
	@scripts/setup services
	@mkdir -p bin && go build -o bin/steady ./scripts/steady
	@$(SUDO) bin/steady -minutes $(MINUTES) $(if $(LOAD),-load $(LOAD),-faults) $(if $(SEED),-seed $(SEED))

versus: ## native Airflow schedulers beside duoflow, measured in one run (about ten minutes)
	@scripts/setup all
	@mkdir -p bin && go build -o bin/versus ./scripts/versus
	@$(SUDO) bin/versus

bench: ## a stub job under every fault, beside etcdctl lock, keepalived and an advisory lock; RUNS=n each (30: hours)
	@scripts/setup services
	@mkdir -p bin && go build -o bin/bench ./scripts/bench
	@$(SUDO) bin/bench -runs $(RUNS) -out bench.json -plot bench.svg

test-pg: ## the fence on PostgreSQL 14 to 18, and behind PgBouncer
	@scripts/setup services
	@$(SUDO) scripts/test-pg

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
