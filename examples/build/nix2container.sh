# shellcheck shell=dash
# Writes $out: $description, with digest and size of the layer's file $layer.
sum=$(sha256sum "$layer" | cut -d ' ' -f 1)
printf %s "$description" | sed "s/@digest@/sha256:$sum/g; s/\"@size@\"/$(stat -c %s "$layer")/" >"$out"
