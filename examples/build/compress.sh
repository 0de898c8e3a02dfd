# shellcheck shell=dash
# compress FORM FILE: writes the file, compressed, to standard output. busybox can write gzip only; for zstd and xz
# the data are wrapped up as they are, which both formats provide for, and every reader of theirs takes.
compress() {
	case $1 in
	none) cat "$2" ;;
	gzip) gzip -c <"$2" ;;
	zstd) zstd_stored "$2" ;;
	xz) xz_stored "$2" ;;
	esac
}

# little WIDTH NUMBER, big WIDTH NUMBER: the number in that many bytes, lowest or highest first.
little() {
	width=$1 number=$2
	while [ "$width" -gt 0 ]; do
		byte $((number % 256))
		number=$((number / 256)) width=$((width - 1))
	done
}
big() {
	width=$1
	while [ "$width" -gt 0 ]; do
		width=$((width - 1))
		byte $(($2 >> 8 * width & 255))
	done
}
byte() {
	# shellcheck disable=SC2059
	printf "\\$(printf %03o "$1")"
}

# RFC 8878: one frame of raw blocks with 128 KiB each.
zstd_stored() {
	size=$(stat -c %s "$1")
	printf '\050\265\057\375\000\070' # magic number; no checksum, no content size; 128 KiB window
	block=0
	while :; do
		rest=$((size - block * 131072))
		if [ $rest -le 131072 ]; then
			little 3 $((rest << 3 | 1))
			dd if="$1" bs=131072 skip=$block count=1 2>/dev/null
			return
		fi
		little 3 $((131072 << 3))
		dd if="$1" bs=131072 skip=$block count=1 2>/dev/null
		block=$((block + 1))
	done
}

# The .xz file format 1.1.0: one block of uncompressed LZMA2 chunks with 64 KiB each, CRC32 as the check.
xz_stored() {
	size=$(stat -c %s "$1")
	printf '\375\067zXZ\000'
	printf '\000\001' | with_crc
	printf '\002\000\041\001\026\000\000\000' | with_crc # one filter, LZMA2, 8 MiB dictionary
	chunk=0
	while [ $((chunk * 65536)) -lt "$size" ]; do
		rest=$((size - chunk * 65536))
		if [ $chunk = 0 ]; then printf '\001'; else printf '\002'; fi
		big 2 $(((rest > 65536 ? 65536 : rest) - 1))
		dd if="$1" bs=65536 skip=$chunk count=1 2>/dev/null
		chunk=$((chunk + 1))
	done
	packed=$((size + chunk * 3 + 1))
	head -c $((1 + (4 - packed % 4) % 4)) /dev/zero
	crc <"$1"
	{
		printf '\000\001'
		variable $((12 + packed + 4))
		variable "$size"
	} >index
	length=$(stat -c %s index)
	head -c $(((4 - length % 4) % 4)) /dev/zero >>index
	with_crc <index
	{
		little 4 $((($(stat -c %s index) + 4) / 4 - 1))
		printf '\000\001'
	} >footer
	crc <footer
	cat footer
	printf 'YZ'
	rm index footer
}

# A multibyte integer of the .xz format: seven bits a byte, lowest first, the eighth bit says that more follow.
variable() {
	number=$1
	while [ "$number" -gt 127 ]; do
		byte $((number % 128 + 128))
		number=$((number / 128))
	done
	byte "$number"
}

# The CRC32 of standard input: gzip ends with it and the length.
crc() { gzip -c | tail -c 8 | head -c 4; }

# Standard input, and then its CRC32.
with_crc() {
	cat >checked
	cat checked
	crc <checked
	rm checked
}
