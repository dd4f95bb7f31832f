# bash completion for pcilu(1)                             -*- shell-script -*-
# SPDX-License-Identifier: GPL-2.0

_pcilu()
{
	local cur prev words cword
	_init_completion || return

	local command=${words[1]} image="--kernel --initrd --cmdline --reuse-cmdline --config --accept --strict"
	local always="--json --verbose --help --version"
	if [ "$cword" -eq 1 ]; then
		COMPREPLY=($(compgen -W "list check preflight load unload exec snapshot verify update \
			status bind unbind release discard finish wait --json --verbose --help --version" -- "$cur"))
		return
	fi
	case $prev in
	--kernel|--initrd|--config|-i|--input|-o|--output)
		_filedir
		return ;;
	-s|--slot)
		COMPREPLY=($(compgen -W "$(_pcilu_slots)" -- "$cur"))
		__ltrim_colon_completions "$cur"
		return ;;
	--accept)
		COMPREPLY=($(compgen -W "abi cmdline config daemon devices host image in-use initrd \
			kexec kho liveupdate modules panic scratch signature unfinished watchdog" -- "$cur"))
		return ;;
	--cmdline|--timeout|--reason)
		return ;;
	esac
	case $command in
	list) COMPREPLY=($(compgen -W "--slot --tree $always" -- "$cur")) ;;
	check)
		_get_comp_words_by_ref -n : cur
		COMPREPLY=($(compgen -W "$(_pcilu_slots) $always" -- "$cur"))
		__ltrim_colon_completions "$cur" ;;
	preflight) COMPREPLY=($(compgen -W "$image $always" -- "$cur")) ;;
	load) COMPREPLY=($(compgen -W "$image --dry-run --force $always" -- "$cur")) ;;
	unload) COMPREPLY=($(compgen -W "--dry-run $always" -- "$cur")) ;;
	exec) COMPREPLY=($(compgen -W "--dry-run --force --no-systemd $always" -- "$cur")) ;;
	snapshot) COMPREPLY=($(compgen -W "--output --dry-run $always" -- "$cur")) ;;
	verify) COMPREPLY=($(compgen -W "--input --boot --keep --dry-run $always" -- "$cur")) ;;
	update) COMPREPLY=($(compgen -W "$image --dry-run --force --timeout --no-systemd $always" -- "$cur")) ;;
	bind|unbind)
		_get_comp_words_by_ref -n : cur
		COMPREPLY=($(compgen -W "$(_pcilu_slots) --slot --persist --dry-run $always" -- "$cur"))
		__ltrim_colon_completions "$cur" ;;
	release|discard|finish) COMPREPLY=($(compgen -W "--dry-run --force --reason $always" -- "$cur")) ;;
	wait) COMPREPLY=($(compgen -W "--timeout $always" -- "$cur")) ;;
	status) COMPREPLY=($(compgen -W "--metrics $always" -- "$cur")) ;;
	esac
}

_pcilu_slots()
{
	command ls "${PCILU_SYSROOT-}/sys/bus/pci/devices" 2>/dev/null
}

complete -F _pcilu pcilu
