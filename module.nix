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
    concatStringsSep
    filter
    filterAttrs
    hasInfix
    hasPrefix
    mapAttrs
    mkIf
    optional
    optionalAttrs
    ;
  cfg = config.services.forge-registry;
  evaluates = cfg.evaluator.enable;
  evaluatorSockets = [
    "forge-fetcher.socket"
    "forge-evaluator.socket"
  ];

  known = import ./nix/module/settings.nix lib;

  # Which options are which settings. Null leaves a setting to the registry.
  fromOptions = filterAttrs (_: value: value != null) {
    FLAKE = cfg.flake;
    PACKAGE_SET = cfg.packageSet;
    SYSTEMS = if cfg.systems == [ ] then null else concatStringsSep "," cfg.systems;
    CATALOG = if cfg.images == { } then null else catalog;
    MAX_BUILDS = cfg.limits.builds;
    MAX_QUEUED_BUILDS = cfg.limits.queuedBuilds;
    NIX_BUILD_TIMEOUT = cfg.limits.buildTime;
    MAX_EVALUATIONS = cfg.limits.evaluations;
    MAX_QUEUED_EVALUATIONS = cfg.limits.queuedEvaluations;
    MAX_CONNECTIONS = cfg.limits.connections;
    MAX_CLIENT_BUILDS = cfg.limits.clientBuilds;
    MAX_CLIENT_EVALUATIONS = cfg.limits.clientEvaluations;
    MAX_CLIENT_UNKNOWN = cfg.limits.clientUnknown;
    MAX_REVISIONS = cfg.limits.revisions;
    MAX_CLIENT_CONNECTIONS = cfg.limits.clientConnections;
    AUTH_HTPASSWD = authPath "htpasswd" cfg.auth.htpasswdFile;
    AUTH_TOKENS = authPath "tokens" cfg.auth.tokensFile;
    AUTH_RULES = if cfg.auth.rules == null then null else rules;
    AUTH_REALM = cfg.auth.realm;
    TRUSTED_PROXIES = if cfg.trustedProxies == [ ] then null else concatStringsSep "," cfg.trustedProxies;
    MAX_IMAGE_BYTES = cfg.limits.imageSize;
    MAX_READING_MEMORY = cfg.limits.readingMemory;
    MAX_READING_TIME = cfg.limits.readingTime;
    RETENTION_DAYS = cfg.retention.days;
    CACHE_SIZE = cfg.retention.images;
    CACHE_MAX_BYTES = cfg.cache.blobs;
    LAYERS_MAX_BYTES = cfg.cache.entryLists;
    TLS_CERTIFICATE = if usesTls then tlsPath "certificate" else null;
    TLS_KEY = if usesTls then tlsPath "key" else null;
    TLS_CLIENT_CA =
      if !usesTls || tls.clientCa == null then
        null
      else if tlsGroup != null then
        toString tls.clientCa
      else
        "%d/tls-client-ca";
    TLS_CLIENT_AUTH = if usesTls && tls.clientCa != null then tls.clientAuth else null;
    EVALUATOR_SOCKET = if evaluates then "/run/forge-registry/evaluator.socket" else null;
    FETCHER_SOCKET = if evaluates then "/run/forge-registry/fetcher.socket" else null;
    REVISIONS = cfg.revisions;
    EVALUATION_TIMEOUT = if evaluates then cfg.evaluator.timeLimit else null;
    ACCEPT_FLAKE_CONFIG = if evaluates && cfg.evaluator.acceptFlakeConfig then 1 else null;
  };
  text = value: if builtins.isBool value then (if value then "1" else "0") else toString value;
  own = mapAttrs (_: text) (filterAttrs (_: value: value != null) cfg.settings);
  environment = mapAttrs (_: text) fromOptions // own;
  # Files outside of the store that the registry is to read.
  isOfHost = value: hasPrefix "/" value && !hasPrefix "/nix/store/" value;

  inherit (cfg) tls;
  usesTls = tls.acmeHost != null || tls.certificate != null;
  acme = config.security.acme.certs.${tls.acmeHost};
  # What a group may read is read where it is, so a reload finds the new one. Copies of credentials stay what they were at
  # the start until systemd 260 (RefreshOnReload=), so they are for files that root alone can read.
  authFiles = filter (file: file != null) [
    cfg.auth.htpasswdFile
    cfg.auth.tokensFile
  ];
  authPath =
    name: file:
    if file == null then
      null
    else if cfg.auth.group != null then
      toString file
    else
      "%d/${name}";
  tlsGroup = if tls.acmeHost != null then acme.group else tls.group;
  tlsFiles =
    if tls.acmeHost != null then
      {
        certificate = "${acme.directory}/fullchain.pem";
        key = "${acme.directory}/key.pem";
      }
    else
      {
        certificate = toString tls.certificate;
        key = toString tls.key;
      };
  # The registry is given their folders, so that it sees files that take their places.
  filesOfHost = filter isOfHost (
    lib.attrValues own
    ++ lib.optionals (cfg.auth.group != null) (map toString authFiles)
    ++ lib.optionals (usesTls && tlsGroup != null) (
      lib.attrValues tlsFiles ++ optional (tls.clientCa != null) (toString tls.clientCa)
    )
  );
  tlsPath = name: if tlsGroup != null then tlsFiles.${name} else "%d/tls-${name}";

  # Only the derivations are in the system, none of their outputs: nix-daemon builds an image when it is pulled.
  catalog = pkgs.writeText "forge-registry-catalog.json" (
    builtins.toJSON (
      mapAttrs (_: image: {
        drvPath = builtins.unsafeDiscardOutputDependency image.drvPath;
        output = image.outputName or "out";
      }) cfg.images
    )
  );

  rules = pkgs.writeText "forge-registry-rules" (
    concatStringsSep "" (map (r: "${r.action} ${r.right} ${r.user} ${r.name}\n") cfg.auth.rules)
  );

  isUnixSocket = hasPrefix "/";
  isLoopback = address: hasPrefix "127." address || address == "::1" || address == "localhost";
  isLocal = address: isUnixSocket address || isLoopback address;
  isIPv4 = address: !isUnixSocket address && !hasInfix ":" address;
  stream =
    port: address:
    if isUnixSocket address then
      address
    else if hasInfix ":" address then
      "[${address}]:${toString port}"
    else
      "${address}:${toString port}";

  # Traffic of a socket is judged by the unit that made it, not by the service that uses it: here is where the loopback
  # interface is allowed, and nothing else.
  onlyLocal =
    addresses:
    optionalAttrs (lib.all isLocal addresses) {
      IPAddressAllow = "localhost";
      IPAddressDeny = "any";
    };

  sockets = description: group: settings: port: addresses: {
    inherit description;
    documentation = [ "https://github.com/forge-registry/forge-registry" ];
    wantedBy = [ "sockets.target" ];
    listenStreams = map (stream port) addresses;
    socketConfig = {
      FreeBind = true; # addresses may come later than sockets
      NoDelay = true;
    }
    # Else "::" takes IPv4 as well, which leaves its port to no IPv4 address beside it.
    // optionalAttrs (any isIPv4 addresses && any (hasInfix ":") addresses) { BindIPv6Only = "ipv6-only"; }
    # Who may write to a Unix socket may use it.
    // optionalAttrs (any isUnixSocket addresses) (
      { SocketMode = "0660"; } // optionalAttrs (group != null) { SocketGroup = group; }
    )
    // settings
    // onlyLocal addresses;
  };

  confined = import ./nix/module/confined.nix;
