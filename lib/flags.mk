# Flags of lib/ and tools/. O= says where to build, SAN=1 builds for tests.
ROOT    := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/..)
O       ?= $(ROOT)/build/tools
VERSION := 0.1.0
SO      := 1

prefix     ?= /usr
bindir     ?= $(prefix)/bin
sbindir    ?= $(prefix)/sbin
libexecdir ?= $(prefix)/libexec
libdir     ?= $(prefix)/lib
mandir     ?= $(prefix)/share/man
sysconfdir ?= /etc

CFLAGS ?= -O2 -g
own     = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Wall -Wextra -Werror \
	  -Wmissing-prototypes -Wstrict-prototypes -Wwrite-strings -Wshadow \
	  -DPCILU_VERSION='"$(VERSION)"' -MMD -MP
ifneq ($(SAN),)
own += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
INSTALL ?= install
OBJCOPY ?= objcopy
