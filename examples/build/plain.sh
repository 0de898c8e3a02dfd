# shellcheck shell=dash
# Writes the outputs: $programs, each with the text in $program_<name>, in bin, and a file in each of $folders. @lib@ in a
# program stands for the output lib.
bin=${bin:-$out}
mkdir -p "$out" "$bin/bin"
for program in $programs; do
	eval "text=\$program_$(echo "$program" | tr - _)"
	{
		echo "#!$busybox/busybox sh"
		echo "PATH=$bin/bin:\$PATH"
		# A program of its own beside busybox's: there is nothing else in such an image.
		echo "for c in cat head id tr wc; do eval \"\$c() { $busybox/busybox \$c \\\"\\\$@\\\"; }\"; done"
		echo "${text:?}" | sed "s,@lib@,${lib:-},g"
	} >"$bin/bin/$program"
	chmod 755 "$bin/bin/$program"
done
for folder in ${folders:-}; do
	mkdir -p "$out/$folder/${pname:?}"
	echo "$pname's $folder" >"$out/$folder/$pname/file"
done
if [ -n "${lib:-}" ]; then
	mkdir -p "$lib/lib"
	echo '42 from the output lib' >"$lib/lib/answer"
fi
