# The registry's settings with their defaults, from the list that it keeps itself: NAME → default.
lib:
let
  inherit (lib) concatMap head optional splitString;
in
lib.listToAttrs (
  concatMap (
    line:
    let
      found = builtins.match "#([A-Z][A-Z0-9_]*)=(.*)" line;
    in
    optional (found != null) (lib.nameValuePair (head found) (lib.last found))
  ) (splitString "\n" (builtins.readFile ../../.env.example))
)
