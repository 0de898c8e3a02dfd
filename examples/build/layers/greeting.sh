# shellcheck shell=dash
echo 'Hello from forge-registry' >greeting
