# shellcheck shell=dash
# Writes $out: where nixpkgs' cacert has its certificates.
mkdir -p "$out/etc/ssl/certs"
echo '-----BEGIN CERTIFICATE-----' >"$out/etc/ssl/certs/ca-bundle.crt"
