# shellcheck shell=dash
# Writes $out: a package with one command, which needs another store path to run.
mkdir -p "$out/bin"
cat >"$out/bin/$pname" <<END
#!$busybox/busybox sh
echo 'Hello from the package $pname'
END
chmod 755 "$out/bin/$pname"
