# shellcheck shell=dash
# Writes $out: a tree to be moved to the root of an image. Its bytes never change, since the digest of the layer that it
# becomes stands in default.nix.
mkdir -p "$out/bin" "$out/etc" "$out/home/me"
cat >"$out/bin/hello" <<'END'
#!/bin/sh
echo "$(cat /etc/greeting) as $(id -u) in $PWD"
END
chmod 755 "$out/bin/hello"
echo 'Hello from nix2container' >"$out/etc/greeting"
ln -s hello "$out/bin/greet"
