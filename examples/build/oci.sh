# shellcheck shell=dash
# Writes OCI image layouts.

# oci_layout FOLDER: an empty one, but for index.json.
oci_layout() {
	mkdir -p "$1/blobs/sha256"
	printf '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
}

# oci_blob FOLDER MEDIA_TYPE FILE [MORE]: moves the file into the layout and prints its descriptor, with MORE members.
oci_blob() {
	hash=$(digest "$3")
	printf '{"mediaType":"%s","digest":"sha256:%s","size":%s%s}' "$2" "$hash" "$(stat -c %s "$3")" "${4:-}"
	mv "$3" "$1/blobs/sha256/$hash"
}

# oci_image FOLDER COMPRESSION ARCHITECTURE [MORE]: the layers made last as an image; prints its manifest's descriptor.
oci_image() {
	type=application/vnd.oci.image.layer.v1.tar
	[ "$2" = none ] || type="$type+$2"
	descriptors=
	i=0
	while [ $i -lt "$count" ]; do
		i=$((i + 1))
		compress "$2" $i.tar >blob
		descriptors="$descriptors${descriptors:+,}$(oci_blob "$1" "$type" blob)"
	done
	configuration "$3" >blob
	config=$(oci_blob "$1" application/vnd.oci.image.config.v1+json blob)
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}' \
		"$config" "$descriptors" >blob
	oci_blob "$1" application/vnd.oci.image.manifest.v1+json blob "${4:-}"
}

# oci_index DESCRIPTOR...: an index of them, on standard output.
oci_index() {
	printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
	separator=
	for descriptor; do
		printf '%s%s' "$separator" "$descriptor"
		separator=,
	done
	printf ']}'
}

# A descriptor's member by which tools find an image in a layout by its tag.
ref_name() { printf ',"annotations":{"org.opencontainers.image.ref.name":"%s"}' "${reference##*:}"; }
