# NixOS module: the registry, and beside it the evaluator: one short-lived, confined `nix eval` for each name that is
# looked up. The registry itself never runs a process; it talks to nix-daemon and to the evaluator over their sockets.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkEnableOption
    mkIf
    mkOption
    types
    ;
  cfg = config.services.forge-registry;
  evaluates = (cfg.settings.FLAKE or null) != null;
  evaluatorSocket = "/run/forge-registry/evaluator.socket";

  catalog = pkgs.writeText "forge-registry-catalog.json" (
    builtins.toJSON (lib.mapAttrs (_: image: { outPath = "${image}"; }) cfg.images)
  );

  # What no unit here needs.
  confined = {
    DynamicUser = true;
    CapabilityBoundingSet = "";
    LockPersonality = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateTmp = true;
    PrivateUsers = true;
    ProcSubset = "pid";
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHome = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProtectSystem = "strict";
    RemoveIPC = true;
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
    ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    UMask = "0077";
  };
in
{
  options.services.forge-registry = {
    enable = mkEnableOption "forge-registry, a container registry that builds images with Nix on demand";

    package = mkOption {
      type = types.package;
      default = pkgs.forge-registry;
      defaultText = lib.literalExpression "pkgs.forge-registry";
      description = "The package that provides forge-registry.";
    };

    settings = mkOption {
      type = types.submodule {
        freeformType = types.attrsOf (
          types.nullOr (
            types.oneOf [
              types.str
              types.int
              types.path
            ]
          )
        );
        options.FLAKE = mkOption {
          type = types.nullOr types.str;
          default = null;
          example = "github:owner/repo";
          description = ''
            The flake whose images are served. Without one, only {option}`services.forge-registry.images` are, and no
            evaluator runs.
          '';
        };
        options.LISTEN = mkOption {
          type = types.str;
          default = "127.0.0.1:6443";
          example = "[::]:6443";
          description = "Addresses and ports to listen on, separated by commas.";
        };
      };
      default = { };
      example = {
        FLAKE = "github:owner/repo";
        CACHE_MAX_BYTES = "50GiB";
      };
      description = "Settings, as the environment variables that `forge-registry --help` lists.";
    };

    images = mkOption {
      type = types.attrsOf types.package;
      default = { };
      example = lib.literalExpression ''{ hello = pkgs.dockerTools.buildImage { name = "hello"; }; }'';
      description = "Images to serve by these names without evaluating anything. They are built with the system.";
    };

    evaluator.memoryMax = mkOption {
      type = types.str;
      default = "4G";
      description = "Memory that one evaluation may use.";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = evaluates || cfg.images != { };
        message = "services.forge-registry: set settings.FLAKE or images; there is nothing to serve otherwise";
      }
    ];

    systemd.services.forge-registry = {
      description = "Container registry for images built with Nix";
      documentation = [ "https://github.com/forge-registry/forge-registry" ];
      wantedBy = [ "multi-user.target" ];
      wants = [
        "network-online.target"
        "nix-daemon.socket"
      ];
      after = [
        "network-online.target"
        "nix-daemon.socket"
        "forge-evaluator.socket"
      ];
      requires = lib.optional evaluates "forge-evaluator.socket";
      environment = lib.mapAttrs (_: toString) (
        lib.filterAttrs (_: value: value != null) (
          lib.optionalAttrs evaluates { EVALUATOR_SOCKET = evaluatorSocket; }
          // lib.optionalAttrs (cfg.images != { }) { CATALOG = catalog; }
          // cfg.settings
        )
      );
      serviceConfig = confined // {
        ExecStart = lib.getExe' cfg.package "forge-registry";
        Restart = "on-failure";
        RestartSec = 1;
        TimeoutStopSec = 60;
        LimitNOFILE = 65536; # connections, above all
        StateDirectory = "forge-registry"; # passed on as STATE_DIRECTORY
        SupplementaryGroups = lib.optional evaluates "forge-evaluator";
        MemoryDenyWriteExecute = true;
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
        ];
      };
    };

    # Who may ask for evaluations.
    users.groups = mkIf evaluates { forge-evaluator = { }; };

    systemd.sockets.forge-evaluator = mkIf evaluates {
      description = "Evaluator of forge-registry";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenStream = evaluatorSocket;
        Accept = true;
        MaxConnections = 32;
        SocketGroup = "forge-evaluator";
        SocketMode = "0660";
      };
    };

    systemd.services."forge-evaluator@" = mkIf evaluates {
      description = "Evaluation for forge-registry";
      after = [ "nix-daemon.socket" ];
      path = [
        config.nix.package
        pkgs.gitMinimal
      ];
      environment = {
        HOME = "/var/cache/forge-evaluator";
        NIX_REMOTE = "daemon";
      };
      unitConfig.CollectMode = "inactive-or-failed"; # else every failed evaluation stays in systemd's memory
      serviceConfig = confined // {
        ExecStart =
          "${config.nix.package}/bin/nix --extra-experimental-features 'nix-command flakes' "
          + "eval --json --impure --log-format internal-json -f -";
        StandardInput = "socket";
        StandardOutput = "socket";
        StandardError = "inherit";
        User = "forge-evaluation"; # one for all of them: they share the folder
        CacheDirectory = "forge-evaluator";
        MemoryMax = cfg.evaluator.memoryMax;
        TasksMax = 64;
        RuntimeMaxSec = 300;
        SystemCallFilter = [ "@system-service" ];
      };
    };
  };
}
