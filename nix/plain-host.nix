# What a host without NixOS has elsewhere: the registry in /usr/local, settings in /etc/forge-registry, and Nix where its
# installer puts it. `dev/units write` makes contrib/systemd of this and module.nix.
{ lib, ... }:
let
  ofNix = {
    BindReadOnlyPaths = [
      "/nix/var/nix/profiles"
      "/usr"
      "/lib"
      "-/lib64"
      "-/bin"
    ];
    ExecPaths = [
      "/usr"
      "/lib"
      "-/lib64"
    ];
  };
in
{
  services.forge-registry = {
    enable = true;
    evaluator.enable = true;
    # FLAKE=… or CATALOG=…, and everything else
    environmentFile = "/etc/forge-registry/environment";
  };
  systemd.services = {
    forge-registry.serviceConfig = {
      BindReadOnlyPaths = [
        "/usr"
        "/lib"
        "-/lib64"
        "/etc/forge-registry" # the folder, so that a catalog in it can be replaced
      ];
      NoExecPaths = [
        "+/usr"
        "+/nix/store"
        "+/etc/forge-registry"
      ];
      ExecPaths = lib.mkForce [
        "+/usr/local/bin/forge-registry"
        "+/usr/lib"
        "+/lib"
        "-+/lib64"
      ];
    };
    "forge-fetcher@" = {
      environment.NIX_USER_CONF_FILES = "%d/access-tokens";
      serviceConfig = ofNix // {
        # /etc/credstore/forge-fetcher.access-tokens, should it be there: `access-tokens = github.com=…`
        LoadCredential = [ "access-tokens:forge-fetcher.access-tokens" ];
      };
    };
    "forge-evaluator@".serviceConfig = ofNix;
  };
}
