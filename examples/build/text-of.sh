# shellcheck shell=dash
# Writes $out: $text.
printf %s "$text" >"$out"
