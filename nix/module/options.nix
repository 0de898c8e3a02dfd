# The options of module.nix. docs/module-options.md is made of them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    literalExpression
    mkEnableOption
    mkOption
    types
    ;
  cfg = config.services.forge-registry;
  known = import ./settings.nix lib;

  # Images that are read at a time.
  readings = if cfg.limits.builds == null then builtins.fromJSON known.MAX_BUILDS else cfg.limits.builds;

  size = types.either types.ints.positive (types.strMatching "[0-9]+ ?([KMGT]i?)?B?");
  duration = types.either types.ints.positive (types.strMatching "[0-9]+[smhd]?");
  limit =
    name: type: example: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit example;
      description =
        if known.${name} == "" then
          "${description} (`${name}`)"
        else
          "${description} The registry's own default is `${known.${name}}` (`${name}`).";
    };
in
{
  imports = [ ./access.nix ];

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
        sockets. `"::"` takes IPv4 as well, unless there is an IPv4 address beside it. systemd listens, so clients wait
        and are not refused while the registry restarts.
      '';
    };

    port = mkOption {
      type = types.port;
      default = 6443;
      description = "The TCP port to listen on.";
    };

    socketGroup = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "nginx";
      description = "The group that may use the Unix sockets of {option}`services.forge-registry.listenAddresses`. Without one, only root may.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to open {option}`services.forge-registry.port` in the firewall, and the port for HTTPS, wherever they are listened on for others.";
    };

    flake = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "github:owner/repo";
      description = ''
        The flake whose images are served, as a reference without an attribute. A service of its own fetches it, which
        sees nothing of the host except a local flake's folder. All inputs have to be pinned by its
        {file}`flake.lock`. Without a flake and a package set, only {option}`services.forge-registry.images` are served,
        and neither this service nor the evaluator runs.
      '';
    };

    packageSet = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "github:NixOS/nixpkgs/nixos-unstable";
      description = ''
        A package set, of which names such as `git/htop` or `shell/git` are images: a flake reference, or `path:` and a
        folder with a {file}`default.nix` that is a function of the system. `"''${pkgs.path}"` is this system's nixpkgs.
        A folder outside of the store is copied into it at each refresh; name a large one in
        {option}`services.forge-registry.evaluator.nixPath` and set this to `<name>`.
      '';
    };

    revisions = mkOption {
      type = types.enum [
        "none"
        "refs"
        "commits"
      ];
      default = "refs";
      description = ''
        Which revisions of the flake and the package set clients may choose by a tag: `none`; `refs`, branches and tags,
        and commits that this registry has reached by one of them; or `commits`, any commit that the source's server hands
        out. A forge also hands out those of forks and pull requests, so with `commits` everybody who may have images built
        can have code of his own evaluated.
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

    trustedProxies = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [
        "127.0.0.1"
        "unix"
      ];
      description = ''
        Addresses and networks, and `unix` for Unix sockets, whose `X-Forwarded-For` says where a request comes from.
        Of Unix sockets, that is everybody in {option}`services.forge-registry.socketGroup`.
      '';
    };

    limits = {
      builds =
        limit "MAX_BUILDS" types.ints.positive 8
          "Images that are built at a time. One place is kept for others while one client has all the rest.";
      queuedBuilds = limit "MAX_QUEUED_BUILDS" types.ints.unsigned 16 "Builds that wait for their turn.";
      buildTime = limit "NIX_BUILD_TIMEOUT" duration "1h" "How long one derivation may build.";
      evaluations = limit "MAX_EVALUATIONS" types.ints.positive 8
          "Evaluations at a time. By default as many as there are processors, and at least 2.";
      queuedEvaluations =
        limit "MAX_QUEUED_EVALUATIONS" types.ints.unsigned 64
          "Evaluations that wait for their turn.";
      connections = limit "MAX_CONNECTIONS" types.ints.positive 4096 "Connections of clients at a time.";
      clientBuilds =
        limit "MAX_CLIENT_BUILDS" types.ints.unsigned 64
          "Builds that one user, or one address without a user, may have running or waiting; 0 is no limit, since clients take turns.";
      clientEvaluations =
        limit "MAX_CLIENT_EVALUATIONS" types.ints.unsigned 256
          "Evaluations that one user, or one address without a user, may have running or waiting; 0 is no limit.";
      clientUnknown =
        limit "MAX_CLIENT_UNKNOWN" types.ints.unsigned 30
          "Evaluations a minute that one user, or one address without a user, may cause and that lead to no image; 0 is no limit.";
      revisions = mkOption {
        type = types.nullOr types.ints.unsigned;
        default = null;
        example = 4000;
        description = ''
          Tags an hour that are looked up as revisions of the flake and the package set, half of them for one client; 0 is
          no limit. The registry's own default is 50 for `github:` and the like, which GitHub answers without an access
          token, and 1000 for other Git repositories of other hosts (`MAX_REVISIONS`).
        '';
      };
      clientConnections =
        limit "MAX_CLIENT_CONNECTIONS" types.ints.unsigned 64
          "Connections of one address at a time. The default is half of all.";
      imageSize = limit "MAX_IMAGE_BYTES" size "8GiB" "Size of an image's archive once decompressed.";
      readingMemory =
        limit "MAX_READING_MEMORY" size "256MiB"
          "Memory for reading one image; as many images are read at a time as may be built.";
      readingTime = limit "MAX_READING_TIME" duration "1h" "How long it may take to read one image.";
    };

    memoryMax = mkOption {
      type = types.str;
      default = "${toString (2048 + 512 * readings)}M";
      defaultText = literalExpression ''"''${toString (2048 + 512 * limits.builds)}M"'';
      example = "24G";
      description = ''
        Memory that the registry may use, cached pages of the store included ({manpage}`systemd.resource-control(5)`,
        `MemoryMax=`). The default has room for the images that are read at a time, at 512 MiB each: more is needed with a
        larger {option}`services.forge-registry.limits.readingMemory`, and more is of use where more layers are pulled often
        than fit into it.
      '';
    };

    memoryHigh = mkOption {
      type = types.str;
      default = "${toString (1024 + 512 * readings)}M";
      defaultText = literalExpression ''"''${toString (1024 + 512 * limits.builds)}M"'';
      example = "20G";
      description = ''
        Memory from which on the registry's cached pages make room (`MemoryHigh=`). What it allocates itself stays below
        that by its own limits, so it is not slowed down.
      '';
    };

    retention = {
      days =
        limit "RETENTION_DAYS" types.ints.positive 30
          "Days after which an image that nobody asks for loses its GC root.";
      images = limit "CACHE_SIZE" types.ints.positive 200 "Images that are kept at most.";
    };

    metrics = {
      enable = mkEnableOption "metrics for Prometheus, on a socket of their own: /metrics, /healthz and /readyz";

      listenAddress = mkOption {
        type = types.str;
        default = "127.0.0.1";
        example = "/run/forge-registry-metrics.socket";
        description = ''
          The address to serve metrics on, IPv4 or IPv6, at {option}`services.forge-registry.metrics.port`; or the absolute
          path of a Unix socket. Nobody is asked for a password there.
        '';
      };

      socketGroup = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "prometheus";
        description = "The group that may use the Unix socket. Without one, only root may.";
      };

      port = mkOption {
        type = types.port;
        default = 9643;
        description = "The TCP port to serve metrics on. No option opens it in the firewall.";
      };
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
        default = cfg.flake != null || cfg.packageSet != null;
        defaultText = literalExpression "flake != null || packageSet != null";
        description = "Whether to run the evaluator. A flake needs it; images need none.";
      };

      package = mkOption {
        type = types.package;
        default = config.nix.package;
        defaultText = literalExpression "config.nix.package";
        description = "The Nix that evaluates.";
      };

      allowedUris = mkOption {
        type = types.listOf (types.strMatching "[^ ']+");
        default = [
          "https:"
          "tarball+https:"
          "file+https:"
          "git+https://bitbucket.org"
          "git+https://codeberg.org"
          "git+https://git.sr.ht"
          "git+https://github.com"
          "git+https://gitlab.com"
        ];
        description = ''
          What the code of flakes may fetch while it is evaluated: prefixes of URIs, as in `allowed-uris` of
          {manpage}`nix.conf(5)`. Files of the host are never allowed. Who runs a git server that is allowed can read files
          of the evaluator, the store among them, and reach hosts through it (by Git LFS): add those that you would trust
          with that.
        '';
      };

      allowedInputs = mkOption {
        type = types.listOf (types.strMatching "[^ ']+");
        default = [
          "github:"
          "gitlab:"
          "sourcehut:"
          "https:"
          "ssh:"
          "git+https:"
          "git+ssh:"
          "tarball+https:"
          "file+https:"
          "hg+https:"
        ];
        description = ''
          Where the inputs that a {file}`flake.lock` pins may come from: prefixes of URIs. They are fetched with the access
          tokens, so a lock file can name whatever these can read.
        '';
      };

      deniedAddresses = mkOption {
        type = types.listOf types.str;
        default = [
          "localhost"
          "link-local"
          "fd00:ec2::254"
          "fd20:ce::254"
          "100.100.100.200"
        ];
        example = [
          "localhost"
          "link-local"
          "10.0.0.0/8"
        ];
        description = ''
          Addresses and networks that neither sources nor their inputs are fetched from, nor evaluations reach
          ({manpage}`systemd.resource-control(5)`, `IPAddressDeny=`): by default this host, and where clouds hand out
          credentials. systemd-resolved (127.0.0.53) can be asked all the same. Leave out `localhost` where a source is
          served by this host itself. Builds are nix-daemon's, and are not subject to it.
        '';
      };

      nixPath = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "nixpkgs=/etc/nixpkgs" ];
        description = ''
          Folders of the host that evaluations may read, as `name=path`; code finds them as `<name>`.
        '';
      };

      importFromDerivation = mkOption {
        type = types.bool;
        default = true;
        description = ''
          Whether an evaluation may have something built to go on with. Such builds take place before the name means
          anything, so `limits.builds` does not count them; they end with the evaluation, after `timeLimit`.
        '';
      };

      experimentalFeatures = mkOption {
        type = types.listOf (types.strMatching "[a-z-]+");
        default = [
          "nix-command"
          "fetch-tree"
        ];
        description = ''
          Experimental features of Nix that the code of flakes may use. With `flakes` among them, that code could fetch any
          folder of the host that the evaluator sees.
        '';
      };

      memoryMax = mkOption {
        type = types.str;
        default = "4G";
        example = "12G";
        description = "Memory that one evaluation may use ({manpage}`systemd.resource-control(5)`, `MemoryMax=`).";
      };

      memoryHigh = mkOption {
        type = types.str;
        default = "infinity";
        example = "3G";
        description = ''
          Memory beyond which an evaluation is slowed down (`MemoryHigh=`). It has nothing to give back, so one that is
          slowed down mostly runs into its time limit, where `memoryMax` would have ended it at once.
        '';
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
          A file with a line like `access-tokens = github.com=ghp_…` for {file}`nix.conf`, with which private flakes and
          their locked inputs are fetched. It is read by systemd. Only the fetcher gets to see it; the registry and the
          evaluator do not. A {file}`flake.lock` can name all that these tokens can read: use one that reads the sources and
          their inputs, and nothing else.
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
}
