# shellcheck shell=bash
# What the scripts in this folder share. To be sourced.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
	say "$@"
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo -n "$@" || sudo "$@"; else
		die "must be root, or have sudo, to run: $*"
	fi
}

# install_packages PACKAGE...: have apt-get install those that are missing; nothing to do on other systems.
install_packages() {
	local package lock missing=()
	command -v apt-get >/dev/null || return 0
	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] && return 0
	say "installing ${missing[*]}"
	lock="${TMPDIR:-/tmp}/forge-registry-apt-$(id -u).lock" # apt's own lock makes `update` fail rather than wait
	(
		flock 9
		as_root apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
		as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"
	) 9>"$lock" </dev/null >&2
}

# need COMMAND PACKAGE...: install the packages unless the command is there.
need() {
	local command=$1
	shift
	PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null && return 0
	install_packages "$@"
	PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null ||
		die "'$command' is missing, and cannot be installed here; on Debian it is in: $*"
}

# wait_for SECONDS COMMAND...: until the command succeeds; false when the time is over.
wait_for() {
	local deadline=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

# alive PID: it runs; a zombie does not.
alive() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	stat=${stat##*) }
	[ "${stat%% *}" != Z ]
}

none_alive() {
	local pid
	for pid; do
		if alive "$pid"; then return 1; fi
	done
}

# marked MARK: the processes that have the variable FORGE_TESTBED_SERVICE=MARK in their environment, and all below them.
# nix-daemon puts its children into sessions of their own, and builders have an environment of their own, so neither
# process groups nor the mark alone find all of them.
marked() {
	local file stat pid grown=1 known=' '
	local -A parent
	while read -r file; do
		file=${file#/proc/}
		known+="${file%/environ} "
	done < <(grep -lszxF "FORGE_TESTBED_SERVICE=$1" /proc/[0-9]*/environ)
	[ "$known" != ' ' ] || return 0
	for file in /proc/[0-9]*/stat; do
		{ read -r stat <"$file"; } 2>/dev/null || continue
		pid=${stat%% *}
		stat=${stat##*) } # state, parent, …
		stat=${stat#* }
		parent[$pid]=${stat%% *}
	done
	while [ $grown = 1 ]; do
		grown=0
		for pid in "${!parent[@]}"; do
			if [[ $known != *" $pid "* && $known == *" ${parent[$pid]} "* ]]; then
				known+="$pid "
				grown=1
			fi
		done
	done
	for pid in $known; do
		if alive "$pid"; then echo "$pid"; fi
	done
}

# stop_marked MARK: ends them all, politely first.
stop_marked() {
	local pids
	mapfile -t pids < <(marked "$1")
	[ ${#pids[@]} != 0 ] || return 0
	kill -TERM "${pids[@]}" 2>/dev/null
	wait_for 3 none_alive "${pids[@]}" && return 0
	mapfile -t -O ${#pids[@]} pids < <(marked "$1") # and what they started meanwhile
	kill -KILL "${pids[@]}" 2>/dev/null
	wait_for 5 none_alive "${pids[@]}"
}
