# NixOS module: the registry behind sockets that systemd holds, and beside it the evaluator: one short-lived, confined
# `nix eval` for each name that is looked up. The registry itself never runs a process; it talks to nix-daemon and to the
# evaluator over their sockets. docs/module-options.md lists the options.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    any
    attrNames
    concatMap
    concatStringsSep
    filter
    filterAttrs
    hasInfix
    hasPrefix
    head
    intersectLists
    literalExpression
    mapAttrs
    mkEnableOption
    mkIf
    mkOption
    optional
    optionalAttrs
    splitString
    types
    ;
  cfg = config.services.forge-registry;
  evaluates = cfg.evaluator.enable;
  evaluatorSocket = "/run/forge-registry/evaluator.socket";

  # The registry's settings with their defaults, from the list that it keeps itself.
  known = lib.listToAttrs (
    concatMap (
      line:
      let
        found = builtins.match "#([A-Z][A-Z0-9_]*)=(.*)" line;
      in
      optional (found != null) (lib.nameValuePair (head found) (lib.last found))
    ) (splitString "\n" (builtins.readFile ./.env.example))
  );

  # Which options are which settings. Null leaves a setting to the registry.
  fromOptions = filterAttrs (_: value: value != null) {
    FLAKE = cfg.flake;
    SYSTEMS = if cfg.systems == [ ] then null else concatStringsSep "," cfg.systems;
    CATALOG = if cfg.images == { } then null else catalog;
    MAX_BUILDS = cfg.limits.builds;
    MAX_QUEUED_BUILDS = cfg.limits.queuedBuilds;
    NIX_BUILD_TIMEOUT = cfg.limits.buildTime;
    MAX_EVALUATIONS = cfg.limits.evaluations;
    MAX_QUEUED_EVALUATIONS = cfg.limits.queuedEvaluations;
    MAX_CONNECTIONS = cfg.limits.connections;
    MAX_IMAGE_BYTES = cfg.limits.imageSize;
    RETENTION_DAYS = cfg.retention.days;
    CACHE_SIZE = cfg.retention.images;
    CACHE_MAX_BYTES = cfg.cache.blobs;
    LAYERS_MAX_BYTES = cfg.cache.entryLists;
    EVALUATOR_SOCKET = if evaluates then evaluatorSocket else null;
    EVALUATION_TIMEOUT = if evaluates then cfg.evaluator.timeLimit else null;
    ACCEPT_FLAKE_CONFIG = if evaluates && cfg.evaluator.acceptFlakeConfig then 1 else null;
  };
  text = value: if builtins.isBool value then (if value then "1" else "0") else toString value;
  own = mapAttrs (_: text) (filterAttrs (_: value: value != null) cfg.settings);
  environment = mapAttrs (_: text) fromOptions // own;
  # Files outside of the store that the registry is to read.
  isOfHost = value: hasPrefix "/" value && !hasPrefix "/nix/store/" value;

  # Only the derivations are in the system, none of their outputs: nix-daemon builds an image when it is pulled.
  catalog = pkgs.writeText "forge-registry-catalog.json" (
    builtins.toJSON (
      mapAttrs (_: image: {
        drvPath = builtins.unsafeDiscardOutputDependency image.drvPath;
        output = image.outputName or "out";
      }) cfg.images
    )
  );

  isUnixSocket = hasPrefix "/";
  isLoopback = address: hasPrefix "127." address || address == "::1" || address == "localhost";
  isLocal = address: isUnixSocket address || isLoopback address;
  stream =
    address:
    if isUnixSocket address then
      address
    else if hasInfix ":" address then
      "[${address}]:${toString cfg.port}"
    else
      "${address}:${toString cfg.port}";

  # What neither unit needs.
  confined = {
    AmbientCapabilities = "";
    CapabilityBoundingSet = "";
    DevicePolicy = "closed";
    DynamicUser = true;
    KeyringMode = "private";
    LimitCORE = 0;
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    NoNewPrivileges = true;
    PrivateDevices = true;
    PrivateIPC = true;
    PrivateMounts = true;
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
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SocketBindDeny = "any";
    SystemCallArchitectures = "native";
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
    SystemCallErrorNumber = "EPERM";
    UMask = "0077";
  };

  size = types.either types.ints.positive (types.strMatching "[0-9]+ ?([KMGT]i?)?B?");
  duration = types.either types.ints.positive (types.strMatching "[0-9]+[smhd]?");
  limit =
    name: type: example: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example;
      description = "${description} The registry's own default is `${known.${name}}` (`${name}`).";
    };
