# A static busybox, as a folder in the store (a bare file would get a hash in front of its name, by which busybox finds out
# what to be).
let
  impure = builtins ? currentSystem;
  given = builtins.getEnv "FORGE_EXAMPLE_BUSYBOX";
  # A folder with nothing else in it, for evaluations that are restricted to what NIX_PATH names.
  named = builtins.tryEval <busybox>;
  onMachine = builtins.filter builtins.pathExists (
    (if given == "" then [ ] else [ (/. + given) ])
    ++ [
      /usr/bin/busybox
      /bin/busybox
    ]
  );
  nixpkgs = builtins.tryEval <nixpkgs>;
in
if !impure then
  throw "the example images are made around this machine's busybox: add --impure"
else if named.success then
  builtins.path {
    name = "busybox";
    path = named.value;
  }
else if onMachine != [ ] then
  let
    file = builtins.head onMachine;
  in
  builtins.path {
    name = "busybox";
    path = dirOf file;
    filter = path: _: baseNameOf path == baseNameOf file;
  }
else if nixpkgs.success then
  "${(import nixpkgs.value { }).pkgsStatic.busybox}/bin"
else
  throw ''
    the example images are made around a static busybox, and none was found: install it (Debian: busybox-static),
    or name the file in FORGE_EXAMPLE_BUSYBOX, or have <busybox>, a folder with it alone, or <nixpkgs> in NIX_PATH
  ''
