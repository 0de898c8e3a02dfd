# shellcheck shell=dash
mkdir bin
cat >bin/worker <<'END'
#!/bin/sh
while :; do
	echo working
	sleep 10
done
END
chmod 755 bin/worker
