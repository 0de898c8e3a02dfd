# What the registry asks of a flake. Compiled into the binary and sent to the evaluator, applied to one attribute set:
#
#   flake    flake reference
#   set      whether it is a package set, which need not be a flake
#   systems  systems to look in, the preferred first
#   caches   whether to tell the binary caches of the flake's nixConfig, which getFlake leaves out
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
# Each path is looked up as `nix build` does: below packages.<system>, legacyPackages.<system>, and as it is. Its
# elements may contain dots: each is first tried descending at every dot, then with dots as part of a name.
{ flake, set, systems, caches, query }:
let
  # A folder with a default.nix is imported from where it is: nixpkgs is too large to be copied for each look.
  folder =
    let path = builtins.match "(path:)?(/[^?]*)(.*)" flake; in
    if set && path != null && builtins.pathExists (builtins.elemAt path 1 + "/default.nix")
    then builtins.elemAt path 1
    else null;
  outputs =
    if folder == null then builtins.getFlake flake
    else { legacyPackages = builtins.listToAttrs (map (system: { name = system; value = imported system; }) systems); };
  imported = system:
    let packages = import folder; in
    if builtins.isFunction packages
    then packages (builtins.intersectAttrs (builtins.functionArgs packages) { inherit system; })
    else packages;

  nixConfig =
    let
      config = (import (outputs.outPath + "/flake.nix")).nixConfig or { };
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
{
  forgeRegistry = {
    revision = outputs.rev or outputs.dirtyRev or null;
    caches = if caches then nixConfig else null;
  } // (if query ? list then { listed = { inherit (listed) broken packages applications; }; }
  else if query ? names then { names = listed.every; }
  else if query ? packages then { gathered = gathered query.packages; }
  else if query ? look then builtins.seq (builtins.head (descend false outputs query.look)) { names = [ ]; }
  else lookUp query.find);
}
