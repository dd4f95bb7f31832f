# make help tells what there is. Long output goes to logs under build/.

ARCH    ?= x86_64
VARIANT ?= release
PYTHON  := /usr/bin/python3
JOBS    ?= 2
export LINUX_SRC REFRESH VERIFY FULL BENCH_SIZES

.PHONY: help demo test test-full kernel guest shell check bench series clean

help:
	@echo 'make demo             the main job: a live update under a receiving network card'
	@echo 'make test [T=expr]    all tests, or the scenarios that match the pytest expression'
	@echo 'make test-full        the same with every combination, not a sample'
	@echo 'make kernel [ARCH=x86_64|arm64] [VARIANT=release|debug|off|stock]'
	@echo 'make shell            an interactive VM with a PCI topology and the tools in it'
	@echo 'make check            checkpatch, kernel-doc, sparse, W=1, linters'
	@echo 'make bench [BENCH_SIZES="1 64 256 512"]  what it costs, in counts, beside the stock kernel'
	@echo 'make series [VERIFY=1|source]  the feature as a patch series, VERIFY: apply, build each'
	@echo 'make clean            removes build/ (downloads and compiler cache stay)'
	@echo 'LINUX_SRC=dir-or-tarball: this kernel source; REFRESH=1: look for a newer Debian one'

kernel:
	@scripts/deps kernel cross-$(ARCH)
	@scripts/prepare
	@scripts/build $(ARCH) $(VARIANT)

guest:
	@scripts/deps kernel cross-$(ARCH)
	@scripts/prepare
	@scripts/build $(ARCH) release
	@scripts/guest $(ARCH)

demo shell:
	@scripts/deps kernel rig
	@$(MAKE) --no-print-directory guest ARCH=x86_64
	@cd rig && $(PYTHON) -m rig.$@

# What the scenarios boot. For a quick T=, name fewer: TEST_KERNELS=x86_64-release
TEST_KERNELS ?= x86_64-release x86_64-debug arm64-release x86_64-stock x86_64-off
TEST_ARCHES  := $(sort $(patsubst %-release,%,$(filter %-release,$(TEST_KERNELS))))

test:
	@scripts/deps kernel $(TEST_ARCHES:%=cross-%) rig
	@scripts/prepare
	@set -e; for k in $(TEST_KERNELS); do scripts/build $${k%-*} $${k##*-}; done
	@set -e; for a in $(TEST_ARCHES); do scripts/guest $$a; done
	@cd rig && $(PYTHON) -m pytest -n $(JOBS) $(if $(T),-k '$(T)')

test-full:
	@$(MAKE) --no-print-directory test FULL=1

check:
	@scripts/deps kernel check
	@scripts/prepare
	@scripts/check

# Counts in an emulator: no KVM is needed, and none would do
bench:
	@scripts/deps kernel rig
	@$(MAKE) --no-print-directory guest ARCH=x86_64
	@scripts/build x86_64 stock
	@cd rig && $(PYTHON) -m rig.bench

series:
	@scripts/deps kernel series
	@scripts/prepare
	@scripts/series

clean:
	rm -rf build
