# shellcheck shell=dash
# Writes $out as nixpkgs' streamLayeredImage does: layer.tar and its checksum. In it is a link to the program.
. "$scripts/tar.sh"
mkdir -p root/bin "$out"
ln -s "$greeter/bin/greeter" root/bin/greeter
tar_tree root >"$out/layer.tar"
sha256sum "$out/layer.tar" | cut -d ' ' -f 1 >"$out/checksum"