in
{
  options.services.forge-registry = {
    enable = mkEnableOption "forge-registry, a container registry that builds images with Nix on demand";

    package = mkOption {
      type = types.package;
      default = pkgs.forge-registry;
      defaultText = literalExpression "pkgs.forge-registry";
      description = "The package that provides forge-registry.";
    };

    listenAddresses = mkOption {
      type = types.nonEmptyListOf types.str;
      default = [ "127.0.0.1" ];
      example = [
        "0.0.0.0"
        "::"
        "/run/forge-registry.socket"
      ];
      description = ''
        Addresses to listen on, IPv4 or IPv6, at {option}`services.forge-registry.port`; and absolute paths of Unix
        sockets. systemd listens, so clients wait and are not refused while the registry restarts.
      '';
    };

    port = mkOption {
      type = types.port;
      default = 6443;
      description = "The TCP port to listen on.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open {option}`services.forge-registry.port` in the firewall.";
    };

    flake = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "github:owner/repo";
      description = ''
        The flake whose images are served, as a reference without an attribute. The evaluator fetches it as a user of its
        own, which sees no home directory and no file in {file}`/tmp`. Without a flake, only
        {option}`services.forge-registry.images` are served, and no evaluator runs.
      '';
    };

    images = mkOption {
      type = types.attrsOf types.package;
      default = { };
      example = literalExpression ''
        {
          hello = pkgs.dockerTools.buildLayeredImage { name = "hello"; contents = [ pkgs.hello ]; };
          "shop/web" = inputs.shop.packages.x86_64-linux.image;
        }
      '';
      description = ''
        Images to serve by these names, without evaluating anything. The system contains their derivations alone: an
        image is built when it is first pulled. (Installation media and virtual machines that are made of the system
        cannot contain a derivation without its outputs; Nix wants these built.)
      '';
    };

    systems = mkOption {
      type = types.listOf (types.strMatching "[a-z0-9_]+-[a-z0-9_]+");
      default = [ ];
      example = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      description = ''
        Nix systems in which the flake's attributes are looked up, the preferred first. Empty is the machine's own.
      '';
    };

    limits = {
      builds = limit "MAX_BUILDS" types.ints.positive 8 "Images that are built at a time.";
      queuedBuilds = limit "MAX_QUEUED_BUILDS" types.ints.unsigned 16 "Builds that wait for their turn.";
      buildTime = limit "NIX_BUILD_TIMEOUT" duration "1h" "How long one derivation may build.";
      evaluations = limit "MAX_EVALUATIONS" types.ints.positive 8 "Evaluations at a time.";
      queuedEvaluations =
        limit "MAX_QUEUED_EVALUATIONS" types.ints.unsigned 64
          "Evaluations that wait for their turn.";
      connections = limit "MAX_CONNECTIONS" types.ints.positive 4096 "Connections of clients at a time.";
      imageSize = limit "MAX_IMAGE_BYTES" size "8GiB" "Size of an image's archive once decompressed.";
    };

    retention = {
      days =
        limit "RETENTION_DAYS" types.ints.positive 30
          "Days after which an image that nobody asks for loses its GC root.";
      images = limit "CACHE_SIZE" types.ints.positive 200 "Images that are kept at most.";
    };

    cache = {
      blobs =
        limit "CACHE_MAX_BYTES" size "50GiB"
          "Size of the cache for layers of compressed archives; all others are served from the store.";
      entryLists =
        limit "LAYERS_MAX_BYTES" size "4GiB"
          "Size of the lists of files of layers that are computed from store paths.";
    };

    evaluator = {
      enable = mkOption {
        type = types.bool;
        default = cfg.flake != null;
        defaultText = literalExpression "config.services.forge-registry.flake != null";
        description = "Whether to run the evaluator. A flake needs it; images need none.";
      };

      package = mkOption {
        type = types.package;
        default = config.nix.package;
        defaultText = literalExpression "config.nix.package";
        description = "The Nix that evaluates.";
      };

      memoryMax = mkOption {
        type = types.str;
        default = "4G";
        example = "12G";
        description = "Memory that one evaluation may use ({manpage}`systemd.resource-control(5)`, `MemoryMax=`).";
      };

      cpuQuota = mkOption {
        type = types.strMatching "[0-9]+%";
        default = "200%";
        description = "Processor time that one evaluation may use; `100%` is one processor.";
      };

      timeLimit = mkOption {
        type = duration;
        default = 300;
        example = "10m";
        description = "How long one evaluation may take, fetching included; a number is seconds.";
      };

      acceptFlakeConfig = mkOption {
        type = types.bool;
        default = false;
        description = ''
          Whether the registry's builds may use the substituters and public keys that the flake's own `nixConfig` names,
          beside those of this host. Who can change the flake then decides whose binaries this host takes. As nix-daemon
          takes these from trusted users only, the registry's user becomes one (`nix.settings.extra-trusted-users`), and
          with that nearly as powerful as root. Revisions that clients ask for by tag have no say in it.
        '';
      };

      accessTokensFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/run/secrets/nix-access-tokens";
        description = ''
          A file with a line like `access-tokens = github.com=ghp_…` for {file}`nix.conf`, with which private flakes are
          fetched. It is read by systemd; only the evaluator gets to see it, the registry does not.
        '';
      };
    };

    settings = mkOption {
      type = types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.str
            types.path
          ]
        )
      );
      default = { };
      example = {
        TAG_TTL = "5m";
        LOG_FORMAT = "json";
      };
      description = ''
        Further settings, as the environment variables that `forge-registry --help` lists. Names that it does not know
        are refused, and those that have an option of their own are set by that. Of a file that a setting names, the
        registry gets to see the folder.
      '';
    };

    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/forge-registry";
      description = "A file of settings, one `NAME=value` a line, that must not be in the Nix store.";
    };
  };

  config = mkIf cfg.enable {
    assertions =
      let
        prefix = "services.forge-registry";
        unknown = filter (name: !(known ? ${name})) (attrNames cfg.settings);
        twice = intersectLists (attrNames fromOptions) (attrNames cfg.settings);
        fixed = filter (name: cfg.settings ? ${name}) [
          "EVALUATOR_SOCKET"
          "LISTEN"
          "NIX_STORE_DIR"
          "STATE_DIR"
        ];
        component = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*";
        badNames = filter (name: builtins.match "${component}(/${component})*" name == null) (
          attrNames cfg.images
        );
        inStore = path: path != null && hasPrefix builtins.storeDir (toString path);
        quoted = names: concatStringsSep ", " names;
      in
      [
        {
          assertion =
            cfg.flake != null || cfg.images != { } || cfg.settings.CATALOG or null != null || cfg.environmentFile != null;
          message = "${prefix}: there is nothing to serve; set flake or images";
        }
        {
          assertion = cfg.flake != null -> evaluates;
          message = "${prefix}.flake cannot be served without the evaluator; leave evaluator.enable alone, or serve images instead";
        }
        {
          assertion = unknown == [ ];
          message = "${prefix}.settings: the registry does not know ${quoted unknown}; `forge-registry --help` lists what it knows";
        }
        {
          assertion = fixed == [ ];
          message = "${prefix}.settings: ${quoted fixed} cannot be changed, since the units depend on it; use listenAddresses and port to listen elsewhere";
        }
        {
          assertion = twice == [ ];
          message = "${prefix}.settings: ${quoted twice} is set by an option of its own as well; remove one of both";
        }
        {
          assertion = badNames == [ ];
          message = "${prefix}.images: ${quoted badNames} is no name that clients take; use lower case letters, digits, and single . _ - or / between them";
        }
        {
          assertion = cfg.openFirewall -> any (address: !isLocal address) cfg.listenAddresses;
          message = "${prefix}.openFirewall has no effect, since nothing listens on an address that others reach; add for instance \"0.0.0.0\" and \"::\" to listenAddresses, or turn it off";
        }
        {
          assertion = cfg.evaluator.acceptFlakeConfig -> cfg.flake != null;
          message = "${prefix}.evaluator.acceptFlakeConfig has no effect without a flake; set flake, or turn it off";
        }
        {
          assertion = !inStore cfg.environmentFile;
          message = "${prefix}.environmentFile is in the Nix store, where everybody can read it; give the path of a file elsewhere, as a string";
        }
        {
          assertion = !inStore cfg.evaluator.accessTokensFile;
          message = "${prefix}.evaluator.accessTokensFile is in the Nix store, where everybody can read it; give the path of a file elsewhere, as a string";
        }
      ];

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall [ cfg.port ];

    # Needed where nix.settings.allowed-users is narrowed. `allowed-users` itself would replace its default, everybody.
    nix.settings = {
      extra-allowed-users = [ "forge-registry" ] ++ optional evaluates "forge-evaluation";
      extra-trusted-users = mkIf (evaluates && cfg.evaluator.acceptFlakeConfig) [ "forge-registry" ];
    };

    # Who may ask for evaluations.
    users.groups.forge-evaluator = mkIf evaluates { };

    systemd.sockets.forge-registry = {
      description = "Sockets of forge-registry";
      documentation = [ "https://github.com/forge-registry/forge-registry" ];
      wantedBy = [ "sockets.target" ];
      listenStreams = map stream cfg.listenAddresses;
      socketConfig = {
        FileDescriptorName = "http";
        FreeBind = true; # addresses may come later than sockets
        NoDelay = true;
      }
      // optionalAttrs (lib.all isLocal cfg.listenAddresses) {
        # Traffic of a socket is judged by the unit that made it, not by the service that uses it: here is where the
        # loopback interface is allowed, and nothing else.
        IPAddressAllow = "localhost";
        IPAddressDeny = "any";
      };
    };

    systemd.services.forge-registry = {
      description = "Container registry for images built with Nix";
      documentation = [ "https://github.com/forge-registry/forge-registry" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "nix-daemon.socket" ];
      requires = [ "forge-registry.socket" ] ++ optional evaluates "forge-evaluator.socket";
      after = [
        "forge-registry.socket"
        "nix-daemon.socket"
      ]
      ++ optional evaluates "forge-evaluator.socket";
      # Else a switch to another configuration would stop the socket as well, and clients be refused.
      stopIfChanged = false;
      inherit environment;
      serviceConfig = confined // {
        Type = "notify";
        ExecStart = lib.getExe' cfg.package "forge-registry";
        # Outside of all that follows, for the registry's own user may not run anything.
        ExecReload = "+${pkgs.runtimeShell} -c 'kill -HUP $MAINPID'";
        Restart = "on-failure";
        RestartSec = 1;
        RestartPreventExitStatus = 2; # the settings are wrong
        WatchdogSec = 60;
        TimeoutStopSec = 60; # for saying how long it really takes
        LimitNOFILE = 65536; # connections, above all
        EnvironmentFile = optional (cfg.environmentFile != null) cfg.environmentFile;
        SupplementaryGroups = optional evaluates "forge-evaluator";
        # Passed on as STATE_DIRECTORY.
        StateDirectory = "forge-registry";
        StateDirectoryMode = "0700";

        # All there is of the file system: the store, the state, and the sockets.
        RootDirectory = "/run/forge-registry-root";
        RootDirectoryStartOnly = true;
        RuntimeDirectory = "forge-registry-root";
        RuntimeDirectoryMode = "0755";
        BindReadOnlyPaths = [
          "/nix/store"
          "/nix/var/nix/daemon-socket"
        ]
        ++ optional evaluates (dirOf evaluatorSocket)
        ++ lib.unique (map dirOf (filter isOfHost (lib.attrValues own)));
        # What of it would be writable besides the state, and the same tree a second time.
        ReadOnlyPaths = [
          "-+/tmp"
          "-+/var/tmp"
          "-+/dev/shm"
          "-+/dev/mqueue"
          "-+/run"
        ];
        InaccessiblePaths = [ "-+/run/forge-registry-root" ];
        # The binary and its libraries. That they are all in the store is all that is known here; what else is in it
        # cannot be run either, since the registry denies itself execve. With the + these are paths of its own root;
        # each mount is named, since systemd 252 does not go down to them from there.
        NoExecPaths = [
          "+/"
          "+/nix/var/nix/daemon-socket"
          "+/var/lib/forge-registry"
          "-+/tmp"
          "-+/var/tmp"
          "-+/dev/shm"
          "-+/dev/hugepages"
          "-+/run"
        ];
        ExecPaths = [ "+/nix/store" ];

        # Its listening sockets are systemd's, and have the host's network wherever the registry itself is. Nix-daemon
        # and the evaluator fetch what is to be fetched.
        PrivateNetwork = true;
        RestrictAddressFamilies = [ "AF_UNIX" ];
        IPAddressDeny = "any";

        # With which it denies itself execve.
        SystemCallFilter = confined.SystemCallFilter ++ [ "seccomp" ];
      };
    };

    systemd.sockets.forge-evaluator = mkIf evaluates {
      description = "Evaluator of forge-registry";
      wantedBy = [ "sockets.target" ];
      listenStreams = [ evaluatorSocket ];
      socketConfig = {
        Accept = true;
        # The registry keeps to its limit; this is for checks, and for evaluations that it no longer waits for.
        MaxConnections = 16 + (if cfg.limits.evaluations == null then 16 else cfg.limits.evaluations);
        SocketGroup = "forge-evaluator";
        SocketMode = "0660";
      };
    };

    systemd.services."forge-evaluator@" = mkIf evaluates {
      description = "Evaluation for forge-registry";
      documentation = [ "https://github.com/forge-registry/forge-registry" ];
      after = [ "nix-daemon.socket" ];
      path = [
        cfg.evaluator.package
        pkgs.gitMinimal
      ];
      environment = {
        HOME = "/var/cache/forge-evaluator";
        NIX_REMOTE = "daemon";
      }
      // optionalAttrs (cfg.evaluator.accessTokensFile != null) { NIX_USER_CONF_FILES = "%d/access-tokens"; };
      unitConfig.CollectMode = "inactive-or-failed"; # else every failed evaluation stays in systemd's memory
      serviceConfig = confined // {
        ExecStart =
          "${cfg.evaluator.package}/bin/nix --extra-experimental-features 'nix-command flakes' "
          + "eval --json --impure --log-format internal-json -f -";
        StandardInput = "socket";
        StandardOutput = "socket";
        StandardError = "inherit";
        User = "forge-evaluation"; # one for all of them: they share the folder
        CacheDirectory = "forge-evaluator";
        CacheDirectoryMode = "0700";
        LoadCredential = optional (
          cfg.evaluator.accessTokensFile != null
        ) "access-tokens:${toString cfg.evaluator.accessTokensFile}";
        MemoryMax = cfg.evaluator.memoryMax;
        MemorySwapMax = 0;
        CPUQuota = cfg.evaluator.cpuQuota;
        TasksMax = 64;
        RuntimeMaxSec = cfg.evaluator.timeLimit;
        # Nix, and git, which it starts for some flakes.
        NoExecPaths = "/";
        ExecPaths = [ "/nix/store" ];
        # To fetch flakes and what they fetch.
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
      };
    };
  };
}
