# The machine's static busybox, as a folder in the store (a bare file would get a hash in front of its name,
# by which busybox finds out what to be).
let
  impure = builtins ? currentSystem;
  given = builtins.getEnv "FORGE_EXAMPLE_BUSYBOX";
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
    the example images are made around a static busybox, and this machine has none: install it (Debian: busybox-static),
    or name the file in FORGE_EXAMPLE_BUSYBOX, or have <nixpkgs> in NIX_PATH
  ''
