# What contradicts itself in the options, each with what to change.
{
  lib,
  authFiles,
  cfg,
  evaluates,
  filesOfHost,
  fromOptions,
  isLocal,
  isUnixSocket,
  known,
  stream,
  tls,
  usesTls,
}:
let
  inherit (lib)
    any
    attrNames
    concatStringsSep
    elem
    filter
    hasPrefix
    intersectLists
    ;
  prefix = "services.forge-registry";
  unknown = filter (name: !(known ? ${name})) (attrNames cfg.settings);
  twice = intersectLists (attrNames fromOptions) (attrNames cfg.settings);
  fixed = filter (name: cfg.settings ? ${name}) [
    "ADMIN_SOCKET"
    "EVALUATOR_SOCKET"
    "FETCHER_SOCKET"
    "LISTEN"
    "METRICS_LISTEN"
    "NIX_STORE_DIR"
    "STATE_DIR"
    "TLS_LISTEN"
  ];
  # Units and what is in them follow from these options.
  byOption = lib.filterAttrs (name: _: cfg.settings.${name} or null != null) {
    FLAKE = "flake";
    PACKAGE_SET = "packageSet";
    TLS_CERTIFICATE = "tls.certificate";
    TLS_CLIENT_AUTH = "tls.clientAuth";
    TLS_CLIENT_CA = "tls.clientCa";
    TLS_KEY = "tls.key";
  };
  component = "[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*";
  badNames = filter (name: builtins.match "${component}(/${component})*" name == null) (
    attrNames cfg.images
  );
  atTop = filter (file: dirOf file == "/") filesOfHost;
  ofHost = filter (
    uri:
    hasPrefix "/" uri || builtins.match "(.*[+])?(path|file)(:.*)?" uri != null || builtins.match "flake(:.*)?" uri != null
  ) (cfg.evaluator.allowedUris ++ cfg.evaluator.allowedInputs);
  inStore = path: path != null && hasPrefix builtins.storeDir (toString path);
  quoted = names: concatStringsSep ", " names;
  # The addresses of a listener that another one would take from it.
  isWildcard = address: address == "0.0.0.0" || address == "::";
  shared =
    a: b:
    let
      takes =
        x: y:
        if isUnixSocket x || isUnixSocket y then
          x == y
        else
          a.port == b.port && (x == y || isWildcard x || isWildcard y);
    in
    filter (x: any (takes x) b.addresses) a.addresses;
  streams = a: b: quoted (map (stream a.port) (shared a b));
  http = {
    inherit (cfg) port;
    addresses = cfg.listenAddresses;
  };
  https = {
    inherit (tls) port;
    addresses = lib.optionals usesTls (filter (address: !isUnixSocket address) tls.listenAddresses);
  };
  metrics = {
    inherit (cfg.metrics) port;
    addresses = lib.optionals cfg.metrics.enable [ cfg.metrics.listenAddress ];
  };