in
{
  imports = [
    ./nix/module/options.nix
    ./nix/module/evaluation.nix
  ];

  config = mkIf cfg.enable {
    assertions = import ./nix/module/assertions.nix {
      inherit
        lib
        authFiles
        cfg
        evaluates
        filesOfHost
        fromOptions
        isLocal
        isUnixSocket
        known
        stream
        tls
        usesTls
        ;
    };

    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall (
      optional (any (address: !isLocal address) cfg.listenAddresses) cfg.port
      ++ optional (usesTls && any (address: !isLocal address) tls.listenAddresses) tls.port
    );

    # `forge-registry images` and the like, for root.
    environment.systemPackages = [ cfg.package ];

    # Needed where nix.settings.allowed-users is narrowed. `allowed-users` itself would replace its default, everybody.
    nix.settings = {
      extra-allowed-users = [
        "forge-registry"
      ]
      ++ lib.optionals evaluates [
        "forge-evaluation"
        "forge-fetching"
      ];
      extra-trusted-users = mkIf (evaluates && cfg.evaluator.acceptFlakeConfig) [ "forge-registry" ];
    };

    systemd.sockets.forge-registry = sockets "Sockets of forge-registry" cfg.socketGroup {
      FileDescriptorName = "http";
    } cfg.port cfg.listenAddresses;
    systemd.sockets.forge-registry-https = mkIf usesTls (
      sockets "Sockets of forge-registry for HTTPS" null {
        FileDescriptorName = "https";
        Service = "forge-registry.service";
      } tls.port tls.listenAddresses
    );

    systemd.sockets.forge-registry-metrics = mkIf cfg.metrics.enable (
      sockets "Socket for metrics of forge-registry" cfg.metrics.socketGroup {
        FileDescriptorName = "metrics";
        Service = "forge-registry.service";
      } cfg.metrics.port [ cfg.metrics.listenAddress ]
    );

    security.acme.certs = mkIf (tls.acmeHost != null) {
      ${tls.acmeHost}.reloadServices = [ "forge-registry.service" ];
    };

    systemd.services.forge-registry = {
      description = "Container registry for images built with Nix";
      documentation = [ "https://github.com/forge-registry/forge-registry" ];
      wantedBy = [ "multi-user.target" ];
      wants = [ "nix-daemon.socket" ] ++ optional (tls.acmeHost != null) "acme-${tls.acmeHost}.service";
      requires = [
        "forge-registry.socket"
      ]
      ++ optional usesTls "forge-registry-https.socket"
      ++ optional cfg.metrics.enable "forge-registry-metrics.socket"
      ++ lib.optionals evaluates evaluatorSockets;
      after = [
        "forge-registry.socket"
        "nix-daemon.socket"
      ]
      ++ optional usesTls "forge-registry-https.socket"
      ++ optional cfg.metrics.enable "forge-registry-metrics.socket"
      ++ optional (tls.acmeHost != null) "acme-${tls.acmeHost}.service"
      ++ lib.optionals evaluates evaluatorSockets;
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
        # Of its own the registry has at most MAX_BUILDS times MAX_READING_MEMORY, MAX_BUFFER_BYTES (128 MiB), 32 MiB for
        # the index, and some hundred MiB for threads, connections and what it remembers: less than MemoryHigh. Pages of
        # the store that it has mapped count, too. They are clean, so at MemoryHigh the kernel drops the oldest of them, which
        # costs the thread that asks for one little; it would have to wait only if there were nothing to drop. MemoryMax
        # is for what should not happen.
        MemoryHigh = cfg.memoryHigh;
        MemoryMax = cfg.memoryMax;
        EnvironmentFile = optional (cfg.environmentFile != null) cfg.environmentFile;
        SupplementaryGroups =
          optional evaluates "forge-evaluator"
          ++ optional (usesTls && tlsGroup != null) tlsGroup
          ++ optional (cfg.auth.group != null) cfg.auth.group;
        LoadCredential =
          lib.optionals (cfg.auth.group == null) (
            optional (cfg.auth.htpasswdFile != null) "htpasswd:${toString cfg.auth.htpasswdFile}"
            ++ optional (cfg.auth.tokensFile != null) "tokens:${toString cfg.auth.tokensFile}"
          )
          ++ lib.optionals (usesTls && tlsGroup == null) (
            [
              "tls-certificate:${tlsFiles.certificate}"
              "tls-key:${tlsFiles.key}"
            ]
            ++ optional (tls.clientCa != null) "tls-client-ca:${toString tls.clientCa}"
          );
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
        ++ optional evaluates "/run/forge-registry"
        ++ lib.unique (map dirOf filesOfHost);
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
  };
}
