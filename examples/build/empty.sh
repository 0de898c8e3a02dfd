# shellcheck shell=dash
mkdir "$out"
