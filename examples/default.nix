# The example images, as a function: a test's own flake can import this with other parameters.
#
#     { outputs = _: { packages.x86_64-linux = (import <examples> { slowSeconds = 3; }).packages; }; }
#
# where the evaluator's NIX_PATH has an entry `examples`; or beside a copy of the folder.
let
  # Restricted evaluations see no environment, but files that are named in NIX_PATH.
  file = builtins.tryEval <forge-example-parameters>;
  parameters = if file.success then builtins.fromJSON (builtins.readFile file.value) else { };
  environment =
    name: default:
    if builtins.getEnv name != "" then builtins.getEnv name else parameters.${name} or default;
in
{
  system ? builtins.currentSystem,
  # how long `slow` takes to build
  slowSeconds ? environment "FORGE_EXAMPLE_SLOW_SECONDS" "60",
  # size of the one big layer of `large`
  largeMiB ? environment "FORGE_EXAMPLE_LARGE_MIB" "256",
  # any string; another one makes other derivations of all that is below, so that they are built once more
  nonce ? environment "FORGE_EXAMPLE_NONCE" "",
  # a folder with a static busybox
  busybox ? import ./busybox.nix,
}:
let
  architecture =
    {
      x86_64-linux = "amd64";
      aarch64-linux = "arm64";
    }
    .${system};

  # What the builders source and run; each file is a derivation's script.
  scripts = builtins.path {
    name = "example-scripts";
    path = ./build;
  };

  run =
    script: environment:
    derivation (
      {
        inherit
          system
          busybox
          scripts
          nonce
          ;
        builder = "${busybox}/busybox";
        args = [
          "sh"
          "-eu"
          "${scripts}/start.sh"
          script
        ];
      }
      // environment
    );

  suffixes = {
    none = "";
    gzip = ".gz";
    zstd = ".zst";
    xz = ".xz";
  };

  # An image: what `docker load` and the like take, in one of the forms that image.sh lists.
  #
  # layers: names of scripts in build/layers, each of which fills a folder.
  image =
    {
      name,
      tag ? "latest",
      form ? "docker-archive",
      compress ? "gzip",
      layers ? [ "base.sh" ],
      entrypoint ? [ ],
      cmd ? [ ],
      ...
    }@arguments:
    run "image.sh" (
      {
        inherit form compress architecture;
        name = {
          docker-archive = "docker-image-${name}.tar${suffixes.${compress}}";
          flat = "docker-image-${name}.tar${suffixes.${compress}}";
          oci-archive = "oci-image-${name}.tar${suffixes.${compress}}";
          oci = "oci-image-${name}";
        }.${form};
        reference = "${name}:${tag}";
        inherit layers;
        settings = builtins.toJSON (
          {
            Env = [ "PATH=/bin" ];
            Labels."org.opencontainers.image.title" = name;
          }
          // (if entrypoint == [ ] then { } else { Entrypoint = entrypoint; })
          // (if cmd == [ ] then { } else { Cmd = cmd; })
          // arguments.settings or { }
        );
      }
      // arguments.environment or { }
    )
    // {
      imageName = name;
      imageTag = tag;
    };

  # A package, such as stands in packages.<system>, with its image beside it.
  package =
    pname: image:
    run "package.sh" {
      name = "${pname}-1.0.0";
      inherit pname;
    }
    // {
      inherit pname image;
      version = "1.0.0";
    };

  helloIn =
    arguments:
    package "hello" (
      image (
        {
          name = "hello";
          tag = "stable";
          layers = [ "hello.sh" ];
          cmd = [ "/bin/hello" ];
        }
        // arguments
      )
    );

  threeLayers = [
    "base.sh"
    "greeting.sh"
    "base.sh"
  ];

  large =
    compress:
    package "large" (image {
      name = "large";
      inherit compress;
      layers = [
        "base.sh"
        "large.sh"
      ];
      cmd = [
        "/bin/ls"
        "-l"
        "/data"
      ];
      environment = { inherit largeMiB; };
    });

  greets =
    pname:
    package pname (image {
      # as dockerTools.buildImage does: image names have no upper case
      name = if pname == "myApp" then "myapp" else pname;
      cmd = [
        "/bin/echo"
        "Hello from ${pname}"
      ];
    });

  # One container of the application `demo`.
  container =
    name: cmd: settings:
    image {
      name = "demo-${name}";
      layers = [
        "base.sh"
        "${name}.sh"
      ];
      entrypoint = [ "/bin/busybox" ];
      inherit cmd settings;
    };

  # A streamed image, as nixpkgs' streamLayeredImage describes it: layers of store paths, and no archive anywhere.
  greeter = run "package.sh" {
    name = "greeter-1.0.0";
    pname = "greeter";
  };

  # newer: as newer nixpkgs writes it; else as older ones and flakeforge do.
  streamedConf =
    {
      newer ? true,
      fromImage ? null,
      owner ? "0",
    }:
    run "text-of.sh" {
      name = "hello-conf.json";
      text = builtins.toJSON (
        {
          inherit architecture;
          os = "linux";
          config = {
            Env = [ "PATH=/bin" ];
            Cmd = [ "${greeter}/bin/greeter" ];
          };
          created = "1970-01-01T00:00:01+00:00";
          repo_tag = "hello:streamed";
          store_dir = builtins.storeDir;
          from_image = fromImage;
          store_layers = [
            [ "${busybox}" ]
            [ "${greeter}" ]
          ];
          customisation_layer = run "customisation.sh" {
            name = "hello-customisation-layer";
            inherit greeter;
          };
        }
        // (
          if newer then
            {
              mtime = "1970-01-01T00:00:01+00:00";
              uid = owner;
              gid = owner;
              uname = "root";
              gname = "root";
            }
          else
            { }
        )
      );
    };

  # The script that nixpkgs wraps around it; `stream` stands for stream_layered_image.py.
  streamed =
    arguments:
    let
      stream = run "text-of.sh" {
        name = "stream";
        text = ''
          #!/usr/bin/env python3
          ti.mode = 0o0755  # rwxr-xr-x
        '';
      };
    in
    run "text-of.sh" {
      name = "stream-hello";
      text = ''
        #! ${busybox}/busybox sh
        exec "${stream}"  ${streamedConf arguments} "$@"
      '';
    };

  # An image.json as nix2container's buildImage writes it: a layer to be computed from a store path that is moved to the
  # root, and a layer's file, as of paths that are not reproducible. What stays the same with every nonce comes first:
  # docker knows a layer again only on top of the same ones.
  nix2container =
    let
      base = run "layer.sh" {
        name = "base.tar";
        layers = [ "release.sh" ];
      };
      root = run "root.sh" { name = "root"; };
      # What nix2container says of `root`.
      digest = "sha256:ab65aa4faeba27b6b6f18dc9166d9c7d385e47d2254d67594cb87e4325049ad1";
    in
    run "nix2container.sh" {
      name = "image-hello.json";
      layer = base;
      description = builtins.toJSON {
        version = 1;
        image-config = {
          Env = [ "PATH=/bin" ];
          Cmd = [ "/bin/hello" ];
          User = "1000";
          WorkingDir = "/home/me";
        };
        arch = architecture;
        created = "0001-01-01T00:00:00Z";
        layers = [
          {
            inherit digest;
            diff_ids = digest;
            size = 6144;
            mediatype = "application/vnd.oci.image.layer.v1.tar";
            History.created_by = "nix2container";
            paths = [
              {
                path = root;
                options = {
                  rewrite = {
                    regex = "^${root}";
                    repl = "";
                  };
                  perms = [
                    {
                      regex = "/home/me";
                      mode = "0700";
                      uid = 1000;
                      gid = 100;
                      uname = "me";
                      gname = "users";
                    }
                  ];
                };
              }
            ];
          }
          {
            digest = "@digest@";
            diff_ids = "@digest@";
            size = "@size@";
            layer-path = base;
            mediatype = "application/vnd.oci.image.layer.v1.tar";
            History = { };
          }
        ];
      };
    };

  index =
    nested:
    package "multi" (
      run "index.sh" {
        name = "oci-image-multi";
        inherit nested;
        layers = [ "hello.sh" ];
        reference = "multi:latest";
        settings = builtins.toJSON {
          Env = [ "PATH=/bin" ];
          Cmd = [ "/bin/hello" ];
        };
      }
    );

