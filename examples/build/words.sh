# shellcheck shell=dash
# Writes $out: a file that several packages need.
mkdir -p "$out/share"
echo 'Hello, world' >"$out/share/words"
