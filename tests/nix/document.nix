# docs/module-options.md: the options of the module as people read them.
lib: options:
let
  # Nix values as they are written in a configuration.
  literal =
    value:
    if value._type or null == "literalExpression" then
      value.text
    else if builtins.isList value then
      if value == [ ] then "[ ]" else "[ ${lib.concatMapStringsSep " " literal value} ]"
    else if builtins.isAttrs value then
      if value == { } then
        "{ }"
      else
        "{ ${lib.concatMapStringsSep " " (name: "${name} = ${literal value.${name}};") (lib.attrNames value)} }"
    else if value == null then
      "null"
    else
      builtins.toJSON value;
  code = text: if lib.hasInfix "\n" text then "\n\n```nix\n${trim text}\n```" else " `${text}`";
  # Without the line breaks at the end.
  trim = text: lib.concatStringsSep "\n" (lib.filter (line: line != "") (lib.splitString "\n" text));

  # {option}`…` and the like are for the manual of NixOS.
  paragraph =
    text:
    trim (
      builtins.replaceStrings
        [
          "{option}`"
          "{file}`"
          "{manpage}`"
        ]
        [
          "`"
          "`"
          "`"
        ]
        text
    );

  entry = path: option: ''
    ## `${lib.concatStringsSep "." path}`

    ${paragraph option.description}

    * type: ${option.type.description}
    * default:${code (literal (option.defaultText or option.default))}
    ${lib.optionalString (option ? example) "* example:${code (literal option.example)}\n"}'';

  entries =
    path: set:
    lib.concatMap (
      name:
      let
        option = set.${name};
        here = path ++ [ name ];
      in
      if lib.isOption option then [ (entry here option) ] else entries here option
    ) (lib.attrNames set);
in
''
  # Options of the NixOS module

  Made of `module.nix` by `dev/units write`; CI compares them.

''
+ lib.concatStringsSep "\n" (
  entries [
    "services"
    "forge-registry"
  ] options
)