in
{
  packages = import ./plain.nix { inherit run busybox; } // {
    # As nixpkgs' dockerTools.buildImage writes it: a gzip docker-archive with <hash>/layer.tar.
    hello = helloIn { };

    # The same in the other forms that can be met.
    hello-plain = helloIn { compress = "none"; };
    hello-zstd = helloIn { compress = "zstd"; };
    hello-xz = helloIn { compress = "xz"; };
    hello-flat = helloIn {
      form = "flat";
      compress = "none";
    };
    hello-flat-gzip = helloIn { form = "flat"; };
    hello-oci = helloIn { form = "oci"; };
    hello-oci-plain = helloIn {
      form = "oci";
      compress = "none";
    };
    hello-oci-archive = helloIn {
      form = "oci-archive";
      compress = "none";
    };
    hello-oci-archive-gzip = helloIn { form = "oci-archive"; };
    # Three layers, of which the third is the first once more: a symbolic link in the archive.
    hello-links = helloIn {
      layers = threeLayers;
      cmd = [
        "/bin/cat"
        "/greeting"
      ];
    };
    hello-links-plain = helloIn {
      layers = threeLayers;
      compress = "none";
      cmd = [
        "/bin/cat"
        "/greeting"
      ];
    };

    # Streamed images: the script, on a base image as well, and the configuration by itself, in nixpkgs' form with another
    # owner of all files, and in the older one.
    hello-streamed = package "hello" (streamed { });
    hello-streamed-base = package "hello" (streamed {
      fromImage = (helloIn { compress = "none"; }).image;
    });
    hello-streamed-owned = package "hello" (streamedConf {
      owner = "1000";
    });
    hello-streamed-conf = package "hello" (streamedConf {
      newer = false;
    });

    # nix2container's description of an image.
    hello-nix2container = package "hello" nix2container;

    # An OCI layout whose one entry is an index of linux/amd64 and linux/arm64; and one that lists both by itself.
    # There being one busybox only, the arm64 image is for looking at, not for running.
    multi = index "1";
    multi-flat = index "";

    # Names that need care.
    myApp = greets "myApp";
    "python3.12" = greets "python3.12";
    nested.inner.tool = greets "tool";

    # A package without an image, and an application: a folder of containers.
    no-image = removeAttrs (package "no-image" null) [ "image" ];
    demo = removeAttrs (package "demo" null) [ "image" ] // {
      containers = run "containers.sh" {
        name = "demo-containers";
        web = container "web" [ "httpd" "-f" "-v" "-p" "8080" "-h" "/www" ] {
          ExposedPorts."8080/tcp" = { };
        };
        worker = container "worker" [ "sh" "/bin/worker" ] { };
        db = container "db" [ "sh" "/bin/db" ] {
          Env = [
            "PATH=/bin"
            "DATA=/var/lib/db"
          ];
          Volumes."/var/lib/db" = { };
          User = "1000:1000";
        };
      };
    };

    # Takes its time, and says so now and then; fails, and says why; has one big layer.
    slow = package "slow" (image {
      name = "slow";
      layers = [
        "base.sh"
        "slow.sh"
      ];
      cmd = [
        "/bin/cat"
        "/took"
      ];
      environment = { inherit slowSeconds; };
    });
    failing = package "failing" (image {
      name = "failing";
      layers = [ "failing.sh" ];
    });
    large = large "none";
    large-gzip = large "gzip";

    # What is no image: a text file, an empty folder, no derivation at all, an error.
    text = package "text" (run "text.sh" { name = "text"; });
    empty = package "empty" (run "empty.sh" { name = "empty"; });
    not-a-derivation = "just a string";
    not-an-image = package "not-an-image" 42;
    throws = throw "this attribute throws on purpose";
    throws-image = package "throws-image" (throw "this image throws on purpose");
  };

  legacyPackages = {
    legacy = greets "legacy";
    sets.inner = greets "inner";
    # also in packages, where it is found first
    hello = greets "legacy-hello";
  };

  topLevel = greets "top-level";
}
