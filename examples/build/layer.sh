# shellcheck shell=dash
# Writes $out: the one of $layers as a tar archive.
. "$scripts/tar.sh"
. "$scripts/layers.sh"
make_layers
mv 1.tar "$out"
