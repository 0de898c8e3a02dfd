# As much of nixpkgs' `lib` as module.nix uses, so that the module can be evaluated where nixpkgs cannot be had.
# What is here behaves as in nixpkgs; what is not, is missing.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    genList
    head
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    mapAttrs
    match
    stringLength
    substring
    tail
    toJSON
    ;

  # --- small things

  nameValuePair = name: value: { inherit name value; };
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  optionalString = condition: text: if condition then text else "";
  filterAttrs =
    keep: set: listToAttrs (concatMap (n: optional (keep n set.${n}) (nameValuePair n set.${n})) (attrNames set));
  mapAttrsToList = f: set: map (n: f n set.${n}) (attrNames set);
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
  concatMapStrings = concatMapStringsSep "";
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasInfix = infix: text: length (builtins.split (escapeRegex infix) text) > 1;
  escapeRegex = builtins.replaceStrings (stringToCharacters "\\[{()^$?*+|.") (map (c: "\\" + c) (stringToCharacters "\\[{()^$?*+|."));
  stringToCharacters = text: genList (i: substring i 1 text) (stringLength text);
  splitString = separator: text: filter isString (builtins.split (escapeRegex separator) text);
  unique = foldl' (seen: x: if elem x seen then seen else seen ++ [ x ]) [ ];
  intersectLists = list: filter (x: elem x list);
  any = builtins.any;
  getExe' = package: name: "${package}/bin/${name}";
  getExe = package: getExe' package package.meta.mainProgram;
  makeBinPath = concatMapStringsSep ":" (package: "${package}/bin");
  showOption = concatStringsSep ".";

  # --- properties of definitions

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkOptionDefault = mkOverride 1500;
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  isType = type: value: isAttrs value && value._type or null == type;

  # Moves properties of a set of definitions to the definitions in it.
  pushDown =
    set:
    if isType "merge" set then
      concatMap pushDown set.contents
    else if isType "if" set then
      map (mapAttrs (_: mkIf set.condition)) (pushDown set.content)
    else if isType "override" set then
      map (mapAttrs (_: mkOverride set.priority)) (pushDown set.content)
    else
      [ set ];

  # The definitions that a definition with properties stands for.
  discharge =
    definition:
    if isType "merge" definition then
      concatMap discharge definition.contents
    else if isType "if" definition then
      if isBool definition.condition then
        optionals definition.condition (discharge definition.content)
      else
        throw "mkIf: the condition is not a Boolean"
    else
      [ definition ];

  # Those of the highest priority, without it.
  strongest =
    definitions:
    let
      priority = definition: if isType "override" definition then definition.priority else 100;
      best = foldl' (best: d: if priority d < best then priority d else best) 9999 definitions;
    in
    map (d: if isType "override" d then d.content else d) (filter (d: priority d == best) definitions);

  # --- options

  mkOption = attributes: attributes // { _type = "option"; };
  mkEnableOption =
    name:
    mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${name}.";
    };
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };

  mergeOption =
    path: option: definitions:
    let
      discharged = concatMap discharge (definitions ++ optional (option ? default) (mkOptionDefault option.default));
      values = strongest discharged;
      bad = filter (v: !option.type.check v) values;
      merged = option.type.merge path values;
    in
    if bad != [ ] then
      throw "A definition for option `${showOption path}' is not of type `${option.type.description}': ${show (head bad)}"
    else if values == [ ] then
      option.type.empty or (throw "The option `${showOption path}' was accessed but has no value defined. Try setting the option.")
    else
      (option.apply or (x: x)) merged;

  show = value: if isFunction value then "a function" else if isAttrs value && value ? outPath then "${value}" else toJSON value;

  mergeEqual =
    path: values:
    if all (v: v == head values) values then
      head values
    else
      throw "The option `${showOption path}' has conflicting definition values: ${concatMapStringsSep ", " show values}";

  # The values of `options` under the sets of definitions `configs`.
  evaluate =
    path: options: freeform: configs:
    let
      sets = concatMap pushDown configs;
      definitions = name: concatMap (set: optional (set ? ${name}) set.${name}) sets;
      declared = mapAttrs (
        name: option:
        if isType "option" option then
          mergeOption (path ++ [ name ]) option (definitions name)
        else
          evaluate (path ++ [ name ]) option null (definitions name)
      ) options;
      others = filter (name: !(options ? ${name})) (unique (concatMap attrNames sets));
      free = listToAttrs (
        concatMap (
          name:
          let
            values = strongest (concatMap discharge (definitions name));
          in
          optional (values != [ ]) (nameValuePair name (mergeOption (path ++ [ name ]) { type = freeform.element; } (definitions name)))
        ) others
      );
    in
    if freeform != null then
      free // declared
    else
      foldl' (
        set: name:
        let
          used = concatMap discharge (definitions name);
        in
        if used == [ ] then set else throw "The option `${showOption (path ++ [ name ])}' does not exist."
      ) declared others;

  mergeDeclarations = foldl' (
    a: b:
    a
    // mapAttrs (
      name: option:
      if !(a ? ${name}) then
        option
      else if isType "option" option || isType "option" a.${name} then
        throw "The option `${name}' is already declared."
      else
        mergeDeclarations [
          a.${name}
          option
        ]
    ) b
  ) { };

  # All of a module's imports and itself.
  collect =
    arguments: module:
    let
      value = if isPath module || isString module then import module else module;
      body = if isFunction value then value (builtins.intersectAttrs (builtins.functionArgs value) arguments // needed value) else value;
      # `{ ... }@args:` takes whatever there is.
      needed = f: if builtins.functionArgs f == { } then arguments else { };
      structured = body ? config || body ? options;
      rest = removeAttrs body [
        "imports"
        "_file"
        "freeformType"
      ];
    in
    concatMap (collect arguments) (body.imports or [ ])
    ++ [
      {
        options = body.options or { };
        freeformType = body.freeformType or null;
        config = if structured then body.config or { } else rest;
      }
    ];

  evalModules =
    {
      modules,
      specialArgs ? { },
      path ? [ ],
    }:
    let
      arguments = specialArgs // {
        inherit config options;
        lib = self;
      };
      collected = concatMap (collect arguments) modules;
      options = mergeDeclarations (map (m: m.options) collected);
      freeforms = filter (t: t != null) (map (m: m.freeformType) collected);
      config = evaluate path options (if freeforms == [ ] then null else head freeforms) (map (m: m.config) collected);
    in
    {
      inherit config options;
    };

  # --- types

  simple = name: description: check: {
    inherit name description check;
    merge = mergeEqual;
  };
  between = low: high: simple "intBetween" "integer between ${toString low} and ${toString high} (both inclusive)" (
    x: isInt x && x >= low && x <= high
  );

  types = {
    bool = simple "bool" "boolean" isBool;
    int = simple "int" "signed integer" isInt;
    ints = {
      inherit between;
      positive = simple "positiveInt" "positive integer, meaning >0" (x: isInt x && x > 0);
      unsigned = simple "unsignedInt" "unsigned integer, meaning >=0" (x: isInt x && x >= 0);
    };
    port = (between 0 65535) // {
      description = "16 bit unsigned integer; between 0 and 65535 (both inclusive)";
    };
    str = simple "str" "string" isString;
    strMatching = pattern: simple "strMatching" "string matching the pattern ${pattern}" (x: isString x && match pattern x != null);
    enum = values: simple "enum" "one of ${concatStringsSep ", " (map toJSON values)}" (x: elem x values);
    path = simple "path" "absolute path" (x: (isString x || isPath x || x ? outPath) && hasPrefix "/" (toString x));
    package = simple "package" "package" (x: x.type or null == "derivation");
    unspecified = simple "unspecified" "unspecified value" (_: true);
    nullOr = element: {
      name = "nullOr";
      description = "null or ${element.description}";
      check = x: x == null || element.check x;
      merge =
        path: values:
        if all (v: v == null) values then
          null
        else if elem null values then
          throw "The option `${showOption path}' is defined both null and not null."
        else
          element.merge path values;
      inherit element;
    };
    either = a: b: {
      name = "either";
      description = "${a.description} or ${b.description}";
      check = x: a.check x || b.check x;
      merge = path: values: if all a.check values then a.merge path values else if all b.check values then b.merge path values else mergeEqual path values;
    };
    oneOf = list: foldl' types.either (head list) (tail list);
    listOf = element: {
      name = "listOf";
      description = "list of ${element.description}";
      check = isList;
      empty = [ ];
      merge =
        path: values: map (x: if element.check x then element.merge path [ x ] else throw "A definition for option `${showOption path}.*' is not of type `${element.description}': ${show x}") (concatLists values);
      inherit element;
    };
    nonEmptyListOf = element: types.listOf element // {
      description = "non-empty list of ${element.description}";
      check = x: isList x && x != [ ];
    };
    attrsOf = element: {
      name = "attrsOf";
      description = "attribute set of ${element.description}";
      check = isAttrs;
      empty = { };
      inherit element;
      merge = path: evaluate path { } { inherit element; };
    };
    submodule =
      modules:
      let
        list = if isList modules then modules else [ modules ];
        evaluated = path: values: evalModules {
          modules = list ++ map (v: if isAttrs v && !(isFunction v) then { config = v; } else v) values;
          inherit path;
          specialArgs.name = if path == [ ] then "<name>" else elemAt path (length path - 1);
        };
      in
      {
        name = "submodule";
        description = "submodule";
        check = x: isAttrs x || isFunction x;
        empty = { };
        merge = path: values: (evaluated path values).config;
        getSubOptions = _: (evaluated [ ] [ ]).options;
      };
  };

  self = {
    inherit
      any
      concatMapStrings
      concatMapStringsSep
      concatMap
      concatStringsSep
      elem
      escapeRegex
      evalModules
      filter
      filterAttrs
      getExe
      getExe'
      hasInfix
      hasPrefix
      intersectLists
      isType
      literalExpression
      listToAttrs
      makeBinPath
      mapAttrs
      mapAttrs'
      mapAttrsToList
      attrNames
      mkDefault
      mkEnableOption
      mkForce
      mkIf
      mkMerge
      mkOption
      mkOptionDefault
      mkOverride
      nameValuePair
      optional
      optionalAttrs
      optionalString
      optionals
      showOption
      splitString
      types
      unique
      ;
    inherit (builtins) all attrValues head length tail toJSON;
    last = list: elemAt list (length list - 1);
    isOption = isType "option";
  };
in
self
