# The catalog that module.nix writes for an image, and the image: real derivations, none of which is built here.
{ examples, nonce }:
let
  inherit (import ./.) evaluate installed lib;
  image = (import examples { system = builtins.currentSystem; inherit nonce; }).packages.hello.image;
  busybox = import (examples + "/busybox.nix");
  result = evaluate {
    forge-registry = installed "/nix/store/registry";
    gitMinimal = installed "/nix/store/git";
    runtimeShell = "/bin/sh";
    writeText =
      name: text:
      derivation {
        inherit name text;
        system = builtins.currentSystem;
        builder = "${busybox}/busybox";
        args = [ "sh" "-c" "printf %s \"$text\" >$out" ];
      };
  } [
    {
      services.forge-registry = {
        enable = true;
        images."shop/hello" = image;
      };
    }
  ];
  environment = result.config.systemd.services.forge-registry.environment;
in
{
  inherit image;
  # As a derivation, for `nix build`.
  catalog = derivation {
    name = "system";
    system = builtins.currentSystem;
    builder = "${busybox}/busybox";
    args = [ "sh" "-c" "printf %s \"$catalog\" >$out" ];
    catalog = environment.CATALOG;
  };
}
