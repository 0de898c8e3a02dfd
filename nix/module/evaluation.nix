# The two services behind which Nix evaluates, each started by systemd once a connection. The fetcher fetches what the
# operator configured, with access tokens, and runs no code of it. The evaluator runs that code, and has neither tokens nor
# the host's files: flakes are data to it, and evaluation is restricted to what the fetcher left in the store.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    concatStringsSep
    mkIf
    optional
    optionalAttrs
    ;
  cfg = config.services.forge-registry;
  confined = import ./confined.nix;

  words = concatStringsSep " ";
  # Arguments are words that have spaces in them at most.
  argument = text: if lib.hasInfix " " text || text == "" then "'${text}'" else text;
  evaluate =
    options:
    "${cfg.evaluator.package}/bin/nix "
    + words (
      map argument (
        options
        ++ [
          "eval"
          "--json"
          "--impure"
          "--option"
          "restrict-eval"
          "true"
          "--log-format"
          "internal-json"
          "-f"
          "-"
        ]
      )
    );

  # The tree of a source is found in the store by a URL of this kind, which cannot be fetched from.
  inStore = "forge-registry:";
  # What the operator alone can name: the fetcher refuses such inputs of a flake.lock.
  ofHost = [
    "path:"
    "file:"
    "git+file:"
    "tarball+file:"
  ];

  # Nothing listens on the port of RFC 863 any more.
  nowhere = "http://127.0.0.1:9";
  # Of the sources that the operator configured, those without encryption.
  isInsecure = uri: builtins.match "((git|tarball|file|hg)[+])?http:.*" uri != null;
  insecure = lib.filter isInsecure (
    lib.filter (reference: reference != null) [
      cfg.flake
      cfg.packageSet
    ]
  );

  # The folder of a source of this host.
  folderOf =
    reference:
    let
      found = builtins.match "(path:|git\\+file://)?(/[^?]*).*" reference;
    in
    optional (found != null && !lib.hasPrefix builtins.storeDir reference) (lib.last found);
  folders = lib.concatMap (reference: if reference == null then [ ] else folderOf reference) [
    cfg.flake
    cfg.packageSet
  ];
  # NAME=PATH
  named = map (entry: lib.last (builtins.match "([^=]*=)?(.*)" entry)) cfg.evaluator.nixPath;

  socket = service: description: {
    inherit description;
    wantedBy = [ "sockets.target" ];
    listenStreams = [ "/run/forge-registry/${service}.socket" ];
    socketConfig = {
      Accept = true;
      # The registry keeps to its limit; this is for checks, and for evaluations that it no longer waits for.
      MaxConnections = 16 + (if cfg.limits.evaluations == null then 16 else cfg.limits.evaluations);
      SocketGroup = "forge-evaluator";
      SocketMode = "0660";
    };
  };

  service = name: user: description: environment: settings: {
    inherit description;
    documentation = [ "https://github.com/forge-registry/forge-registry" ];
    after = [ "nix-daemon.socket" ];
    path = [
      cfg.evaluator.package
      pkgs.gitMinimal
    ];
    environment = {
      HOME = "/var/cache/${name}";
      NIX_REMOTE = "daemon";
    }
    # `allowed-uris` is not asked where a server redirects to.
    // optionalAttrs (!lib.any isInsecure settings.uris) {
      http_proxy = nowhere;
      ftp_proxy = nowhere;
    }
    // environment;
    unitConfig.CollectMode = "inactive-or-failed"; # else every failed evaluation stays in systemd's memory
    serviceConfig =
      confined
      // {
        StandardInput = "socket";
        StandardOutput = "socket";
        StandardError = "inherit";
        User = user; # one for all of them: they share the folder
        CacheDirectory = name;
        CacheDirectoryMode = "0700";
        MemoryMax = cfg.evaluator.memoryMax;
        MemoryHigh = cfg.evaluator.memoryHigh;
        MemorySwapMax = 0;
        CPUQuota = cfg.evaluator.cpuQuota;
        TasksMax = 64;
        RuntimeMaxSec = cfg.evaluator.timeLimit;

        # An empty root: of the host, there is what it takes to run Nix and git, and to find other hosts.
        RootDirectory = "/run/private/${name}-root"; # where systemd puts what a dynamic user leaves behind
        RuntimeDirectory = "${name}-root";
        RuntimeDirectoryMode = "0755";
        RuntimeDirectoryPreserve = true; # others may be using it
        BindReadOnlyPaths = [
          "/nix/store"
          "/nix/var/nix/daemon-socket"
        ]
        ++ map (path: "-${path}") (
          [
            "/etc/ca-certificates"
            "/etc/gitconfig"
            "/etc/group"
            "/etc/hosts"
            "/etc/nix"
            "/etc/nsswitch.conf"
            "/etc/passwd"
            "/etc/pki"
            "/etc/resolv.conf"
            "/etc/ssh/ssh_config"
            "/etc/ssh/ssh_known_hosts"
            "/etc/ssl"
            "/etc/static"
            "/run/nscd"
            "/run/systemd/resolve"
            "/run/systemd/userdb"
          ]
          ++ settings.folders
        );
        ReadOnlyPaths = [ "-+/run" ];
        InaccessiblePaths = [
          "-+/run/${name}-root" # the same tree a second time
        ]
        ++ settings.hidden;
        # Nix, and git, which it starts for some sources.
        NoExecPaths = "/";
        ExecPaths = [ "/nix/store" ];
        # To fetch sources, and what their code fetches.
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
        IPAddressDeny = cfg.evaluator.deniedAddresses;
        IPAddressAllow = [
          "127.0.0.53"
          "127.0.0.54"
        ];
      }
      // builtins.removeAttrs settings [
        "folders"
        "hidden"
        "uris"
      ];
  };
