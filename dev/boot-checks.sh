# shellcheck shell=bash
# What dev/boot looks at once the container runs. Sourced by it.
# shellcheck disable=SC2154 # enter, machine, work, leader are dev/boot's

registry=http://127.0.0.1:6443
passed=0 failed=0
# check WHAT COMMAND…: the command succeeds.
check() {
	local what=$1
	shift
	if "$@" >"$work/output" 2>&1; then
		passed=$((passed + 1))
		echo "ok      $what"
	else
		failed=$((failed + 1))
		echo "FAILED  $what"
		sed 's/^/        /' "$work/output"
	fi
}
fails() { ! "$@"; }
same() { [ "$1" = "$2" ] || { echo "expected: $2"; echo "found:    $1"; false; }; }
has() { [[ $1 == *"$2"* ]] || { echo "expected: $2"; echo "found:    $1"; false; }; }
property() { enter systemctl show -P "$1" forge-registry.service; }
log_of() { enter journalctl --no-pager --output cat --unit "$@"; }
pull() { skopeo copy --quiet --src-tls-verify=false "docker://127.0.0.1:6443/$1:latest" "oci:$work/pulled:$1"; }
fetch() { curl --silent --show-error --fail --max-time 60 "$@"; }
evaluate() { socat -t 60 - "UNIX-CONNECT:/proc/$leader/root/run/forge-registry/${2:-evaluator}.socket" <<<"$1" | sed 's/\\u001b\[[0-9;]*m//g'; }

# --- the units

verify() {
	local said
	said=$(enter bash -c 'cd /usr/local/lib/systemd/system && systemd-analyze verify --man=no ./forge-*' 2>&1)
	[ -z "$said" ] || { echo "$said" && false; }
}
check "systemd-analyze verify has nothing to say" verify

check "its memory has limits" same "$(property MemoryHigh)/$(property MemoryMax)" 3221225472/4294967296

# --- pulling

check "the service is active once it serves" same "$(property ActiveState)/$(property SubState)" active/running
check "an image is built and pulled from outside" pull packages/hello
check "a second one, of 64 MiB" pull packages/large

# --- what root asks of it

admin() { enter /usr/local/bin/forge-registry "$@"; }
images() { admin images | cut -f 1,2 | tr '\t\n' ': '; }
check "root lists images without any setting" same "$(images)" "packages/hello:latest packages/large:latest "
nobody() { enter setpriv --reuid=65534 --regid=65534 --clear-groups /usr/local/bin/forge-registry images 2>&1; }
check "nobody else does" has "$(nobody)" "root and the registry's own user alone"
check "gc says what it would drop" has "$(admin gc --all --dry-run)" "images: 2, GC roots: 2"
forget() {
	has "$(admin forget packages/hello)" "images: 1, GC roots: 1" && same "$(images)" "packages/large:latest " &&
		[ "$(enter find /var/lib/private/forge-registry/gcroots -type l | wc -l)" = 1 ] && pull packages/hello
}
check "an image is forgotten, and pulled again" forget
check "the manual and the completions are installed" \
	enter test -s /usr/local/share/man/man1/forge-registry.1 -a -s /usr/local/share/bash-completion/completions/forge-registry

# --- restarting in the middle of a pull

layer=$(fetch "$registry/v2/packages/large/manifests/latest" | grep -o '"layers":.*' | grep -o 'sha256:[0-9a-f]*' | head -n 1)
restart() {
	local download pulling restarting before refused=0 answered=0
	before=$(property MainPID)
	fetch --limit-rate 16M -o "$work/layer" "$registry/v2/packages/large/blobs/$layer" &
	download=$!
	sleep 1
	enter systemctl restart forge-registry.service &
	restarting=$!
	pull packages/hello-oci &
	pulling=$!
	while { alive $restarting || [ $answered = 0 ]; } && [ $refused -lt 10 ]; do
		if fetch -o /dev/null "$registry/v2/"; then answered=$((answered + 1)); else refused=$((refused + 1)); fi
	done
	wait $restarting || echo "the restart failed"
	wait $pulling || echo "the pull failed"
	wait $download || echo "the download failed"
	echo "$answered requests answered, $refused refused"
	[ $refused = 0 ] && [ "$(property MainPID)" != "$before" ] &&
		same "sha256:$(sha256sum <"$work/layer" | cut -d ' ' -f 1)" "$layer" &&
		[ -s "$work/pulled/index.json" ] && grep -q hello-oci "$work/pulled/index.json"
}
check "a restart refuses no connection, and what was being pulled arrives whole" restart

