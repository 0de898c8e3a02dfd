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

# marked MARK: the processes that have the variable FORGE_TESTBED_SERVICE=MARK in their environment.
marked() {
	local file
	while read -r file; do
		file=${file#/proc/}
		if alive "${file%/environ}"; then echo "${file%/environ}"; fi
	done < <(grep -lszxF "FORGE_TESTBED_SERVICE=$1" /proc/[0-9]*/environ)
}

# with_descendants PID...: these and all below them, parents first.
with_descendants() {
	local file stat pid known=" $* " grown=1
	local -A parent
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
	for pid in $known; do echo "$pid"; done
}

# stop_marked MARK [SIGNAL]: ends them and all below them; the marked ones by SIGNAL (TERM) if that does it.
# nix-daemon puts its children into sessions of their own, and builders have an environment of their own, so neither
# process groups nor the mark alone find all of them.
stop_marked() {
	local marked all
	mapfile -t marked < <(marked "$1")
	[ ${#marked[@]} != 0 ] || return 0
	mapfile -t all < <(with_descendants "${marked[@]}")
	kill -"${2:-TERM}" "${marked[@]}" 2>/dev/null
	wait_for 3 none_alive "${all[@]}" && return 0
	mapfile -t -O ${#all[@]} all < <(with_descendants "${all[@]}") # and what they have started since
	kill -KILL "${all[@]}" 2>/dev/null
	wait_for 5 none_alive "${all[@]}"
}
