{
  lib,
  stdenv,
  installShellFiles,
  rustPlatform,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions (
      [
        ../Cargo.toml
        ../Cargo.lock
        ../src
        ./eval # compiled into the binary
      ]
      ++ lib.filter lib.pathExists [
        ../.env.example # shown by --help and compared with it by a test
        ../docs/alerts.yml # these three are compared with the metrics by tests
        ../docs/grafana.json
        ../docs/metrics.md
        ../tests
        ../benches
      ]
    );
  };
  cargoLock.lockFile = ../Cargo.lock;

  # The program writes its own completions and manual.
  nativeBuildInputs = [ installShellFiles ];
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for shell in bash zsh fish; do
      $out/bin/forge-registry completions $shell >forge-registry.$shell
    done
    installShellCompletion forge-registry.{bash,zsh,fish}
    $out/bin/forge-registry man >forge-registry.1
    installManPage forge-registry.1
  '';

  # The tests in tests/ need a nix-daemon; see dev/test.
  cargoTestFlags = [
    "--lib"
    "--bins"
  ];

  meta = {
    inherit (manifest) description;
    homepage = manifest.repository;
    license = with lib.licenses; [
      mit
      asl20
    ];
    mainProgram = "forge-registry";
    platforms = lib.platforms.linux;
  };
}