# --- reloading

reload() {
	local before
	before=$(property MainPID)
	fails fetch "$registry/v2/shop/web/manifests/latest" || return 1
	printf '{ "shop/web": { "drvPath": "%s" } }\n' \
		"$(enter nix-instantiate-of packages.x86_64-linux.hello.image)" >"$machine/etc/forge-registry/new"
	enter mv /etc/forge-registry/new /etc/forge-registry/catalog.json
	enter systemctl reload forge-registry.service || return 1
	same "$(property StatusText)" "reloaded: 1 images in the catalog" && same "$(property MainPID)" "$before" && pull shop/web
}
install -D -m 755 /dev/stdin "$machine/usr/local/bin/nix-instantiate-of" <<-'END'
	#!/bin/sh
	export NIX_REMOTE=daemon NIX_PATH=examples=/srv/examples:busybox=/srv/busybox
	exec /nix/var/nix/profiles/default/bin/nix --extra-experimental-features 'nix-command flakes' \
		eval --impure --raw "path:/srv/flake#$1.drvPath"
END
check "a reload serves what is new in the catalog, by the same process" reload

# --- HTTPS, as in docs/tls.md

# certify NAME: a certificate, whose key a group may read.
certify() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$1" -addext subjectAltName=IP:127.0.0.1 \
		-keyout "$work/key.pem" -out "$work/chain.pem" 2>/dev/null &&
		install -m 640 "$work/key.pem" "$work/chain.pem" "$machine/etc/forge-registry/" &&
		enter chgrp registry-tls /etc/forge-registry/key.pem /etc/forge-registry/chain.pem
}
subject() { openssl s_client -connect 127.0.0.1:6444 </dev/null 2>/dev/null | sed -n 's/^subject=CN = //p'; }
https() {
	enter groupadd --system registry-tls && certify first || return 1
	printf 'TLS_CERTIFICATE=/etc/forge-registry/chain.pem\nTLS_KEY=/etc/forge-registry/key.pem\n' >>"$machine/etc/forge-registry/environment"
	cat >"$machine/etc/systemd/system/forge-registry-https.socket" <<-END
		[Socket]
		ListenStream=127.0.0.1:6444
		FileDescriptorName=https
		Service=forge-registry.service
	END
	install -D -m 644 /dev/stdin "$machine/etc/systemd/system/forge-registry.service.d/https.conf" <<-END
		[Unit]
		Requires=forge-registry-https.socket
		After=forge-registry-https.socket
		[Service]
		SupplementaryGroups=registry-tls
	END
	# A socket is handed over to a service that starts after it.
	enter systemctl daemon-reload && enter systemctl stop forge-registry.service && enter systemctl start forge-registry.service || return 1
	fetch --cacert "$work/chain.pem" -o /dev/null https://127.0.0.1:6444/v2/ && fetch -o /dev/null "$registry/v2/" && same "$(subject)" first
}
check "HTTPS is served on a socket of its own, with a key that only a group may read" https
new_certificate() {
	local before
	before=$(property MainPID)
	certify second && enter systemctl reload forge-registry.service && same "$(subject)" second || return 1
	same "$(property MainPID)" "$before" && has "$(property StatusText)" "certificate: 127.0.0.1, until "
}
check "a reload serves the new certificate, by the same process" new_certificate

# --- fetcher and evaluator from within

