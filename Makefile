# make help tells what there is. Long output goes to logs under build/.

ARCH    ?= x86_64
VARIANT ?= release
PYTHON  := /usr/bin/python3
# Scenarios wait a lot: it takes more of them than there are cores to keep these at work.
JOBS    ?= $(shell expr $$(nproc) \* 2)
HOST_ARCH := $(if $(filter aarch64,$(shell uname -m)),arm64,x86_64)
export LINUX_SRC REFRESH VERIFY FULL CONFIG CONFIG_ONLY SIZES QEMU

.PHONY: help demo demo-driver test test-full soak test-host kernel guest tools vmm fuzz deb deb-kernel shell check bench series clean

help:
	@echo 'make demo             the main job: a live update under a virtual machine with a NIC and a drive'
	@echo 'make demo-driver      the same under a driver in user space, faster'
	@echo 'make test [T=expr]    all tests, or the scenarios that match the pytest expression'
	@echo 'make test-full        the same with every combination, not a sample'
	@echo 'make soak [SEEDS=20]  what PCILU_SEED draws, on release kernels, with one seed after the other'
	@echo 'make test-host [SUITE=trixie] [T=expr]  demo and test on a bare Debian, from a clean clone'
	@echo 'make kernel [ARCH=x86_64|arm64] [VARIANT=release|debug|debian|off|stock|first]'
	@echo 'make tools            pcilu, pcilud and libpcilu, in build/tools'
	@echo 'make vmm              a small VMM whose guest lives through a live update, and what carries'
	@echo '                      a QEMU through one, in build/vmm'
	@echo 'make shell            an interactive VM with a PCI topology and the tools in it'
	@echo 'make check            checkpatch, kernel-doc, sparse, W=1, linters'
	@echo 'make bench [SIZES="1 64 256 512"]  what preserving costs, in counts, beside the stock kernel'
	@echo 'make series [VERIFY=1|source]  the feature as a patch series, VERIFY: apply, build each'
	@echo 'make deb              packages of the tools and the library, in build/deb'
	@echo 'make deb-kernel [CONFIG=file]  kernel packages from your configuration plus the feature'
	@echo 'make fuzz [SECONDS=300]  the daemon, the policy and the image reader under libFuzzer'
	@echo 'make clean            removes build/ (downloads, compiler cache and kept kernels stay)'
	@echo 'QEMU=host|new: this machine'\''s QEMU, or Debian 13'\''s backport, for all machines'
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

# SAN=1 builds with ASan and UBSan, for the tests, in build/tools-san.
tools:
	@scripts/deps tools
	@nice $(MAKE) -s -C tools/pcilu O=$(CURDIR)/build/tools$(if $(SAN),-san) SAN=$(SAN)

# The kernel's headers are newer than Debian's.
vmm:
	@$(MAKE) --no-print-directory tools
	@[ -d build/x86_64-release/usr/include ] || $(MAKE) --no-print-directory kernel ARCH=x86_64
	@nice $(MAKE) -s -C vmm O=$(CURDIR)/build/vmm$(if $(SAN),-san) SAN=$(SAN)

demo: vmm
demo demo-driver shell:
	@scripts/deps kernel rig
	@$(MAKE) --no-print-directory guest ARCH=x86_64
	@cd rig && $(PYTHON) -m rig.$(subst -,_,$@)

# What the scenarios boot. For a quick T=, name fewer: TEST_KERNELS=x86_64-release, or
# none: T=pcilu TEST_KERNELS=
# The first release comes from the history, which a shallow clone has not got.
TEST_KERNELS ?= x86_64-release x86_64-debug arm64-release x86_64-debian \
	$(shell git cat-file -e c4a04c8 2>/dev/null && echo x86_64-first) x86_64-stock x86_64-off \
	$(if $(filter-out 0,$(FULL)),arm64-debug arm64-stock)
