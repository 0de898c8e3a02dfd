{
  description = "Small container images for trying out and testing forge-registry";

  # No inputs: everything is a raw derivation around one static busybox (see busybox.nix), builds offline and at once.
  # That busybox comes from the machine, so evaluate with --impure:
  #
  #     nix build --impure ./examples#hello.image
  outputs =
    _:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forSystems =
        f:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = f system;
          }) systems
        );
      examples = forSystems (system: import ./. { inherit system; });
    in
    {
      packages = forSystems (system: examples.${system}.packages);
      legacyPackages = forSystems (system: examples.${system}.legacyPackages);

      # An attribute that is neither in packages nor in legacyPackages: `nix build` looks there last.
      top-level = examples.${builtins.currentSystem or "x86_64-linux"}.topLevel;
    };
}
