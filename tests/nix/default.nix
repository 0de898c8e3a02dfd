# module.nix under the stand-ins for nixpkgs' `lib`, `pkgs` and NixOS that are kept beside this file.
let
  lib = import ./lib.nix;
  nixos = import ./nixos.nix lib;

  # A package that is where it is, and is never built.
  installed = outPath: {
    type = "derivation";
    inherit outPath;
    name = "installed";
  };

  evaluate =
    pkgs: modules:
    (lib.evalModules {
      specialArgs.pkgs = pkgs;
      modules = [
        { inherit (nixos) options; }
        ../../module.nix
      ]
      ++ modules;
    });

  plainWith =
    services:
    evaluate
      {
        forge-registry = installed "/usr/local";
        gitMinimal = installed "/usr";
        runtimeShell = "/bin/sh";
        writeText = throw "nothing of a plain host is in the Nix store";
      }
      [
        ../../nix/plain-host.nix
        {
          nix.package = installed "/nix/var/nix/profiles/default";
          services.forge-registry = services;
        }
      ];
  plain = plainWith { };

  # Units that are verified, and written nowhere: each socket, with what it can have.
  more =
    nixos.units
      (plainWith {
        tls = {
          certificate = "/etc/forge-registry/chain.pem";
          key = "/etc/forge-registry/key.pem";
          listenAddresses = [
            "0.0.0.0"
            "::"
          ];
        };
        metrics = {
          enable = true;
          listenAddress = "/run/forge-registry-metrics.socket";
          socketGroup = "root";
        };
      }).config;

  # What is made of the module: file name → text.
  text = lib.mapAttrs' (name: lib.nameValuePair "contrib/systemd/${name}") (nixos.units plain.config) // {
    "contrib/sysusers.d/forge-registry.conf" = lib.concatMapStrings (group: "g ${group} -\n") (
      lib.attrNames plain.config.users.groups
    );
    "docs/module-options.md" = import ./document.nix lib plain.options.services.forge-registry;
  };
in
{
  inherit
    evaluate
    installed
    lib
    more
    nixos
    text
    ;
  files = lib.concatMapStringsSep "\n" (name: name) (lib.attrNames text);
}
