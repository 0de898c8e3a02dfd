# What the registry asks of the fetcher. Compiled into the binary and sent to it, applied to one attribute set:
#
#   reference  flake reference of a source as the operator configured it, at a branch, tag or commit that the registry
#              chose; null to go on with `tree`
#   tree       what this function returned for a source before, or null
#   inputs     names of nodes in the source's flake.lock; those that it has are fetched as well
#
# No code of a source is evaluated here: flake.lock is data, and nothing else is read. So this process may have access
# tokens and may reach local folders, and the one that evaluates sources (flake.nix, beside this file) neither.
{ reference, tree, inputs }:
let
  parsed = builtins.parseFlakeRef reference;
  source =
    if tree != null then tree
    else describe (fetch parsed) // { dir = parsed.dir or ""; };

  # As `getFlake` does it, with whole histories: `self.revCount` needs them.
  fetch = input:
    builtins.fetchTree (
      (if input.type == "git" then { shallow = false; } else { }) // builtins.removeAttrs input [ "dir" "__final" ]
    );
  describe = tree:
    builtins.mapAttrs (_: value: if builtins.isString value then builtins.unsafeDiscardStringContext value else value)
      (builtins.removeAttrs tree [ "outPath" ] // { path = tree.outPath; });

  # A tree in the store is found by its hash alone, and may then be read. Nothing is downloaded: there is no such URL.
  root = builtins.fetchTarball {
    name = "source";
    url = "forge-registry:/gone";
    sha256 = source.narHash;
  } + (if source.dir == "" then "" else "/${source.dir}");
  lock = root + "/flake.lock";
  nodes = if builtins.pathExists lock then (builtins.fromJSON (builtins.readFile lock)).nodes or { } else { };

  # The author of a lock file has no say in which of the host's files are read, nor has a server in which others are:
  # where a repository uses Git LFS (`lfs`), its server names what is to be downloaded in place of a file.
  always = [ "type" "narHash" "lastModified" "revCount" "dir" "__final" ];
  ofForge = [ "owner" "repo" "ref" "rev" "host" "treeHash" ];
  ofUrl = [ "url" "rev" ];
  attributes = {
    github = ofForge;
    gitlab = ofForge;
    sourcehut = ofForge;
    git = ofUrl ++ [ "ref" "shallow" "submodules" "allRefs" "exportIgnore" ];
    mercurial = ofUrl ++ [ "ref" ];
    tarball = ofUrl ++ [ "unpack" ];
    file = ofUrl ++ [ "unpack" ];
  };
  matches = pattern: value: builtins.isString value && builtins.match pattern value != null;
  isName = name: matches "[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]*" name;
  isRemote = locked:
    if locked ? url then matches "(https?|ssh|git)://[^/].*" locked.url
    else isName locked.owner && isName locked.repo && matches "[A-Za-z0-9.-]+(:[0-9]+)?" (locked.host or "h");
  input = name: node:
    let
      locked = node.info or { } // node.locked;
      known = always ++ attributes.${locked.type} or [ ];
      others = builtins.filter (attribute: !builtins.elem attribute known) (builtins.attrNames locked);
      refuse = why: throw "the input ${name} in flake.lock is not fetched, since ${why}: ${builtins.toJSON locked}";
    in
    if !(attributes ? ${locked.type}) || !isRemote locked then refuse "it is no remote source"
    else if others != [ ] then refuse "inputs may not have ${builtins.concatStringsSep ", " others}"
    else describe (fetch locked);
in
{
  forgeRegistry = {
    tree = source;
    inputs =
      if inputs == [ ] then { }
      else builtins.mapAttrs input (
        builtins.intersectAttrs (builtins.listToAttrs (map (name: { inherit name; value = null; }) inputs))
          (builtins.removeAttrs nodes (builtins.filter (name: !(nodes.${name} ? locked)) (builtins.attrNames nodes)))
      );
  };
}
