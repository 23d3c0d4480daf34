# Each target's purpose stands behind its "##"; "make" alone prints them.

GO             ?= go
TEST_TIMEOUT ?= 30m
CRASH_PACKAGES ?= ./...
FUZZ_TIME      ?= 20s
# Tests wait for disks and for each other, so more packages than processors are at work; the longest begin first.
TEST_BESIDE    ?= 4
TEST_PACKAGES  ?= . ./flow ./api ./cmd/pawl ./...
# SQLite is C made Go, with its C library and its allocator, and their memory is not Go's: the detector
# can see nothing there, and slows them five times while it looks.
RACE           := -race $(foreach part,sqlite/lib libc memory,-gcflags=modernc.org/$(part)=-race=false)
# The files of a hundred databases that need no disk are in memory, where there is plenty.
PAWL_TEST_POSTGRES_DIR ?= $(shell awk '/^MemAvailable/ && $$2 > 6000000' /proc/meminfo 2>/dev/null | grep -q . && df -k /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 { print "/dev/shm" }')
export PAWL_TEST_POSTGRES_DIR
GOLANGCI       := bin/golangci-lint-v2.15.0

.DEFAULT_GOAL := help
.PHONY: help run build test vet format-check test-needs lint crash fuzz bench clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build pawl and run it, with its example workflows, for development
	bin/pawl dev

build: ## Build bin/pawl
	$(GO) build -trimpath -o bin/pawl ./cmd/pawl

test: test-needs format-check vet ## Run all tests; installs what they need on Debian
	GORACE=atexit_sleep_ms=20 $(GO) test $(RACE) -vet=off -shuffle=on -p $(TEST_BESIDE) -timeout $(TEST_TIMEOUT) $(TEST_PACKAGES)

vet: # with the flags of the tests, so that what is compiled for the one serves the other
	$(GO) vet $(RACE) ./...

format-check:
	@files=$$(find . -name node_modules -prune -o -name '*.go' -exec gofmt -l {} +) || exit 1; \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:" >&2; echo "$$files" >&2; exit 1; fi

# The race detector needs a C compiler, the stores' tests a PostgreSQL, those of the service database a MariaDB too, the power cut strace.
test-needs:
	@need=; \
	command -v cc >/dev/null || need="gcc libc6-dev"; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || [ -n "$$PAWL_TEST_POSTGRES_URL" ] || need="$$need postgresql"; \
	command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || need="$$need mariadb-server"; \
	command -v strace >/dev/null || need="$$need strace"; \
	[ -n "$$need" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then echo the tests need what Debian calls $$need: install it and try again >&2; exit 1; fi; \
	sudo=; [ "$$(id -u)" -eq 0 ] || sudo=sudo; \
	echo installing $$need; \
	{ $$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need </dev/null; } \
	|| { echo could not install $$need, run as root: apt-get install $$need >&2; exit 1; }

lint: $(GOLANGCI) ## Run the linters
	$(GOLANGCI) run ./...
	cd bench && ../$(GOLANGCI) run ./...

# The version is in the name, so that a new one is fetched.
$(GOLANGCI):
	GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(patsubst bin/golangci-lint-%,%,$@)
	mv bin/golangci-lint $@

crash: test-needs ## Run the long crash tests, for about 25 minutes (CRASH_PACKAGES=./sqlite/...)
	PAWL_CRASH=long $(GO) test -run 'Crash|Power|Fsync|sleepersCost|HostileRuns' -count=1 -timeout 3h $(CRASH_PACKAGES)

fuzz: test-needs ## Fuzz every Fuzz function for a while (FUZZ_TIME=5m)
	@set -e; listing=$$($(GO) test -list '^Fuzz' ./...); \
	echo "$$listing" | awk '/^Fuzz/ { names[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, names[i]; n = 0 }' | \
	while read -r package name; do \
		echo "$$package $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZ_TIME) "$$package" </dev/null || exit 1; \
	done

bench: ## Measure pawl beside its peers
	$(MAKE) -C bench run peers

clean: ## Remove what make has built and what tests have left
	rm -rf bin .crash coverage*.out coverage*.html
