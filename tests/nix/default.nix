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

  plain = evaluate {
    forge-registry = installed "/usr/local";
    gitMinimal = installed "/usr";
    runtimeShell = "/bin/sh";
    writeText = throw "nothing of a plain host is in the Nix store";
  } [
    ../../nix/plain-host.nix
    { nix.package = installed "/nix/var/nix/profiles/default"; }
  ];

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
    nixos
    text
    ;
  files = lib.concatMapStringsSep "\n" (name: name) (lib.attrNames text);
}
