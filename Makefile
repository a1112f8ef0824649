# make test and make run need Debian 12, Go and root, nothing else. Everything that is built lies in bin/ and dist/.

GO       ?= go
FUZZTIME ?= 20s

# A tree that git will not speak about (another owner, no .git) is still built; only the version is then unknown.
ifneq ($(shell git rev-parse HEAD >/dev/null 2>&1 && echo yes),yes)
export GOFLAGS += -buildvcs=false
endif

# -race needs cgo and so a C compiler. scripts/setup.sh installs one where it can.
RACE = $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && [ -e /usr/include/stdlib.h ] && echo -race)

# The end-to-end tests come last and alone: they measure time, and nobody else shall need the processor meanwhile.
UNIT = $$($(GO) list ./... | grep -v '/e2e')

.PHONY: build run install test unit e2e check bench fuzz demo deb setup clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/tocsin ./cmd/tocsin

run: build
	bin/tocsin run

PREFIX ?= /usr/local

install: build
	install -D -m 755 bin/tocsin $(DESTDIR)$(PREFIX)/bin/tocsin

setup:
	scripts/setup.sh

test: setup build unit e2e

unit: setup
	@[ -n "$(RACE)" ] || echo "unit: no C compiler here, testing without the race detector" >&2
	$(GO) test $(RACE) -timeout 60m $(UNIT)

e2e: setup
	$(GO) test -v -count=1 -timeout 60m ./e2e/...

check: setup
	scripts/check.sh $(RACE)

bench: build
	scripts/setup.sh bench
	$(GO) run ./bench

fuzz:
	scripts/fuzz.sh $(FUZZTIME)

demo: setup build
	@$(GO) run ./e2e/demo bin/tocsin

deb: build
	packaging/deb.sh

clean:
	rm -rf bin dist
