# shellcheck shell=dash
echo "This is a text, and no image." >"$out"
