# Configurations, and what module.nix makes of them. tests/registry/module.rs asserts that each part is found.
let
  inherit (import ./.) evaluate installed nixos;

  pkgs = {
    forge-registry = installed "/nix/store/registry";
    gitMinimal = installed "/nix/store/git";
    runtimeShell = "/nix/store/bash/bin/bash";
    # What rules say shows where their file is named.
    writeText =
      name: text:
      installed (
        "/nix/store/${name}"
        + (if name == "forge-registry-rules" then ":${builtins.replaceStrings [ "\n" ] [ ";" ] text}" else "")
      );
  };
  image = {
    type = "derivation";
    drvPath = "/nix/store/image.drv";
    outputName = "out";
    outPath = throw "the image would be built";
  };

  case =
    what: config: parts:
    let
      result =
        (evaluate pkgs [
          {
            services.forge-registry = {
              enable = true;
            }
            // config;
            nix.package = installed "/nix/store/nix";
          }
        ]).config;
      units = nixos.units result;
      text = builtins.concatStringsSep "\n" (
        map (a: "refused: ${a.message}") (builtins.filter (a: !a.assertion) result.assertions)
        ++ map (name: "${name}\n${units.${name}}") (builtins.attrNames units)
        ++ [
          "ports: ${builtins.toJSON result.networking.firewall.allowedTCPPorts}"
          "nix: ${builtins.toJSON result.nix.settings}"
          "acme: ${builtins.toJSON (builtins.mapAttrs (_: c: c.reloadServices) result.security.acme.certs)}"
          "groups: ${builtins.toJSON (builtins.attrNames result.users.groups)}"
        ]
      );
      tried = builtins.tryEval (builtins.deepSeq text text);
    in
    {
      inherit what;
      found = if tried.success then tried.value else "is not of its type";
      parts = builtins.filter (part: builtins.substring 0 1 part != "!") parts;
      absent = map (part: builtins.substring 1 (-1) part) (
        builtins.filter (part: builtins.substring 0 1 part == "!") parts
      );
    };
  flake = "github:owner/repo";
