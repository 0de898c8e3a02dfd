# shellcheck shell=dash
mkdir www
echo '<!doctype html><title>demo</title><p>Hello from the demo' >www/index.html
