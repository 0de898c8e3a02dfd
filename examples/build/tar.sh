# shellcheck shell=dash
# Writes tar archives (ustar) to standard output, whose every byte is determined by their contents:
# busybox's own tar takes owners and times from the files. Names have at most 100 bytes.

# tar_header NAME OCTAL_MODE SIZE TYPE [LINK]
tar_header() {
	awk -v name="$1" -v mode="$2" -v size="$3" -v type="$4" -v link="${5:-}" '
		function field(text, width) { fields[++n] = text; widths[n] = width }
		BEGIN {
			for (i = 1; i < 128; i++) ord[sprintf("%c", i)] = i
			field(name, 100); field(sprintf("%07o", mode), 8); field("0000000", 8); field("0000000", 8)
			field(sprintf("%011o", size), 12); field("00000000001", 12)
			field("        ", 8); sum = n
			field(type, 1); field(link, 100); field("ustar", 6); field("00", 2); field("root", 32); field("root", 32)
			field("0000000", 8); field("0000000", 8); field("", 167)
			for (f = 1; f <= n; f++) for (i = 1; i <= length(fields[f]); i++) total += ord[substr(fields[f], i, 1)]
			fields[sum] = sprintf("%06o", total)
			for (f = 1; f <= n; f++) {
				printf "%s", fields[f]
				for (i = length(fields[f]); i < widths[f]; i++) printf "%c", f == sum && i == 7 ? 32 : 0
			}
		}'
}

# tar_file NAME FILE [OCTAL_MODE]
tar_file() {
	size=$(stat -c %s "$2")
	tar_header "$1" "$((0${3:-444}))" "$size" 0
	cat "$2"
	tar_pad "$size"
}

# tar_pad SIZE: zeroes up to the next multiple of 512.
tar_pad() { head -c $(((512 - $1 % 512) % 512)) /dev/zero; }

# tar_folder NAME/ [OCTAL_MODE]
tar_folder() { tar_header "$1" "$((0${2:-555}))" 0 5; }

# tar_link NAME TARGET
tar_link() { tar_header "$1" "$((0777))" 0 2 "$2"; }

# tar_end: as GNU tar ends an archive but for the filling up to 10 KiB, which readers ignore.
tar_end() { head -c 1024 /dev/zero; }

# tar_tree FOLDER: the folder with all that is in it, sorted.
tar_tree() {
	(
		cd "$1"
		find . | sort | while read -r file; do
			if [ -L "$file" ]; then
				tar_link "$file" "$(readlink "$file")"
			elif [ -d "$file" ]; then
				tar_folder "$file/" "$(stat -c %a "$file")"
			else
				tar_file "$file" "$file" "$(stat -c %a "$file")"
			fi
		done
		tar_end
	)
}
