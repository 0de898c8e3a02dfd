# shellcheck shell=dash
# Writes $out: an image $reference of $layers with $settings, in one of several forms, see the cases below.
. "$scripts/tar.sh"
. "$scripts/compress.sh"
. "$scripts/layers.sh"
. "$scripts/oci.sh"

# As nixpkgs' dockerTools.buildImage: <hash>/{VERSION,json,layer.tar}, <hash>.json, manifest.json, repositories.
# A layer that is there already is a symbolic link to it.
docker_archive() {
	names=
	parent=
	seen=' '
	mkdir archive
	for i in $(seq 1 "$count"); do
		sum=$(digest "$i.tar")
		id=$(printf '%s %s %s' "$parent" "$i" "$sum" | sha256sum | cut -d ' ' -f 1)
		mkdir "archive/$id"
		printf 1.0 >"archive/$id/VERSION"
		printf '{"architecture":"%s","created":"1970-01-01T00:00:01Z","id":"%s",%s"os":"linux"}\n' \
			"$architecture" "$id" "${parent:+\"parent\":\"$parent\",}" >"archive/$id/json"
		case $seen in
		*" $sum="*)
			first=${seen#*" $sum="}
			ln -s "../${first%% *}/layer.tar" "archive/$id/layer.tar"
			;;
		*)
			mv "$i.tar" "archive/$id/layer.tar"
			seen="$seen$sum=$id "
			;;
		esac
		names="$names${names:+,}\"$id/layer.tar\""
		parent=$id
	done
	configuration "$architecture" >configuration
	config=$(digest configuration).json
	mv configuration "archive/$config"
	printf '[{"Config":"%s","RepoTags":["%s"],"Layers":[%s]}]\n' "$config" "$reference" "$names" >archive/manifest.json
	printf '{"%s":{"%s":"%s"}}\n' "${reference%:*}" "${reference##*:}" "$parent" >archive/repositories
}

# As skopeo and podman write one: <diff id>.tar, <hash>.json, manifest.json.
flat_archive() {
	names=
	mkdir archive
	for i in $(seq 1 "$count"); do
		name=$(digest "$i.tar").tar
		mv "$i.tar" "archive/$name"
		names="$names${names:+,}\"$name\""
	done
	configuration "$architecture" >configuration
	config=$(digest configuration).json
	mv configuration "archive/$config"
	printf '[{"Config":"%s","RepoTags":["%s"],"Layers":[%s]}]\n' "$config" "$reference" "$names" >archive/manifest.json
}

# pack FOLDER: into $out, as one tar without ./ before the names, compressed.
pack() {
	(
		cd "$1"
		tar_folder ./
		find . ! -name . | cut -c 3- | sort | while read -r file; do
			if [ -L "$file" ]; then
				tar_link "$file" "$(readlink "$file")"
			elif [ -d "$file" ]; then
				tar_folder "$file/"
			else
				tar_file "$file" "$file"
			fi
		done
		tar_end
	) >packed
	rm -r "$1"
	if [ "$compress" = none ]; then mv packed "$out"; else compress "$compress" packed >"$out"; fi
}

make_layers
case $form in
docker-archive)
	docker_archive
	pack archive
	;;
flat)
	flat_archive
	pack archive
	;;
oci) # a folder
	oci_layout "$out"
	oci_index "$(oci_image "$out" "$compress" "$architecture" "$(ref_name)")" >"$out/index.json"
	;;
oci-archive)
	oci_layout archive
	oci_index "$(oci_image archive gzip "$architecture" "$(ref_name)")" >archive/index.json
	pack archive
	;;
esac
