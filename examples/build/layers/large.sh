# shellcheck shell=dash
# $largeMiB MiB that gzip cannot make smaller, in files of up to 64 MiB: one block of random numbers, turned and marked
# differently each time, which takes no time to make and repeats itself only out of gzip's sight.
mkdir data
awk 'BEGIN {
	number = 20260101
	for (i = 0; i < 350000; i++) {
		number = (number * 16807) % 2147483647
		printf "%06x", int(number / 64) % 16777216
	}
}' | xxd -r -p | head -c 1048544 >block
i=0
while [ $i -lt "$largeMiB" ]; do
	cut=$((i * 8191 % 1048000 + 1))
	printf 'block %025d\n' $i >>data/$((i / 64))
	tail -c +$cut block >>data/$((i / 64))
	head -c $((cut - 1)) block >>data/$((i / 64))
	i=$((i + 1))
done
rm block
