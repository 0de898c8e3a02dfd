# shellcheck shell=dash
# Writes $out as nixpkgs' linkFarm does: <container>.tar.gz are symbolic links to other store paths, beside a compose.yaml.
mkdir "$out"
ln -s "$web" "$out/web.tar.gz"
ln -s "$worker" "$out/worker.tar.gz"
ln -s "$db" "$out/db.tar.gz"
cat >"$out/compose.yaml" <<END
services:
  web:
    image: 127.0.0.1:6443/applications/demo/web:latest
    ports: ["8080:8080"]
  worker:
    image: 127.0.0.1:6443/applications/demo/worker:latest
  db:
    image: 127.0.0.1:6443/applications/demo/db:latest
END
