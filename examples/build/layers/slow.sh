# shellcheck shell=dash
passed=0
while [ "$passed" -lt "$slowSeconds" ]; do
	step=$((slowSeconds - passed < 5 ? slowSeconds - passed : 5))
	echo "$passed of $slowSeconds seconds have passed" >&2
	sleep $step
	passed=$((passed + step))
done
echo "this took $slowSeconds seconds" >took