secrets() {
	local file
	for file in /etc/shadow /etc/passwd /etc/credstore/forge-fetcher.access-tokens /srv/private /proc/self/environ \
		/var/lib/private/forge-registry/index.redb; do
		has "$(evaluate "builtins.readFile $file")" "is forbidden in restricted mode" || return 1
	done
}
check "evaluations read no file of the host" secrets
check "evaluations have no environment" same "$(evaluate 'builtins.getEnv "HOME" + builtins.getEnv "NIX_REMOTE"' | tail -n 1)" '""'
check "evaluations know no flakes" has "$(evaluate 'builtins.getFlake "path:/srv/flake"')" "'flakes' is disabled"
check "only the registry may have something fetched or evaluated" \
	same "$(enter stat -c '%A %U:%G' /run/forge-registry/evaluator.socket /run/forge-registry/fetcher.socket | sort -u)" "srw-rw---- root:forge-evaluator"

# The same units, with a shell in place of Nix.
cat >"$machine/srv/examples/probe" <<-'END'
	for file in /etc/shadow /etc/credstore /etc/forge-registry /etc/systemd /home/* /root/* /srv/* /var/lib/* /var/cache/* \
		/var/log/* /run/credentials/*/* /run/dbus /run/systemd/private /boot /tmp/* /opt; do
		[ ! -e "$file" ] || echo "sees $file" | sed 's,credentials/[^/]*,credentials/it,'
	done
	find / -xdev -type d 2>/dev/null | while read -r folder; do
		{ echo >"$folder/.probe"; } 2>/dev/null && rm "$folder/.probe" && echo "writes in $folder"
	done
	[ -n "$NIX_USER_CONF_FILES" ] && grep -l secret.example "$NIX_USER_CONF_FILES" >/dev/null && echo "reads the access tokens"
	grep -q password /etc/nix/netrc 2>/dev/null && echo "reads the passwords of Nix"
	for address in 127.0.0.1 169.254.169.254; do
		nc -w 1 $address 6500 </dev/null >/dev/null 2>&1 && echo "reaches $address"
	done
	echo "ends"
END
# within SERVICE: what it sees and does.
within() {
	cat >"$machine/etc/systemd/system/forge-$1@.service.d/probe.conf" <<-END
		[Service]
		BindReadOnlyPaths=/srv/examples/probe:/usr/local/probe
		ExecStart=
		ExecStart=/usr/bin/busybox sh /usr/local/probe
	END
	enter systemctl daemon-reload
	evaluate "" "$1" | sort
	rm "$machine/etc/systemd/system/forge-$1@.service.d/probe.conf"
	enter systemctl daemon-reload
}
mkdir -p "$machine/usr/local" && touch "$machine/usr/local/probe"
socat TCP-LISTEN:6500,fork,reuseaddr PIPE &
metadata=$!
confined() {
	diff - <(within fetcher) <<-END || return 1
		ends
		reads the access tokens
		reads the passwords of Nix
		sees /run/credentials/it/access-tokens
		sees /srv/flake
		sees /var/cache/forge-fetcher
		writes in /tmp
		writes in /var/cache/forge-fetcher
		writes in /var/tmp
	END
	diff - <(within evaluator) <<-END
		ends
		sees /srv/busybox
		sees /srv/examples
		sees /var/cache/forge-evaluator
		writes in /tmp
		writes in /var/cache/forge-evaluator
		writes in /var/tmp
	END
}
check "each sees what it is for: the fetcher the flake and the tokens, the evaluator neither; no service of this host, no metadata of a cloud" confined
kill $metadata

# --- the registry from within

status() { grep -P "^$1:\t" "/proc/$leader/root/proc/$(property MainPID)/status" | cut -f 2; }
check "the registry has no capability" same "$(status CapEff) $(status CapBnd)" "0000000000000000 0000000000000000"
check "the registry has no new privileges" same "$(status NoNewPrivs)" 1
check "the registry denies itself execve, and nothing else is amiss" \
	same "$(log_of forge-registry.service --priority warning)$(log_of forge-registry.service | grep -E ' (WARN|ERROR) ')" ""
reaches() { enter timeout 5 systemd-run --quiet --wait --pipe -p IPAddressDeny="$1" timeout 2 bash -c 'echo >/dev/tcp/127.0.0.1/6443'; }
address_deny() { fails reaches any && reaches 192.0.2.1 && has "$(property IPAddressDeny)" "0.0.0.0/0"; }
check "this kernel enforces IPAddressDeny, and the registry is reached in spite of its own" address_deny

stop() {
	enter systemctl stop forge-registry.socket forge-registry-https.socket forge-registry.service || return 1
	same "$(property ActiveState)/$(property Result)" inactive/success && fails fetch "$registry/v2/"
}
check "it stops, and then nothing listens" stop
check "root lists images of a service that is stopped" has "$(images)" "packages/hello:latest packages/hello-oci:latest "
check "root changes nothing in its state then" has "$(admin gc 2>&1)" "systemctl start forge-registry"

# The same unit, with a shell in place of the registry; what is not forbidden to it is not forbidden to the registry.
mkdir -p "$machine/etc/systemd/system/forge-registry.service.d"
cat >"$machine/etc/systemd/system/forge-registry.service.d/probe.conf" <<-'END'
	[Service]
	Type=oneshot
	WatchdogSec=0
	Restart=no
	BindReadOnlyPaths=/usr/bin/busybox:/usr/local/bin/forge-registry
	ExecStart=
	ExecStart=@/usr/local/bin/forge-registry sh /etc/forge-registry/probe
END
cat >"$machine/etc/forge-registry/probe" <<-'END'
	echo "probe: begins"
	for program in /usr/bin/id /usr/bin/env /bin/bash "/lib64/ld-linux-x86-64.so.2 /usr/bin/id"; do
		$program --version >/dev/null 2>&1 && echo "probe: runs $program"
	done
	cp /usr/local/bin/forge-registry /var/lib/forge-registry/copy && chmod 755 /var/lib/forge-registry/copy
	/var/lib/forge-registry/copy true 2>/dev/null && echo "probe: runs what it wrote"
	rm /var/lib/forge-registry/copy
	find / -type d 2>/dev/null | while read -r folder; do
		{ echo >"$folder/.probe"; } 2>/dev/null && rm "$folder/.probe" && echo "probe: writes in $folder"
	done
	for file in /etc/shadow /etc/passwd /etc/credstore /home /srv /run/credentials /var/cache /run/dbus /run/systemd/private /boot; do
		[ -e "$file" ] && echo "probe: sees $file"
	done
	ls -d /proc/[0-9]* | grep -v "^/proc/$$\$" | while read -r process; do
		[ "$(cut -d ' ' -f 4 "$process/stat" 2>/dev/null)" = $$ ] || [ ! -e "$process" ] || echo "probe: sees $process"
	done
	nc -w 1 127.0.0.1 6443 </dev/null 2>/dev/null && echo "probe: reaches the network"
	[ "$(ls /nix/store | wc -l)" -gt 5 ] && cat /nix/store/*hello*/* >/dev/null 2>&1
	[ -r /nix/store ] && echo "probe: reads the store"
	[ -S /run/forge-registry/evaluator.socket ] && echo "probe: sees the evaluator's socket"
	[ -S /run/forge-registry/fetcher.socket ] && echo "probe: sees the fetcher's socket"
	[ -S /nix/var/nix/daemon-socket/socket ] && echo "probe: sees nix-daemon's socket"
	echo "probe: ends"
END
probe() {
	enter systemctl daemon-reload
	enter systemctl start forge-registry.service || return 1
	log_of forge-registry.service | grep '^probe: ' | sort -u >"$work/probed"
	diff - "$work/probed" <<-END
		probe: begins
		probe: ends
		probe: reads the store
		probe: sees nix-daemon's socket
		probe: sees the evaluator's socket
		probe: sees the fetcher's socket
		probe: writes in /var/lib/forge-registry
		probe: writes in /var/lib/forge-registry/blobs
		probe: writes in /var/lib/forge-registry/gcroots
		probe: writes in /var/lib/forge-registry/layers
	END
}
check "within the unit nothing runs, and nothing is written but the state, or seen but the store and three sockets" probe

echo "$passed passed, $failed failed"