in
{
  config = mkIf (cfg.enable && cfg.evaluator.enable) {
    # Who may ask for evaluations.
    users.groups.forge-evaluator = { };

    systemd.sockets.forge-fetcher = socket "fetcher" "Fetcher of forge-registry";
    systemd.sockets.forge-evaluator = socket "evaluator" "Evaluator of forge-registry";

    systemd.services."forge-fetcher@" =
      service "forge-fetcher" "forge-fetching" "Fetching for forge-registry"
        (optionalAttrs (cfg.evaluator.accessTokensFile != null) { NIX_USER_CONF_FILES = "%d/access-tokens"; })
        {
          inherit folders;
          hidden = [ ];
          uris = cfg.evaluator.allowedInputs ++ insecure;
          ExecStart = evaluate [
            "--extra-experimental-features"
            "nix-command flakes"
            "--option"
            "allowed-uris"
            (words ([ inStore ] ++ ofHost ++ cfg.evaluator.allowedInputs ++ insecure))
          ];
          LoadCredential = optional (
            cfg.evaluator.accessTokensFile != null
          ) "access-tokens:${toString cfg.evaluator.accessTokensFile}";
        };

    systemd.services."forge-evaluator@" =
      service "forge-evaluator" "forge-evaluation" "Evaluation for forge-registry"
        # Without an entry as well, so that no other one is taken.
        { NIX_PATH = concatStringsSep ":" cfg.evaluator.nixPath; }
        {
          folders = builtins.filter (path: !lib.hasPrefix builtins.storeDir path) named;
          hidden = [ "-+/etc/nix/netrc" ]; # passwords, where Nix looks for them
          uris = cfg.evaluator.allowedUris;
          ExecStart = evaluate (
            [
              "--experimental-features"
              (words cfg.evaluator.experimentalFeatures)
              "--option"
              "allowed-uris"
              (words ([ inStore ] ++ cfg.evaluator.allowedUris))
              # Of the host's own nix.conf.
              "--option"
              "access-tokens"
              ""
            ]
            ++ lib.optionals (!cfg.evaluator.importFromDerivation) [
              "--option"
              "allow-import-from-derivation"
              "false"
            ]
          );
        };
  };
}
