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
# No service is started that comes with them.
install_packages() {
	local package missing=() policy=/usr/sbin/policy-rc.d
	command -v apt-get >/dev/null || return 0
	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} = 0 ] && return 0
	say "installing ${missing[*]}"
	mkdir -p "$(cache_dir)" || die "cannot make $(cache_dir)"
	(
		flock 9 # apt's own lock makes `update` fail rather than wait
		[ -e $policy ] || {
			printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
			as_root chmod 755 $policy
			trap 'as_root rm -f $policy' EXIT
		}
		as_root apt-get update -qq || say "apt-get update failed; trying with the lists that are there"
		as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"
	) 9>"$(cache_dir)/apt-lock" </dev/null >&2
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

# cache_dir: where things are kept that take long to get.
cache_dir() { echo "${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/forge-registry"; }

# extract_packages NAME SUITE PACKAGE...: the packages with all they need, of a Debian suite that need not be the machine's,
# unpacked in the cache as NAME; nothing to do if they are.
extract_packages() {
	local name=$1 suite=$2 cache mirror new
	shift 2
	cache=$(cache_dir)
	mkdir -p "$cache" || die "cannot make $cache"
	[ -e "$cache/$name" ] && return
	(
		flock 8
		[ -e "$cache/$name" ] && exit
		need mmdebstrap mmdebstrap
		need patchelf patchelf
		# The mirror that this machine is set up with, whatever it is.
		mirror=$(debian_mirror)
		if [ -z "$mirror" ]; then # as before the first update
			as_root apt-get update -qq </dev/null >&2
			mirror=$(debian_mirror)
		fi
		[ -n "$mirror" ] || die "apt-get knows no Debian mirror"
		say "getting $* from Debian $suite"
		new=$(mktemp -d "$cache/new.XXXXXX") || exit 1
		trap 'rm -rf "$new"' EXIT
		# Release files of suites in preparation may have expired on a mirror.
		mmdebstrap --quiet --variant=extract --include="$(
			IFS=,
			echo "$*"
		)" --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$new" "$mirror" </dev/null >&2 ||
			die "cannot get $* from Debian $suite"
		chmod 755 "$new"
		mv -T "$new" "$cache/$name" || exit 1
	) 8>"$cache/lock"
}

debian_mirror() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' 'Origin: Debian' |
		awk '$2 !~ /security/ { print $1; exit }'
}

# fetch_nix VERSION: sets $nix to a folder with Nix's commands; gets them from Debian if need be.
fetch_nix() {
	local suite root libraries interpreter
	case $1 in
	2.26) suite=trixie ;;
	2.34) suite=forky ;;
	*) die "there is no recipe for Nix $1, only for 2.26 and 2.34" ;;
	esac
	if ! command -v apt-get >/dev/null; then
		nix=$(dirname "$(readlink -f "$(command -v nix)")")
		[ -x "$nix/nix" ] ||
			die "this is no Debian machine, to get Nix $1 from Debian's packages, and it has no Nix of its own"
		say "this is no Debian machine: using its own $("$nix/nix" --version) in place of Nix $1"
		return
	fi
	extract_packages "nix-$1" "$suite" nix-bin || exit 1
	root=$(cache_dir)/nix-$1
	nix=$root/usr/bin
	[ -e "$root/patched" ] && return
	(
		flock 8
		[ -e "$root/patched" ] && exit
		libraries=$(dirname "$(find "$root/usr/lib" -name 'libc.so.6' | head -n 1)")
		interpreter=$(find "$libraries" "$root/usr/lib64" "$root/usr/lib" -maxdepth 1 -name 'ld-linux-*.so.*' 2>/dev/null | head -n 1)
		patchelf --set-interpreter "$interpreter" --force-rpath --set-rpath "$libraries" "$nix/nix" || exit 1
		touch "$root/patched"
	) 8>"$root/lock" || exit 1
}

# find_cargo: puts cargo on the PATH, wherever rustup has put it.
find_cargo() {
	command -v cargo >/dev/null && return
	[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] && PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
}

# find_go: prints a Go that is new enough, or can get one that is (from 1.21 on). Installs one if there is none.
find_go() {
	local go version
	for go in "$(command -v go)" /usr/local/go/bin/go /usr/lib/go-*/bin/go "$(cache_dir)"/go/usr/lib/go-*/bin/go; do
		[ -x "$go" ] || continue
		version=$("$go" env GOVERSION) || continue
		[ "$(printf '%s\n' 1.21 "${version#go}" | sort -V | head -n 1)" = 1.21 ] || continue
		echo "$go"
		return
	done
	[ "${1:-}" != again ] || die "there is no Go 1.21 or newer, and none can be installed here"
	command -v apt-get >/dev/null && extract_packages go forky golang-go
	find_go again
}

# free_address: the first port of 127.0.0.1 from 6443 on that nobody listens on.
free_address() {
	local port=${1:-6443}
	while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
	echo "127.0.0.1:$port"
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