TEST_ARCHES  := $(sort $(patsubst %-release,%,$(filter %-release,$(TEST_KERNELS))))

# Each part under scripts/spent, so that the table in the end tells what a run costs. Kernels are
# built two at a time: each links and packs for a while on one core. Others begin with release's objects.
test:
	@rm -f build/spent
	@scripts/spent 'Debian packages' scripts/deps kernel $(TEST_ARCHES:%=cross-%) rig container
	@$(if $(strip $(TEST_KERNELS)),scripts/spent 'kernel source' scripts/prepare)
	@$(foreach k,$(filter x86_64-release,$(TEST_KERNELS)),scripts/spent 'kernel $k' scripts/build $(subst -, ,$k))
	@printf '%s\n' $(filter-out x86_64-release,$(TEST_KERNELS)) | xargs -r -n 1 -P 2 \
		sh -c 'exec scripts/spent "kernel $$0" scripts/build $${0%-*} $${0##*-}'
	@set -e; for a in $(TEST_ARCHES); do scripts/spent "guest programs $$a" scripts/guest $$a; done
	@scripts/spent tools $(MAKE) --no-print-directory tools
	@scripts/spent 'tools with sanitizers' $(MAKE) --no-print-directory tools SAN=1
	@$(if $(filter $(HOST_ARCH)-release,$(filter x86_64-release,$(TEST_KERNELS))),scripts/spent vmm $(MAKE) --no-print-directory vmm)
	@$(if $(filter $(HOST_ARCH)-release,$(filter x86_64-release,$(TEST_KERNELS))),scripts/spent 'vmm with sanitizers' $(MAKE) --no-print-directory vmm SAN=1)
	@scripts/spent 'packages of the tools' $(MAKE) --no-print-directory deb
	@cd rig && ../scripts/spent 'newer QEMU' $(PYTHON) -m rig.qemu
	@cd rig && $(PYTHON) -m pytest -n $(JOBS) $(if $(T),-k '$(T)')

# The kernel packages of a full run are from a small configuration.
test-full:
	@$(MAKE) --no-print-directory kernel ARCH=$(HOST_ARCH)
	@$(MAKE) --no-print-directory deb-kernel CONFIG=$(CURDIR)/build/$(HOST_ARCH)-release/.config
	@$(MAKE) --no-print-directory test FULL=1
	@$(MAKE) --no-print-directory test-host T=

# Needs root, for a chroot.
SUITE ?= trixie

test-host:
	@scripts/deps container
	@scripts/test-host $(SUITE) '$(T)'

# What is drawn by the seed, with many: release kernels, no sanitizers, no fuzzing.
SOAK_KERNELS := x86_64-release arm64-release

soak:
	@scripts/deps kernel $(SOAK_KERNELS:%-release=cross-%) rig
	@scripts/prepare
	@set -e; for k in $(SOAK_KERNELS); do scripts/build $${k%-*} release; scripts/guest $${k%-*}; done
	@cd rig && SEEDS='$(SEEDS)' T='$(T)' JOBS=$(JOBS) $(PYTHON) -m rig.soak

check:
	@scripts/deps kernel tools check
	@scripts/prepare
	@scripts/check

# Instructions are counted in an emulator, whatever KVM there is.
bench:
	@scripts/deps kernel rig
	@$(MAKE) --no-print-directory guest ARCH=x86_64
	@scripts/build x86_64 stock
	@cd rig && JOBS=$(JOBS) $(PYTHON) -m rig.bench

series:
	@scripts/deps kernel series
	@scripts/prepare
	@scripts/series

deb:
	@scripts/deps tools deb
	@scripts/deb

deb-kernel:
	@scripts/deps kernel deb-kernel
	@scripts/prepare
	@scripts/deb-kernel

SECONDS ?= 300

fuzz:
	@scripts/deps tools
	@scripts/fuzz $(SECONDS)

clean:
	rm -rf build
