# A host with the module and a client beside it, as virtual machines: the same story as dev/boot, on NixOS.
# Run by `nix flake check`, or `nix build .#checks.x86_64-linux.service`.
{ pkgs, module }:
let
  inherit (pkgs.stdenv.hostPlatform) system;
  busybox = pkgs.pkgsStatic.busybox;

  # An image without any input: a layer that is one file, as a configuration of nixpkgs' streamed images. The machines
  # have no network, and what is made of a system has the outputs of its derivations as well.
  made =
    name: text:
    derivation {
      inherit name system text;
      builder = "/bin/sh";
      args = [
        "-c"
        "printf %s \"$text\" >$out"
      ];
    };
  note = made "note" "written by the test";
  image = made "note-conf.json" (
    builtins.toJSON {
      architecture = if pkgs.stdenv.hostPlatform.isAarch64 then "arm64" else "amd64";
      config = { };
      created = "1970-01-01T00:00:01+00:00";
      store_dir = builtins.storeDir;
      store_layers = [ [ "${note}" ] ];
    }
  );
in
pkgs.testers.runNixOSTest {
  name = "forge-registry";

  nodes.server = {
    imports = [ module ];
    virtualisation = {
      memorySize = 2048;
      diskSize = 4096;
      writableStore = true;
      additionalPaths = [
        busybox
        image
        note
      ];
    };
    nix.settings.substituters = pkgs.lib.mkForce [ ];
    services.forge-registry = {
      enable = true;
      listenAddresses = [
        "0.0.0.0"
        "::"
        "/run/forge-registry.sock"
      ];
      openFirewall = true;
      flake = "path:${../../examples}";
      images.note = image;
      evaluator.accessTokensFile = "/etc/tokens";
      settings.LOG_LEVEL = "DEBUG";
      tls = {
        certificate = "/etc/tls/one.pem";
        key = "/etc/tls/one.key";
        listenAddresses = [
          "0.0.0.0"
          "::"
        ];
      };
    };
    # what systemd hands over is there before the service starts
    systemd.services.test-certificate = {
      wantedBy = [ "forge-registry.service" ];
      before = [ "forge-registry.service" ];
      serviceConfig.Type = "oneshot";
      script = ''
        mkdir -p /etc/tls
        ${pkgs.lib.getExe pkgs.openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
          -subj /CN=server -addext subjectAltName=DNS:server -keyout /etc/tls/one.key -out /etc/tls/one.pem
      '';
    };
    environment.etc.tokens = {
      text = "access-tokens = secret.example=not-for-the-registry";
      mode = "0400";
    };
    # what examples/ is made around
    services.forge-registry.evaluator.nixPath = [
      "busybox=${busybox}/bin"
      "forge-example-parameters=${pkgs.writeText "parameters.json" ''{"FORGE_EXAMPLE_LARGE_MIB":"64"}''}"
    ];
  };

  nodes.client = {
    virtualisation.diskSize = 2048;
    environment.systemPackages = [
      pkgs.jq
      pkgs.skopeo
    ];
  };

  testScript = ''
    registry = "http://server:6443"


    def pull(name):
        client.succeed(
            f"skopeo --insecure-policy copy --src-tls-verify=false docker://server:6443/{name}:latest oci:/tmp/pulled:{name}"
        )


    def show(name):
        return server.succeed(f"systemctl show --property {name} --value forge-registry.service").strip()


    start_all()
    server.wait_for_unit("forge-registry.service")
    client.wait_for_unit("multi-user.target")
    client.wait_until_succeeds(f"curl --silent --fail {registry}/readyz", timeout=120)

    with subtest("images of the flake and of the catalog are pulled"):
        pull("packages/hello")
        pull("packages/large")
        pull("note")
        server.succeed("curl --silent --fail http://[::1]:6443/v2/")
        server.succeed("curl --silent --fail --unix-socket /run/forge-registry.sock http://localhost/v2/")

    with subtest("a restart refuses no connection, and what is being pulled arrives whole"):
        layer = client.succeed(
            f"curl --silent --fail {registry}/v2/packages/large/manifests/latest | jq --raw-output '.layers[0].digest'"
        ).strip()
        before = show("MainPID")
        client.succeed(
            f"systemd-run --unit download --remain-after-exit --property Type=oneshot --no-block "
            f"$(type -P curl) --silent --fail --limit-rate 8M --output /tmp/layer {registry}/v2/packages/large/blobs/{layer}"
        )
        client.wait_until_succeeds("test -s /tmp/layer")
        server.succeed("systemctl restart --no-block forge-registry.service")
        for _ in range(5):
            client.succeed(f"curl --silent --fail --max-time 60 {registry}/v2/")
        pull("packages/hello-oci")
        client.wait_for_unit("download.service")
        client.succeed(f"test sha256:$(sha256sum </tmp/layer | cut --delimiter=' ' --fields=1) = {layer}")
        assert show("MainPID") != before, "it was not restarted"

    with subtest("it reloads and goes on"):
        before = show("MainPID")
        server.succeed("systemctl reload forge-registry.service")
        assert show("StatusText").startswith("reloaded: 1 images in the catalog; certificate: server, until "), show("StatusText")
        assert show("MainPID") == before, "it was restarted"
        pull("note")

    with subtest("root is told what there is, and has it forgotten"):
        assert "packages/large\tlatest\t" in server.succeed("forge-registry images")
        server.succeed("test -s $(dirname $(readlink --canonicalize $(type -P forge-registry)))/../share/man/man1/forge-registry.1.gz")
        server.succeed("forge-registry forget packages/large")
        server.fail("forge-registry inspect packages/large")
        status, said = server.execute("setpriv --reuid=65534 --clear-groups forge-registry images 2>&1")
        assert status != 0 and "root and the registry's own user alone" in said, said

    with subtest("HTTPS is served with the certificate, beside plain HTTP"):
        certificate = server.succeed("cat /etc/tls/one.pem")
        client.succeed(f"cat >/tmp/ca.pem <<'END'\n{certificate}\nEND")
        client.succeed("curl --silent --fail --cacert /tmp/ca.pem https://server:6444/v2/")
        client.fail("curl --silent --fail https://server:6444/v2/")

    with subtest("it is confined"):
        for unit, highest in [
            ("forge-registry.service", 5),
            ("forge-fetcher@.service", 10),
            ("forge-evaluator@.service", 10),
        ]:
            print(server.succeed(f"systemd-analyze security --no-pager --threshold={highest} {unit}"))
        pid = show("MainPID")
        for line in ["CapEff:.0*", "CapBnd:.0*", "NoNewPrivs:.1", "Seccomp:.2"]:
            server.succeed(f"grep --line-regexp '{line}' /proc/{pid}/status")
        within = f"nsenter --target {pid} --mount --root ${busybox}/bin/busybox"
        for path in ["/etc/shadow", "/etc/passwd", "/etc/tokens", "/var/log", "/run/current-system"]:
            server.succeed(f"{within} test ! -e {path}")
        server.succeed(f"{within} test -r /nix/store")
        server.fail(f"{within} touch /nix/store/x", f"{within} touch /tmp/x", f"{within} touch /x")
        server.succeed(f"{within} touch /var/lib/forge-registry/x")
        server.fail("journalctl --unit forge-registry.service | grep --extended-regexp ' (WARN|ERROR) '")

    with subtest("the evaluator has neither the host's files nor the access tokens"):
        def evaluate(expression):
            return server.succeed(
                f"echo '{expression}' | ${pkgs.lib.getExe pkgs.socat} -t 60 - UNIX-CONNECT:/run/forge-registry/evaluator.socket"
            )

        for path in ["/etc/shadow", "/etc/passwd", "/etc/tokens", "/proc/self/environ"]:
            assert "is forbidden" in evaluate(f"builtins.readFile {path}")
        assert "is disabled" in evaluate('builtins.getFlake "path:/etc"')

    with subtest("it stops"):
        server.succeed("systemctl stop forge-registry.socket forge-registry-https.socket forge-registry.service")
        assert (show("ActiveState"), show("Result")) == ("inactive", "success")
        client.fail(f"curl --silent --max-time 10 {registry}/v2/")
  '';
}
