# shellcheck shell=dash
echo 'configuring'
echo 'compiling hello.c'
printf '\033[1mhello.c:3:5:\033[0m \033[1;31merror:\033[0m expected expression before \033[32mreturn\033[0m\n' >&2
printf 'make: *** [Makefile:7: hello.o] Error 1\n' >&2
exit 1
