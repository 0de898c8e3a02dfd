# shellcheck shell=dash
# Another layer with every nonce.
. "$scripts/layers/base.sh"
echo "$nonce" >etc/release
