# The options of NixOS that module.nix sets, and how NixOS writes units (nixos/lib/systemd-lib.nix).
lib:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  toList = x: if builtins.isList x then x else [ x ];

  # A setting of a unit: several lists are one, several of anything else must be equal.
  unitOption = types.unspecified // {
    description = "systemd option";
    merge =
      path: values:
      if lib.any builtins.isList values then lib.concatMap toList values else types.str.merge path values;
  };
  section = option (types.attrsOf unitOption) { };
  common = {
    description = option types.str "";
    documentation = option (types.listOf types.str) [ ];
    requires = option (types.listOf types.str) [ ];
    wants = option (types.listOf types.str) [ ];
    after = option (types.listOf types.str) [ ];
    wantedBy = option (types.listOf types.str) [ ];
    unitConfig = section;
  };
  service = types.submodule {
    options = common // {
      environment = option (types.attrsOf types.str) { };
      path = option (types.listOf types.package) [ ];
      stopIfChanged = option types.bool true;
      serviceConfig = section;
    };
  };
  socket = types.submodule {
    options = common // {
      listenStreams = option (types.listOf types.str) [ ];
      socketConfig = section;
    };
  };

  value =
    x:
    if x == true then
      "true"
    else if x == false then
      "false"
    else
      toString x;
  lines =
    settings:
    lib.concatMapStrings (name: lib.concatMapStrings (x: "${name}=${value x}\n") (toList settings.${name})) (
      lib.attrNames settings
    );
  unit =
    u:
    let
      words = lib.filterAttrs (_: text: text != "") {
        Description = u.description;
        Documentation = toString u.documentation;
        Requires = toString u.requires;
        Wants = toString u.wants;
        After = toString u.after;
      };
    in
    "[Unit]\n" + lines (words // u.unitConfig);
  # NixOS makes these links itself; elsewhere `systemctl enable` does.
  install = u: lib.optionalString (u.wantedBy != [ ]) "\n[Install]\nWantedBy=${toString u.wantedBy}\n";
  environment =
    s:
    let
      all = s.environment // lib.optionalAttrs (s.path != [ ]) { PATH = lib.makeBinPath s.path; };
    in
    lib.concatMapStrings (name: "Environment=${builtins.toJSON "${name}=${all.${name}}"}\n") (lib.attrNames all);
in
{
  options = {
    assertions = option (types.listOf types.unspecified) [ ];
    environment.systemPackages = option (types.listOf types.package) [ ];
    networking.firewall.allowedTCPPorts = option (types.listOf types.port) [ ];
    nix.package = option types.package null;
    nix.settings = option (types.attrsOf types.unspecified) { };
    users.groups = option (types.attrsOf (types.submodule { options.gid = option (types.nullOr types.int) null; })) { };
    security.acme.certs = option (types.attrsOf (
      types.submodule {
        options = {
          directory = option types.str "/var/lib/acme/registry.example";
          group = option types.str "acme";
          reloadServices = option (types.listOf types.str) [ ];
        };
      }
    )) { };
    systemd.services = option (types.attrsOf service) { };
    systemd.sockets = option (types.attrsOf socket) { };
  };

  # File name → text of every unit of a configuration.
  units =
    config:
    lib.mapAttrs' (name: s: lib.nameValuePair "${name}.service" (unit s + "\n[Service]\n" + environment s + lines s.serviceConfig + install s)) config.systemd.services
    // lib.mapAttrs' (
      name: s:
      lib.nameValuePair "${name}.socket" (
        unit s + "\n[Socket]\n" + lib.concatMapStrings (address: "ListenStream=${address}\n") s.listenStreams + lines s.socketConfig + install s
      )
    ) config.systemd.sockets;
}
