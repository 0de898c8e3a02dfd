# shellcheck shell=dash
# All in one layer, as of dockerTools.buildImage.
. "$scripts/layers/base.sh"
cat >bin/hello <<'END'
#!/bin/sh
echo 'Hello from forge-registry'
END
chmod 755 bin/hello
