# shellcheck shell=dash
# Writes $out: an OCI layout of one image for two platforms. With $nested its index.json names an index, else both images.
. "$scripts/tar.sh"
. "$scripts/compress.sh"
. "$scripts/layers.sh"
. "$scripts/oci.sh"

oci_layout "$out"
make_layers
for architecture in amd64 arm64; do
	platform=",\"platform\":{\"architecture\":\"$architecture\",\"os\":\"linux\"}"
	[ -n "$nested" ] || platform="$platform$(ref_name)"
	descriptor=$(oci_image "$out" gzip $architecture "$platform")
	set -- "$@" "$descriptor"
done
shift # the script's own name
if [ -n "$nested" ]; then
	oci_index "$@" >blob
	oci_index "$(oci_blob "$out" application/vnd.oci.image.index.v1+json blob "$(ref_name)")" >"$out/index.json"
else
	oci_index "$@" >"$out/index.json"
fi
