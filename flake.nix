{
  description = "A container registry that builds images with nix-daemon on demand and serves them from the Nix store";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forSystems = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = forSystems (pkgs: rec {
        forge-registry = pkgs.callPackage ./nix/package.nix { };
        default = forge-registry;
      });

      apps = forSystems (pkgs: {
        default = {
          type = "app";
          program = lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          meta.description = "Serve container images that a flake defines";
        };
      });

      overlays.default = final: _: { forge-registry = final.callPackage ./nix/package.nix { }; };

      nixosModules.default =
        { pkgs, ... }:
        {
          imports = [ ./module.nix ];
          services.forge-registry.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };

      # `make run`, `make test` and the like work in it.
      devShells = forSystems (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = with pkgs; [
            cargo-deny
            clippy
            curl
            perl
            podman
            rust-analyzer
            rustfmt
            shellcheck
            skopeo
            socat
            strace
            umoci
            wrk
          ];
          # what examples/ is made around
          FORGE_EXAMPLE_BUSYBOX = "${pkgs.pkgsStatic.busybox}/bin/busybox";
        };
      });

      checks = forSystems (
        pkgs:
        let
          inherit (pkgs.stdenv.hostPlatform) system;
          host = lib.nixosSystem {
            modules = [
              self.nixosModules.default
              {
                nixpkgs.hostPlatform = system;
                boot.isContainer = true;
                system.stateVersion = lib.trivial.release;
                services.forge-registry = {
                  enable = true;
                  flake = "path:${./examples}";
                  images.hello = pkgs.dockerTools.buildImage {
                    name = "hello";
                    config.Cmd = [ (lib.getExe pkgs.hello) ];
                  };
                };
              }
            ];
          };
        in
        {
          package = self.packages.${system}.default;
          # The service on a virtual machine, with a client on another.
          service = import ./nix/tests/service.nix {
            inherit pkgs;
            module = self.nixosModules.default;
          };
          # That a host with the module evaluates, down to the text of its units.
          module = pkgs.writeText "forge-registry-units" (
            lib.concatMapStrings (unit: host.config.systemd.units.${unit}.text) [
              "forge-registry.service"
              "forge-registry.socket"
              "forge-evaluator@.service"
              "forge-evaluator.socket"
            ]
          );
        }
      );

      formatter = forSystems (pkgs: pkgs.nixfmt-tree);
    };
}
