# shellcheck shell=bash
# A private apt: own sources, lists and cache under the cache root. The archive,
# the keyring and any proxy are those of the machine, signatures are checked by
# apt, and the machine's own apt state is neither read nor written.

# Debian's releases in order, to know which backports are later than ours.
RELEASES="bookworm trixie forky duke"

# Sets URI, CODENAME and KEYRING from the machine's apt configuration.
host_archive()
{
	local entry file number

	read -r URI CODENAME entry < <(apt-get indextargets \
		--format '$(REPO_URI) $(CODENAME) $(SOURCESENTRY)' \
		'Created-By: Packages' 'Origin: Debian' 'Component: main' 2>/dev/null |
		awk '$2 !~ /-/ { print; exit }') || true
	[ -n "${URI:-}" ] ||
		die "apt knows no Debian archive: run 'apt-get update' as root (or use LINUX_SRC=)"

	# The entry names a file and the number of a line (.list) or stanza (.sources).
	file=${entry%:*} number=${entry##*:}
	case $file in
	*.list)
		KEYRING=$(sed -n "${number}s/.*signed-by=\([^] ]*\).*/\1/p" "$file") ;;
	*)
		KEYRING=$(awk -v RS= -v n="$number" 'NR == n' "$file" |
			sed -n 's/^[Ss]igned-[Bb]y: *\(\/[^ ]*\).*/\1/p') ;;
	esac
}

# The backports of this machine's release and of the later ones.
backports()
{
	local r

	for r in ${RELEASES/#*"$CODENAME"/"$CODENAME"}; do
		echo "$r-backports"
	done
}

# private_apt_update NAME ARCH SUITE...: sets APT_CONF to a configuration of that
# name with those of the suites that the archive has (empty: none reachable).
private_apt_update()
{
	local dir=$CACHE/apt/$1 arch=$2 src=${SRC_TYPE:-deb} suite found=

	shift 2
	mkdir -p "$dir"/{sources,lists/partial,cache/archives/partial}
	touch "$dir/status"
	APT_CONF=$dir/apt.conf
	cat > "$APT_CONF" <<-EOF
	#clear APT::Update::Pre-Invoke;
	#clear APT::Update::Post-Invoke;
	#clear APT::Update::Post-Invoke-Success;
	#clear APT::Architectures;
	APT::Architecture "$arch";
	APT::Architectures { "$arch"; };
	APT::Sandbox::User "";
	Acquire::Languages "none";
	Acquire::Retries "2";
	APT::Update::Error-Mode "any";
	Dir::Etc::SourceList "$dir/sources.list";
	Dir::Etc::SourceParts "/dev/null";
	Dir::Etc::Preferences "/dev/null";
	Dir::Etc::PreferencesParts "/dev/null";
	Dir::State "$dir";
	Dir::State::Lists "$dir/lists";
	Dir::State::Status "$dir/status";
	Dir::Cache "$dir/cache";
	EOF
	: > "$dir/update.log"
	for suite; do
		echo "$src [arch=$arch${KEYRING:+ signed-by=$KEYRING}] $URI $suite main" \
			> "$dir/sources.list"
		# One at a time, because a suite that the archive lacks is no error.
		if apt-get -c "$APT_CONF" -o APT::Get::List-Cleanup=false update \
			>> "$dir/update.log" 2>&1; then
			found+=$(cat "$dir/sources.list")$'\n'
		fi
	done
	printf %s "$found" > "$dir/sources.list"
	[ -n "$found" ]
}
