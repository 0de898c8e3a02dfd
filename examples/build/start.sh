# shellcheck shell=dash
# Every builder starts here, as `busybox sh -eu start.sh SCRIPT`: puts busybox's commands on the PATH, and goes on with SCRIPT.
umask 022
export LC_ALL=C TZ=UTC
mkdir commands
"$busybox/busybox" --install -s "$PWD/commands"
export PATH="$PWD/commands"
. "$scripts/$1"