in
[
  (case "a flake alone" { inherit flake; } [
    "!refused"
    "Environment=\"FLAKE=github:owner/repo\"\n"
    "ListenStream=127.0.0.1:6443\n"
    "IPAddressAllow=localhost\n"
    "forge-evaluator@.service\n"
    "forge-fetcher@.service\n"
    "Environment=\"REVISIONS=refs\"\n"
    "ExecStart=/nix/store/nix/bin/nix --experimental-features 'nix-command fetch-tree' --option allowed-uris 'forge-registry: https: "
    "--option restrict-eval true "
    "IPAddressDeny=link-local\n"
    "!allow-import-from-derivation"
    "groups: [\"forge-evaluator\"]"
    "nix: {\"extra-allowed-users\":[\"forge-registry\",\"forge-evaluation\",\"forge-fetching\"]}"
    "ports: []"
    "!LoadCredential"
    "!ACCEPT_FLAKE_CONFIG"
    "!LISTEN="
    "!metrics"
  ])
  (case "images alone" { images."shop/web" = image; } [
    "!refused"
    "Environment=\"CATALOG=/nix/store/forge-registry-catalog.json\"\n"
    "!forge-evaluator"
    "nix: {\"extra-allowed-users\":[\"forge-registry\"]}"
  ])
  (case "addresses of all kinds" {
    inherit flake;
    listenAddresses = [
      "0.0.0.0"
      "::"
      "/run/forge.sock"
    ];
    port = 5000;
    openFirewall = true;
  } [
    "!refused"
    "ListenStream=0.0.0.0:5000\nListenStream=[::]:5000\nListenStream=/run/forge.sock\nBindIPv6Only=ipv6-only\n"
    "NoDelay=true\nSocketMode=0660\n"
    "!SocketGroup=nginx"
    "!IPAddressAllow=localhost"
    "ports: [5000]"
  ])
  (case "Unix sockets for groups" {
    inherit flake;
    listenAddresses = [ "/run/forge.sock" ];
    socketGroup = "nginx";
    metrics = {
      enable = true;
      listenAddress = "/run/forge-metrics.sock";
      socketGroup = "prometheus";
    };
  } [
    "!refused"
    "ListenStream=/run/forge.sock\nFileDescriptorName=http\n"
    "SocketGroup=nginx\nSocketMode=0660\n"
    "ListenStream=/run/forge-metrics.sock\nFileDescriptorName=metrics\n"
    "SocketGroup=prometheus\nSocketMode=0660\n"
  ])
  (case "groups of no Unix socket" {
    inherit flake;
    socketGroup = "nginx";
    metrics.socketGroup = "prometheus";
  } [ "registry.socketGroup has no effect" "metrics.socketGroup has no effect" ])
  (case "IPv4 by the wildcard of IPv6" {
    inherit flake;
    listenAddresses = [ "::" ];
  } [
    "!refused"
    "ListenStream=[::]:6443\n"
    "!BindIPv6Only"
  ])
  (case "metrics" {
    inherit flake;
    listenAddresses = [ "0.0.0.0" ];
    metrics.enable = true;
  } [
    "!refused"
    "forge-registry-metrics.socket\n"
    "ListenStream=127.0.0.1:9643\n"
    "FileDescriptorName=metrics\n"
    "IPAddressAllow=localhost\n"
    "Service=forge-registry.service\n"
    "Requires=forge-registry.socket forge-registry-metrics.socket forge-fetcher.socket forge-evaluator.socket\n"
    "ports: []"
  ])
  (case "metrics for others" {
    inherit flake;
    listenAddresses = [ "0.0.0.0" ];
    metrics = {
      enable = true;
      listenAddress = "::";
      port = 9000;
    };
  } [
    "!refused"
    "ListenStream=[::]:9000\n"
    "!IPAddressAllow=localhost"
  ])
  (case "metrics where images are" {
    inherit flake;
    metrics = {
      enable = true;
      port = 6443;
    };
  } [ "metrics: images are served on 127.0.0.1:6443 already; give metrics.port" ])
  (case "metrics on all addresses of the port where images are on one" {
    inherit flake;
    metrics = {
      enable = true;
      listenAddress = "::";
      port = 6443;
    };
  } [ "metrics: images are served on 127.0.0.1:6443 already; give metrics.port" ])
  (case "metrics on one address of the port where images are on all" {
    inherit flake;
    listenAddresses = [ "0.0.0.0" ];
    metrics = {
      enable = true;
      port = 6443;
    };
  } [ "metrics: images are served on 0.0.0.0:6443 already; give metrics.port" ])
  (case "metrics on the Unix socket where images are" {
    inherit flake;
    listenAddresses = [ "/run/forge.sock" ];
    metrics = {
      enable = true;
      listenAddress = "/run/forge.sock";
    };
  } [ "metrics: images are served on /run/forge.sock already" ])
  (case "options that are settings" {
    inherit flake;
    systems = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    limits = {
      builds = 8;
      buildTime = "1h";
      evaluations = 20;
      imageSize = "8GiB";
      readingMemory = "256MiB";
      readingTime = "1h";
    };
    retention.days = 30;
    cache.blobs = "50GiB";
    settings = {
      LOG_FORMAT = "json";
      IMPLICIT_IMAGES = false;
      TAG_TTL = 5;
      POPULARITY = "/srv/data/popularity.json";
      FAILURE_TTL = null;
    };
    environmentFile = "/run/secrets/registry";
  } [
    "!refused"
    "\"SYSTEMS=x86_64-linux,aarch64-linux\"\n"
    "\"MAX_BUILDS=8\"\n"
    "\"NIX_BUILD_TIMEOUT=1h\"\n"
    "\"MAX_IMAGE_BYTES=8GiB\"\n"
    "\"MAX_READING_MEMORY=256MiB\"\n"
    "\"MAX_READING_TIME=1h\"\n"
    "MemoryHigh=5120M\n"
    "MemoryMax=6144M\n"
    "\"RETENTION_DAYS=30\"\n"
    "\"CACHE_MAX_BYTES=50GiB\"\n"
    "\"LOG_FORMAT=json\"\n"
    "\"IMPLICIT_IMAGES=0\"\n"
    "\"TAG_TTL=5\"\n"
    "BindReadOnlyPaths=/srv/data\n"
    "EnvironmentFile=/run/secrets/registry\n"
    "MaxConnections=36\n"
    "!FAILURE_TTL"
  ])
  (case "the evaluator's options" {
    inherit flake;
    evaluator = {
      memoryMax = "12G";
      memoryHigh = "10G";
      cpuQuota = "50%";
      timeLimit = "10m";
      acceptFlakeConfig = true;
      accessTokensFile = "/run/secrets/tokens";
      allowedUris = [ "https://intranet.example" ];
      allowedInputs = [ "http://inputs.example" ];
      deniedAddresses = [ "10.0.0.0/8" ];
      importFromDerivation = false;
      nixPath = [ "nixpkgs=/etc/nixpkgs" ];
    };
    revisions = "none";
    packageSet = "path:/srv/set?dir=x";
  } [
    "!refused"
    "--option allowed-uris 'forge-registry: https://intranet.example' --option access-tokens '' --option allow-import-from-derivation false eval "
    "--option allowed-uris 'forge-registry: path: file: git+file: tarball+file: http://inputs.example' eval "
    "IPAddressDeny=10.0.0.0/8\n"
    "\"http_proxy=http://127.0.0.1:9\"\n"
    "!IPAddressDeny=link-local"
    "\"NIX_PATH=nixpkgs=/etc/nixpkgs\"\n"
    "BindReadOnlyPaths=-/etc/nixpkgs\n"
    "BindReadOnlyPaths=-/srv/set\n"
    "\"REVISIONS=none\"\n"
    "MemoryMax=12G\n"
    "MemoryHigh=10G\n"
    "CPUQuota=50%\n"
    "RuntimeMaxSec=10m\n"
    "\"EVALUATION_TIMEOUT=10m\"\n"
    "\"ACCEPT_FLAKE_CONFIG=1\"\n"
    "LoadCredential=access-tokens:/run/secrets/tokens\n"
    "\"NIX_USER_CONF_FILES=%d/access-tokens\"\n"
    "\"extra-trusted-users\":[\"forge-registry\"]"
  ])

  (case "access control" {
    inherit flake;
    auth = {
      htpasswdFile = "/run/secrets/htpasswd";
      tokensFile = "/run/secrets/tokens";
      rules = [
        {
          action = "allow";
          right = "build";
          user = "ci";
          name = "shop/*";
        }
        {
          action = "deny";
          right = "read";
          user = "*";
          name = "*";
        }
      ];
      realm = "images of example.org";
    };
    trustedProxies = [
      "127.0.0.1"
      "unix"
    ];
    limits.clientBuilds = 0;
    limits.clientUnknown = 30;
    limits.revisions = 4000;
  } [
    "!refused"
    "\"AUTH_HTPASSWD=%d/htpasswd\"\n"
    "\"AUTH_TOKENS=%d/tokens\"\n"
    "\"AUTH_RULES=/nix/store/forge-registry-rules:allow build ci shop/*;deny read * *;\"\n"
    "\"AUTH_REALM=images of example.org\"\n"
    "\"TRUSTED_PROXIES=127.0.0.1,unix\"\n"
    "\"MAX_CLIENT_BUILDS=0\"\n"
    "\"MAX_CLIENT_UNKNOWN=30\"\n"
    "\"MAX_REVISIONS=4000\"\n"
    "LoadCredential=htpasswd:/run/secrets/htpasswd\nLoadCredential=tokens:/run/secrets/tokens\n"
  ])
  (case "users in a file that a group may read" {
    inherit flake;
    auth = {
      htpasswdFile = "/var/lib/secrets/htpasswd";
      group = "registry-users";
    };
  } [
    "!refused"
    "\"AUTH_HTPASSWD=/var/lib/secrets/htpasswd\"\n"
    "SupplementaryGroups=registry-users\n"
    "BindReadOnlyPaths=/var/lib/secrets\n"
    "!LoadCredential"
  ])
  (case "files that have no folder of their own" {
    inherit flake;
    auth = {
      htpasswdFile = "/htpasswd";
      group = "registry-users";
    };
  } [ "the folder of /htpasswd, which would be all of the host's files" ])
  (case "a group that may read nothing" {
    inherit flake;
    auth.group = "registry-users";
  } [ "auth.group has no effect" ])
  (case "a rule that is none" {
    inherit flake;
    auth.rules = [
      {
        action = "permit";
        right = "read";
        user = "*";
        name = "*";
      }
    ];
  } [ "is not of its type" ])
  (case "a realm with nothing to log in with" {
    inherit flake;
    auth.realm = "x";
  } [ "auth.realm has no effect" ])

  (case "nothing to serve" { } [ "refused: services.forge-registry: there is nothing to serve; set flake, packageSet or images" ])
  (case "a package set" { packageSet = "github:NixOS/nixpkgs/nixos-unstable"; } [
    "!refused"
    "Environment=\"PACKAGE_SET=github:NixOS/nixpkgs/nixos-unstable\"\n"
    "forge-evaluator.socket"
  ])
  (case "a flake without an evaluator" {
    inherit flake;
    evaluator.enable = false;
  } [ "leave evaluator.enable alone" ])
  (case "settings that do not exist" {
    inherit flake;
    settings.TAG_TTTL = "5m";
  } [ "does not know TAG_TTTL" ])
  (case "settings that the units depend on" {
    inherit flake;
    settings.LISTEN = "0.0.0.0:80";
  } [ "LISTEN cannot be changed" "use listenAddresses and port" ])
  (case "settings that have an option" {
    images.web = image;
    settings = {
      PACKAGE_SET = "nixpkgs";
      TLS_KEY = "/etc/tls/k.pem";
    };
  } [ "PACKAGE_SET, TLS_KEY cannot be set here" "set the option packageSet, tls.key instead" ])
  (case "a setting twice" {
    inherit flake;
    limits.builds = 8;
    settings.MAX_BUILDS = 9;
  } [ "MAX_BUILDS is set by an option of its own as well; remove one of both" ])
  (case "a name that no client takes" { images.Web = image; } [ "images: Web is no name that clients take" ])
  (case "an open firewall before nobody" {
    inherit flake;
    openFirewall = true;
  } [ "openFirewall has no effect" ])
  (case "accepting the configuration of no flake" {
    images.web = image;
    evaluator.acceptFlakeConfig = true;
  } [ "acceptFlakeConfig has no effect without a flake" ])
  (case "files of the host for the code of flakes" {
    inherit flake;
    evaluator.allowedUris = [
      "https:"
      "git+file:"
      "path:/srv"
      "/srv"
    ];
    evaluator.experimentalFeatures = [
      "nix-command"
      "flakes"
    ];
  } [ "allowedUris, allowedInputs: git+file:, path:/srv, /srv would let the authors" "experimentalFeatures: with flakes, the code" ])
  (case "secrets in the store" {
    inherit flake;
    environmentFile = "${builtins.storeDir}/secret";
    evaluator.accessTokensFile = "${builtins.storeDir}/secret";
    auth.htpasswdFile = "${builtins.storeDir}/secret";
  } [ "htpasswdFile or tokensFile is in the Nix store" "environmentFile is in the Nix store" "accessTokensFile is in the Nix store" ])

  (case "a certificate and a key that only root can read" {
    inherit flake;
    tls = {
      certificate = "/etc/tls/c.pem";
      key = "/etc/tls/k.pem";
      clientCa = "/etc/tls/ca.pem";
      listenAddresses = [ "0.0.0.0" ];
    };
    openFirewall = true;
  } [
    "!refused"
    "forge-registry-https.socket\n"
    "ListenStream=0.0.0.0:6444\nFileDescriptorName=https\n"
    "Service=forge-registry.service\n"
    "LoadCredential=tls-certificate:/etc/tls/c.pem\nLoadCredential=tls-key:/etc/tls/k.pem\nLoadCredential=tls-client-ca:/etc/tls/ca.pem\n"
    "Environment=\"TLS_KEY=%d/tls-key\"\n"
    "Environment=\"TLS_CLIENT_AUTH=required\"\n"
    "Requires=forge-registry.socket forge-registry-https.socket forge-fetcher.socket forge-evaluator.socket\n"
    "ports: [6444]"
    "!BindReadOnlyPaths=/etc/tls"
  ])
  (case "a certificate and a key for a group" {
    inherit flake;
    tls = {
      certificate = "/etc/tls/c.pem";
      key = "/etc/tls/k.pem";
      group = "tls";
    };
  } [
    "!refused"
    "ListenStream=127.0.0.1:6444\n"
    "Environment=\"TLS_KEY=/etc/tls/k.pem\"\n"
    "BindReadOnlyPaths=/etc/tls\n"
    "SupplementaryGroups=tls\n"
    "!LoadCredential"
  ])
  (case "a certificate of security.acme" {
    inherit flake;
    tls.acmeHost = "registry.example";
  } [
    "!refused"
    "Environment=\"TLS_CERTIFICATE=/var/lib/acme/registry.example/fullchain.pem\"\n"
    "BindReadOnlyPaths=/var/lib/acme/registry.example\n"
    "SupplementaryGroups=acme\n"
    "Wants=nix-daemon.socket acme-registry.example.service\n"
    "acme: {\"registry.example\":[\"forge-registry.service\"]}"
    "!LoadCredential"
  ])
  (case "a certificate without a key" { inherit flake; tls.certificate = "/c"; } [ "certificate and key go together" ])
  (case "two certificates" {
    inherit flake;
    tls = {
      acmeHost = "registry.example";
      certificate = "/c";
      key = "/k";
    };
  } [ "tls: acmeHost has a certificate, a key and a group already" ])
  (case "clients' certificates without HTTPS" { inherit flake; tls.clientCa = "/ca"; } [
    "tls.clientCa has no effect without a certificate"
  ])
  (case "one port for both" {
    inherit flake;
    tls = {
      acmeHost = "registry.example";
      port = 6443;
    };
  } [ "tls.port is the port of plain HTTP on the same address, 127.0.0.1:6443;" ])
  (case "HTTPS on all addresses of a port that plain HTTP has one of" {
    inherit flake;
    tls = {
      acmeHost = "registry.example";
      port = 6443;
      listenAddresses = [ "0.0.0.0" ];
    };
  } [ "tls.port is the port of plain HTTP on the same address, 127.0.0.1:6443;" ])
  (case "metrics where HTTPS is" {
    inherit flake;
    tls.acmeHost = "registry.example";
    metrics = {
      enable = true;
      port = 6444;
    };
  } [ "metrics: images are served on 127.0.0.1:6444 already, by HTTPS; give metrics.port or tls.port" ])
  (case "one port and other addresses" {
    inherit flake;
    listenAddresses = [
      "192.0.2.1"
      "/run/forge.sock"
    ];
    tls = {
      acmeHost = "registry.example";
      port = 6443;
      listenAddresses = [ "192.0.2.2" ];
    };
    metrics = {
      enable = true;
      port = 6443;
    };
  } [
    "!refused"
    "ListenStream=192.0.2.2:6443\n"
  ])
  (case "HTTPS beside Unix sockets alone" {
    inherit flake;
    listenAddresses = [ "/run/forge.sock" ];
    tls.acmeHost = "registry.example";
  } [ "tls.listenAddresses: there is no address to serve HTTPS on" ])
  (case "a key in the store" {
    inherit flake;
    tls = {
      certificate = "/c";
      key = "${builtins.storeDir}/key";
    };
  } [ "tls.key is in the Nix store" ])

  (case "a port that is text" { inherit flake; port = "6443"; } [ "is not of its type" ])
  (case "a size that is none" { inherit flake; cache.blobs = "much"; } [ "is not of its type" ])
  (case "no address" { inherit flake; listenAddresses = [ ]; } [ "is not of its type" ])
  (case "a system that is none" { inherit flake; systems = [ "linux" ]; } [ "is not of its type" ])
  (case "an option that does not exist" { inherit flake; flakes = "x"; } [ "is not of its type" ])
]