in
[
  {
    assertion =
      cfg.flake != null || cfg.packageSet != null || cfg.images != { } || cfg.settings.CATALOG or null != null || cfg.environmentFile != null;
    message = "${prefix}: there is nothing to serve; set flake, packageSet or images";
  }
  {
    assertion = cfg.flake != null || cfg.packageSet != null -> evaluates;
    message = "${prefix}.flake and packageSet cannot be served without the evaluator; leave evaluator.enable alone, or serve images instead";
  }
  {
    assertion = unknown == [ ];
    message = "${prefix}.settings: the registry does not know ${quoted unknown}; `forge-registry --help` lists what it knows";
  }
  {
    assertion = fixed == [ ];
    message = "${prefix}.settings: ${quoted fixed} cannot be changed, since the units depend on it; use listenAddresses and port to listen elsewhere, and metrics.listenAddress and metrics.port";
  }
  {
    assertion = byOption == { };
    message = "${prefix}.settings: ${quoted (attrNames byOption)} cannot be set here, since the units depend on it; set the option ${quoted (lib.attrValues byOption)} instead";
  }
  {
    assertion = twice == [ ];
    message = "${prefix}.settings: ${quoted twice} is set by an option of its own as well; remove one of both";
  }
  {
    assertion = atTop == [ ];
    message = "${prefix}: the registry gets to see the folder of ${quoted atTop}, which would be all of the host's files; put it into a folder of its own";
  }
  {
    assertion = badNames == [ ];
    message = "${prefix}.images: ${quoted badNames} is no name that clients take; use lower case letters, digits, and single . _ - or / between them";
  }
  {
    assertion = cfg.openFirewall -> any (address: !isLocal address) (cfg.listenAddresses ++ lib.optionals usesTls tls.listenAddresses);
    message = "${prefix}.openFirewall has no effect, since nothing listens on an address that others reach; add for instance \"0.0.0.0\" and \"::\" to listenAddresses, or turn it off";
  }
  {
    assertion = cfg.socketGroup != null -> any isUnixSocket cfg.listenAddresses;
    message = "${prefix}.socketGroup has no effect, since there is no Unix socket in listenAddresses; add the path of one, or remove it";
  }
  {
    assertion = cfg.metrics.socketGroup != null -> cfg.metrics.enable && isUnixSocket cfg.metrics.listenAddress;
    message = "${prefix}.metrics.socketGroup has no effect, since metrics are not served on a Unix socket; set metrics.listenAddress to the path of one, or remove it";
  }
  {
    assertion = shared http metrics == [ ];
    message = "${prefix}.metrics: images are served on ${streams http metrics} already; give metrics.port or metrics.listenAddress another value";
  }
  {
    assertion = shared https metrics == [ ];
    message = "${prefix}.metrics: images are served on ${streams https metrics} already, by HTTPS; give metrics.port or tls.port another value";
  }
  {
    assertion = cfg.evaluator.acceptFlakeConfig -> cfg.flake != null;
    message = "${prefix}.evaluator.acceptFlakeConfig has no effect without a flake; set flake, or turn it off";
  }
  {
    assertion = (tls.certificate == null) == (tls.key == null);
    message = "${prefix}.tls: certificate and key go together; set both, or acmeHost instead of them";
  }
  {
    assertion = tls.acmeHost != null -> tls.certificate == null && tls.key == null && tls.group == null;
    message = "${prefix}.tls: acmeHost has a certificate, a key and a group already; remove certificate, key and group, or acmeHost";
  }
  {
    assertion = tls.clientCa != null -> usesTls;
    message = "${prefix}.tls.clientCa has no effect without a certificate; set acmeHost, or certificate and key";
  }
  {
    assertion = usesTls -> tls.listenAddresses != [ ];
    message = "${prefix}.tls.listenAddresses: there is no address to serve HTTPS on, since listenAddresses has none but Unix sockets; set it, for instance to [ \"127.0.0.1\" ]";
  }
  {
    assertion = usesTls -> !any isUnixSocket tls.listenAddresses;
    message = "${prefix}.tls.listenAddresses: HTTPS is not served on Unix sockets; list these in listenAddresses";
  }
  {
    assertion = shared http https == [ ];
    message = "${prefix}.tls.port is the port of plain HTTP on the same address, ${streams http https}; choose another one";
  }
  {
    assertion = !inStore tls.key;
    message = "${prefix}.tls.key is in the Nix store, where everybody can read it; give the path of a file elsewhere, as a string";
  }
  {
    assertion = !inStore cfg.environmentFile;
    message = "${prefix}.environmentFile is in the Nix store, where everybody can read it; give the path of a file elsewhere, as a string";
  }
  {
    assertion = !inStore cfg.auth.htpasswdFile && !inStore cfg.auth.tokensFile;
    message = "${prefix}.auth: htpasswdFile or tokensFile is in the Nix store, where everybody can read it; give the path of a file elsewhere, as a string";
  }
  {
    assertion = cfg.auth.group != null -> authFiles != [ ];
    message = "${prefix}.auth.group has no effect, since there is nothing for it to read; set auth.htpasswdFile or auth.tokensFile, or remove it";
  }
  {
    assertion = cfg.auth.realm != null -> cfg.auth.htpasswdFile != null || cfg.auth.tokensFile != null;
    message = "${prefix}.auth.realm has no effect, since there is nothing to log in with; set auth.htpasswdFile or auth.tokensFile, or remove it";
  }
  {
    assertion = ofHost == [ ];
    message = "${prefix}.evaluator.allowedUris, allowedInputs: ${quoted ofHost} would let the authors of flakes read files of this host; name folders in evaluator.nixPath instead";
  }
  {
    assertion = !elem "flakes" cfg.evaluator.experimentalFeatures;
    message = "${prefix}.evaluator.experimentalFeatures: with flakes, the code of a flake could fetch whatever it likes from this host; remove it, the registry evaluates flakes without it";
  }
  {
    assertion = !inStore cfg.evaluator.accessTokensFile;
    message = "${prefix}.evaluator.accessTokensFile is in the Nix store, where everybody can read it; give the path of a file elsewhere, as a string";
  }
]
