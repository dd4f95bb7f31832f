# shellcheck shell=bash
# Read by the other scripts: where things are, how to fail, which compiler.

set -euo pipefail
export LC_ALL=C
export PATH="$PATH:/usr/sbin:/sbin"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/build
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/pcilu
# shellcheck disable=SC2034 # used by the scripts that read this file
SERIES=$(cat "$ROOT/linux/KERNEL")

# One clear line that names the remedy, and out.
die()
{
	echo "${0##*/}: error: $*" >&2
	exit 1
}

say()
{
	echo "${0##*/}: $*"
}

# Debian's name of the machine this runs on, in the kernel's words.
host_arch()
{
	case $(uname -m) in
	x86_64) echo x86_64 ;;
	aarch64) echo arm64 ;;
	*) die "host $(uname -m) is not supported: use an x86_64 or arm64 machine" ;;
	esac
}

# The tool prefix for a kernel of architecture $1, empty for the host's own.
cross_prefix()
{
	[ "$1" = "$(host_arch)" ] && return
	case $1 in
	x86_64) echo x86_64-linux-gnu- ;;
	arm64) echo aarch64-linux-gnu- ;;
	*) die "ARCH=$1 is not supported: use x86_64 or arm64" ;;
	esac
}

# At least $1 megabytes free where $2 is.
need_space()
{
	local free

	mkdir -p "$2"
	free=$(df -Pm "$2" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$1" ] ||
		die "$2 has $free MB left and this needs $1 MB: free some space"
}
