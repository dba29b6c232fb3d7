# Parley. `make demo` shows it, `make test` proves it.
GO ?= go
BIN := bin/parley
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

# The race detector watches everything but arithmetic: curves, hashes and big numbers
# share nothing, and watching each of their additions was most of the time.
RACE := -race $(foreach pkg,crypto/internal/fips140 golang.org/x/crypto filippo.io/edwards25519 lukechampine.com/blake3 math/big,-gcflags=$(pkg)/...=-race=false)

.PHONY: build demo test race lint vuln natlab fuzz soak bench bench-files proto deps clean help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the one binary, bin/parley
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/parley

demo: build ## a rendezvous and three nodes on this machine; ONCE=1 ends by itself
	$(GO) run ./cmd/demo -parley $(BIN) $(if $(ONCE),-once)

# The last ones start programs, whose changes Go does not see: their results are never cached.
test: deps lint race ## everything that CI runs
	$(GO) test -count=1 -timeout 20m ./cmd/... ./bench/... ./node/natlab/...

race: ## the packages' tests under the race detector
	$(GO) test $(RACE) -timeout 20m ./protocol/... ./store/... ./rendezvous/... $$($(GO) list ./node/... | grep -v natlab)

lint: vuln ## formatting, vet, staticcheck, known vulnerabilities
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "run gofmt -w on these"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

vuln: # GOVULNDB=file:///dir uses a local copy of the database
	@out=$$($(GO) run $(GOVULNCHECK) $(if $(GOVULNDB),-db $(GOVULNDB)) ./... 2>&1); code=$$?; \
	if [ $$code -ne 0 ] && echo "$$out" | grep -q 'fetching vulnerabilities\|dial tcp\|no such host'; then \
		echo "SKIPPED govulncheck: its database cannot be reached from here"; \
	else echo "$$out"; exit $$code; fi

natlab: build ## laptops behind real NATs, out of network namespaces (root)
	PARLEY_NATLAB=require $(GO) test -count=1 -v -run 'NAT' ./cmd/e2e ./node/natlab

FUZZTIME ?= 30s
fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

soak: build ## SIGKILL during 10,000 messages; 1,000 starts, kills and suspensions; 10,000 sessions; 60,000 messages across rotations; 1,000 schedules of copied stores, of rooms, of a room of 100 nodes (half a day), and of racing authors of a room; 10,000 rotations of token keys; 10,000 wrong passwords of a room; a guest cut off for 10 minutes; SIGKILL 50 times during a file of 1 GiB
	PARLEY_SESSIONS=10000 $(GO) test -count=1 -v -timeout 1h -run OTK18 ./node/engine
	$(GO) test -count=1 -timeout 1h -run 'AnyCopies|RoomsAnyNetwork' ./node/engine -rapid.checks=1000
	PARLEY_ROOM_NODES=100 PARLEY_ROOM_SCHEDULES=1000 $(GO) test -count=1 -timeout 24h -run RoomOfMany ./node/engine
	$(GO) test -count=1 -timeout 1h -run 'RacingAuthors|AnyEntry|PartitionHeals' ./protocol/room -rapid.checks=1000
	PARLEY_LOAD=60000 PARLEY_ROTATIONS=10 $(GO) test -count=1 -v -timeout 1h -run KLC03 ./node ./cmd/e2e
	PARLEY_KEY_ROTATIONS=10000 $(GO) test $(RACE) -count=1 -timeout 2h -run JWK10 ./rendezvous
	PARLEY_GUESSES=10000 $(GO) test -count=1 -v -timeout 1h -run GST08 ./node
	PARLEY_CUT=10m $(GO) test -count=1 -v -timeout 1h -run GST02 ./cmd/e2e
	PARLEY_FILE_MIB=1024 PARLEY_FILE_CUTS=50 $(GO) test -count=1 -v -timeout 1h -run IM09 ./cmd/e2e
	PARLEY_SOAK=10000 PARLEY_CYCLES=1000 $(GO) test -count=1 -v -timeout 3h -run Kill ./cmd/e2e

ENTRIES ?= 1000000
bench: SHELL := bash
bench: .SHELLFLAGS := -o pipefail -c
bench: ## a table of what things cost here; look-ups also in a directory of 10^6 accounts
	PARLEY_BENCH_ENTRIES=$(ENTRIES) $(GO) test -run '^$$' -bench . -benchtime 2s -timeout 1h ./protocol/... ./store/... ./rendezvous/... ./node/... | grep -v '^ok\|^PASS\|no test files'

PARLEY_FILE_MIB ?= 1024
PARLEY_FILE_COUNT ?= 10000
ROUNDS ?= 3
bench-files: build ## how files move, beside croc and plain TCP; PARLEY_FILE_MIB, PARLEY_FILE_COUNT, ROUNDS
	$(GO) run ./bench/files -parley $(BIN) -mib $(PARLEY_FILE_MIB) -count $(PARLEY_FILE_COUNT) -rounds $(ROUNDS)

proto: ## regenerate protocol/wire (needs protoc and protoc-gen-go)
	$(GO) generate ./protocol/wire

deps: ## what the tests behind NATs and those with a stranger's JOSE library need; root on Debian installs it
	@missing=; for p in ip:iproute2 nft:nftables conntrack:conntrack node:nodejs npm:npm; do \
		command -v $${p%:*} >/dev/null || missing="$$missing $${p#*:}"; \
	done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; \
	else echo "tests will be skipped that need:$$missing (those behind NATs also need root)"; fi

clean:
	rm -rf bin dist
