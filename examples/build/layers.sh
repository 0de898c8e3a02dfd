# shellcheck shell=dash
# make_layers: fills 1.tar, 2.tar, … from the scripts in $layers, and sets $count, $diff_ids and $history (JSON).
make_layers() {
	count=0
	diff_ids=
	history=
	for layer in $layers; do
		count=$((count + 1))
		mkdir -p root
		(
			cd root
			. "$scripts/layers/$layer"
		)
		tar_tree root >$count.tar
		chmod -R u+w root
		rm -r root
		diff_ids="$diff_ids${diff_ids:+,}\"sha256:$(digest $count.tar)\""
		history="$history${history:+,}{\"created\":\"1970-01-01T00:00:01Z\",\"created_by\":\"$layer\"}"
	done
}

# digest FILE: its SHA-256 in hexadecimal.
digest() { sha256sum "$1" | cut -d ' ' -f 1; }

# configuration ARCHITECTURE: an image's configuration for the layers made last.
configuration() {
	printf '{"architecture":"%s","config":%s,"created":"1970-01-01T00:00:01Z","history":[%s],"os":"linux","rootfs":{"diff_ids":[%s],"type":"layers"}}\n' \
		"$1" "$settings" "$history" "$diff_ids"
}
