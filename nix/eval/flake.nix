# What the registry asks of a source. Compiled into the binary and sent to the evaluator, applied to one attribute set:
#
#   source   the source as the fetcher left it in the store: its `path`, `narHash`, `dir`, revision and so on; null for a
#            package set by the name of an entry of NIX_PATH, which is imported from where it is
#   inputs   the same of those inputs that have been fetched, by their names in flake.lock
#   flake    the source's reference, for messages; or the name of an entry of NIX_PATH
#   set      whether it is a package set, which need not be a flake
#   local    whether it is a folder of this host
#   systems  systems to look in, the preferred first
#   caches   whether to tell the binary caches of the flake's nixConfig
#   query    { list = { only; plain; }; }         what can be pulled: of all packages and applications, or only of these
#                                                 names; `plain`: with packages that are images of no kind
#            { names = true; }                    the names of all packages and applications; no value is looked at
#            { find = { attrs; package; }; }      the first of these attribute paths that exists; else, unless it is null,
#                                                 the package at this path, to make an image of
#            { look = [ string ]; }               nothing of this path, only why it throws
#            { packages = { wanted; extra; }; }   these packages of a package set, together with those of `extra` that it has
#
# A package set is a flake, or, as nixpkgs is without flakes, a folder with a default.nix that is a function of the system.
#
# The evaluator knows no flakes, so that no code of theirs can have further ones fetched (`getFlake`, and what a flake.nix
# declares without a lock): what flakes are is said here, as far as Nix's own lock file says it. An evaluation that needs an
# input that has not been fetched ends with `forge-registry-input:"NAME"`, and is repeated with it.
#
# Each path is looked up as `nix build` does: below packages.<system>, legacyPackages.<system>, and as it is. Its
# elements may contain dots: each is first tried descending at every dot, then with dots as part of a name.
{ source, inputs, flake, set, local, systems, caches, query }:
let
  # Found in the store by its hash, which is also what makes it readable for a restricted evaluation. There is no such URL:
  # should the tree be gone, the error names it, and it is fetched again.
  open = tree: builtins.removeAttrs tree [ "dir" "path" ] // {
    outPath = builtins.fetchTarball {
      name = "source";
      url = "forge-registry:/gone";
      sha256 = tree.narHash;
    };
  };
  below = path: dir: if dir == "" then path else "${path}/${dir}";

  tree = open source;
  root = below tree.outPath source.dir;

  lock =
    let
      file = root + "/flake.lock";
      read = builtins.fromJSON (builtins.readFile file);
    in
    if !builtins.pathExists file then { root = "root"; nodes.root = { }; }
    else if builtins.elem (read.version or null) [ 5 6 7 ] then read
    else throw "${flake} has a flake.lock of version ${toString (read.version or "?")}, and 5 to 7 are known";
  # An input is the name of a node, or a path of inputs from the root, which it follows.
  nodeOf = input: if builtins.isList input then builtins.foldl' step lock.root input else input;
  step = node: input: nodeOf lock.nodes.${node}.inputs.${input};

  declared = (import (root + "/flake.nix")).inputs or { };
  arguments = builtins.functionArgs (import (root + "/flake.nix")).outputs;
  unlocked = builtins.filter (name: name != "self" && !(lock.nodes.${lock.root}.inputs or { } ? ${name})) (
    builtins.attrNames (declared // builtins.intersectAttrs arguments (builtins.listToAttrs (
      map (name: { inherit name; value = null; }) (builtins.filter (name: !arguments.${name}) (builtins.attrNames arguments))
    )))
  );

  nodes = builtins.mapAttrs (name: node:
    let
      isRelative = node.locked.type or null == "path" && builtins.substring 0 1 node.locked.path != "/";
      parent = nodes.${nodeOf node.parent};
      sourceInfo =
        if name == lock.root then tree
        else if isRelative then parent.sourceInfo
        else if inputs ? ${name} then open inputs.${name}
        else abort "forge-registry-input:${builtins.toJSON name}";
      outPath =
        if name == lock.root then root
        else if isRelative then below (below parent.outPath node.locked.path) (node.locked.dir or "")
        else below sourceInfo.outPath (node.locked.dir or "");
      outputs = (import (outPath + "/flake.nix")).outputs (
        builtins.mapAttrs (_: input: nodes.${nodeOf input}.result) (node.inputs or { }) // { self = result; }
      );
      result = outputs // sourceInfo // {
        inherit outPath outputs sourceInfo;
        inputs = builtins.mapAttrs (_: input: nodes.${nodeOf input}.result) (node.inputs or { });
        _type = "flake";
      };
    in
    {
      inherit outPath sourceInfo;
      result = if node.flake or true then result else sourceInfo // { inherit outPath sourceInfo; };
    }
  ) lock.nodes;

  isFolder = set && builtins.pathExists (root + "/default.nix") && (local || !builtins.pathExists (root + "/flake.nix"));
  folder =
    if source == null then builtins.findFile builtins.nixPath flake
    else if isFolder then root
    else null;
  outputs =
    if folder != null then
      { legacyPackages = builtins.listToAttrs (map (system: { name = system; value = imported system; }) systems); }
    else nodes.${lock.root}.result;
  # Why it cannot be evaluated at all. No part of it is to be tried, then, that may hide this.
  problem =
    if folder != null then null
    else if !builtins.pathExists (root + "/flake.nix") then
      "there is no flake.nix${if set then " or default.nix" else ""} in ${flake}"
    else if declared ? self then
      "${flake} has settings for the input self, which are not known here: state them in the reference, as in ?submodules=1"
    else if unlocked != [ ] then
      "${flake} has the input ${builtins.head unlocked}, which its flake.lock does not pin: run `nix flake lock`, and commit the file"
    else null;
  imported = system:
    let packages = import folder; in
    if builtins.isFunction packages
    then packages (builtins.intersectAttrs (builtins.functionArgs packages) { inherit system; })
    else packages;

  nixConfig =
    let
      config = (import (root + "/flake.nix")).nixConfig or { };
      words = value: if builtins.isList value then value else builtins.filter builtins.isString (builtins.split " +" value);
      both = name: words (config.${name} or [ ]) ++ words (config."extra-${name}" or [ ]);
    in
    { substituters = both "substituters"; publicKeys = both "trusted-public-keys"; };

  roots =
    builtins.concatMap (system: [
      { inherit system; path = [ "packages" system ]; }
      { inherit system; path = [ "legacyPackages" system ]; }
    ]) systems
    ++ [ { system = null; path = [ ]; } ];

  # What is there to look in. A set that throws hides nothing that is elsewhere.
  sets = map (root:
    let
      found = descend false outputs root.path;
      tried = builtins.tryEval (if found == [ ] then found else builtins.seq (builtins.head found) found);
    in
    root // { set = if tried.success then tried.value else [ ]; broken = !tried.success; }
  ) roots;
  broken = map (root: root.path) (builtins.filter (root: root.broken) sets);

  join = builtins.concatStringsSep ".";
  take = n: list: builtins.genList (builtins.elemAt list) n;
  drop = n: list: builtins.genList (i: builtins.elemAt list (i + n)) (builtins.length list - n);
  split = text: builtins.filter builtins.isString (builtins.split "\\." text);

  # Clients refuse upper case in names: where nothing has a name as it is written, the one attribute that only differs
  # in case is meant.
  letters = builtins.filter (c: c != "" && builtins.isString c) (builtins.split "" "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
  small = builtins.filter (c: c != "" && builtins.isString c) (builtins.split "" "abcdefghijklmnopqrstuvwxyz");
  lower = builtins.replaceStrings letters small;
  named = anyCase: set: key:
    if set ? ${key} then [ key ]
    else if !anyCase then [ ]
    else
      let same = builtins.filter (name: lower name == key) (builtins.attrNames set); in
      if builtins.length same == 1 then same else [ ];

  # [ ] or [ value ]: `parts` descended from `value`, where neighbours may be one name that contains dots.
  descend = anyCase: value: parts:
    if parts == [ ] then [ value ]
    else if !builtins.isAttrs value then [ ]
    else
      let
        from = n:
          let key = join (take n parts); in
          if n > builtins.length parts then [ ]
          else
            let
              name = named anyCase value key;
              found = if name == [ ] then [ ] else descend anyCase value.${builtins.head name} (drop n parts);
            in
            if found != [ ] then found else from (n + 1);
      in
      from 1;

  find = path:
    let
      parts = builtins.concatMap split path;
      try = anyCase: sets:
        if sets == [ ] then [ ]
        else
          let
            root = builtins.head sets;
            found = if root.set == [ ] then [ ] else descend anyCase (builtins.head root.set) parts;
          in
          if found == [ ] then try anyCase (builtins.tail sets)
          else [ { inherit (root) system; value = builtins.head found; attr = join (root.path ++ parts); } ];
      exact = try false sets;
    in
    if exact != [ ] then exact else try true sets;

  string = value: if builtins.isString value && value != "" then value else null;
  attempt = value: let r = builtins.tryEval value; in if r.success then r.value else null;

  describe = candidate: { system, value, attr }:
    if value.type or null == "derivation" then {
      found = {
        inherit candidate attr system;
        derivation = builtins.unsafeDiscardStringContext value.drvPath;
        output = value.outputName or "out";
        path = builtins.unsafeDiscardStringContext (attempt value.outPath);
        tags = builtins.filter (t: t != null) (map attempt [
          (string (value.imageTag or null))
          (string (value.version or null))
          (string (value.passthru.version or null))
        ]);
      };
    }
    else { notADerivation = { inherit attr; type = builtins.typeOf value; }; };

  # A package that is to become an image: the output that people run, and how it is to run. The configuration is text in
  # JSON; what it mentions of the store has to be built as well.
  packaged = found:
    let
      package = found.value;
      hasBin = builtins.elem "bin" (package.outputs or [ ]) && !(package.outputSpecified or false);
      config = package.imageConfig or package.passthru.imageConfig or null;
      text = builtins.toJSON config;
      mainProgram = package.meta.mainProgram or null;
    in
    builtins.mapAttrs (_: described: described // {
      package = {
        system = package.system;
        mainProgram =
          if mainProgram == null || builtins.isString mainProgram then mainProgram
          else throw "${found.attr}.meta.mainProgram is of type ${builtins.typeOf mainProgram}, not a string";
        config = if config == null then null else builtins.unsafeDiscardStringContext text;
        mentions = builtins.getContext text;
      };
    }) (describe null (found // { value = if hasBin then package.bin else package; }));

  # Names near to one that was not found. Only names are listed; no value is looked at.
  siblings =
    builtins.concatMap (root:
      if root.path == [ ] || root.set == [ ] || !builtins.isAttrs (builtins.head root.set) then [ ]
      else builtins.attrNames (builtins.head root.set)
    ) sets;

  lookUp = { attrs, package }:
    let
      isDerivation = found: found.value.type or null == "derivation";
      plain = if package == null then [ ] else builtins.filter isDerivation (find package);
      try = n:
        if n < builtins.length attrs then
          let found = find (builtins.elemAt attrs n); in
          if found == [ ] then try (n + 1) else describe n (builtins.head found)
        else if plain != [ ] then packaged (builtins.head plain)
        else { missing = { inherit broken; names = siblings; packageExists = owner != [ ]; }; };
      # The version of a package belongs to its image.
      result = try 0;
      owner = find [ (builtins.head (builtins.head attrs)) ];
      version =
        if owner == [ ] then null
        else attempt (string ((builtins.head owner).value.version or null));
    in
    if result ? found && version != null
    then { found = result.found // { tags = result.found.tags ++ [ version ]; }; }
    else result;

  # Names that begin with a digit are attributes with an underscore.
  ofSet = path:
    let found = find path; underscored = find ([ "_${builtins.head path}" ] ++ builtins.tail path); in
    if found == [ ] && builtins.match "[0-9].*" (builtins.head path) != null then underscored else found;
  gathered = { wanted, extra }:
    let
      each = map (path: { inherit path; found = ofSet path; }) wanted;
      isMissing = one: one.found == [ ];
      missing = map (one: join one.path) (builtins.filter isMissing each);
      more = builtins.filter (one: one.found != [ ] && (builtins.head one.found).value.type or null == "derivation")
        (map (path: { found = ofSet path; }) (builtins.filter (path: !builtins.elem path wanted) extra));
    in
    {
      inherit missing broken;
      names = if missing == [ ] then [ ] else siblings;
      found = map (one:
        let found = builtins.head one.found; in
        if found.value.type or null == "derivation" then packaged found else describe null found
      ) (builtins.filter (one: !isMissing one) each ++ more);
    };

  # Only packages.<system> is listed: legacyPackages is for sets too large to look at each value.
  listed =
    let
      packages = root: root.path != [ ] && builtins.head root.path == "packages";
      all = builtins.foldl' (all: set: set // all) { } (
        builtins.concatMap (root: if packages root then root.set else [ ]) sets
      );
      has = name: value: attempt (builtins.isAttrs value && value ? ${name}) == true;
      image = file: builtins.match "(.+)[.](tar|tar[.][a-z0-9]+|tgz)" file;
      images = files: builtins.concatMap (f: if image f == null then [ ] else [ (builtins.head (image f)) ]) files;
      # What `linkFarm` says of itself; of any other folder nothing is known before it is built.
      members = containers:
        let entries = attempt (containers.entries or containers.passthru.entries or null); in
        if builtins.isAttrs entries then images (builtins.attrNames entries)
        else if builtins.isList entries then images (map (e: e.name) entries)
        else [ ];
      every = builtins.attrNames all;
      names = if query.list.only or null == null then every else builtins.filter (n: all ? ${n}) query.list.only;
      isDerivation = value: attempt (value.type or null == "derivation") == true;
    in
    {
      inherit broken every;
      packages = builtins.filter (n: has "image" all.${n} || query.list.plain && isDerivation all.${n}) names;
      applications = builtins.concatMap (n:
        if has "containers" all.${n} then [ { name = n; images = members all.${n}.containers; } ] else [ ]
      ) names;
    };
in
if problem != null then throw problem else builtins.seq outputs {
  forgeRegistry = {
    caches = if caches then nixConfig else null;
  } // (if query ? list then { listed = { inherit (listed) broken packages applications; }; }
  else if query ? names then { names = listed.every; }
  else if query ? packages then { gathered = gathered query.packages; }
  else if query ? look then builtins.seq (builtins.head (descend false outputs query.look)) { names = [ ]; }
  else lookUp query.find);
}
