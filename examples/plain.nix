# Packages without an image, of which the registry makes one: run and busybox are those of default.nix.
{ run, busybox }:
let
  # What two packages need to run.
  words = run "words.sh" { name = "words-1.0.0"; };

  # Certificates, in the place where nixpkgs' cacert has them.
  certificates = run "certificates.sh" { name = "certificates-1.0.0"; };

  # scripts: an attribute set of programs, each the text of a shell script.
  plain =
    pname: scripts: extra:
    run "plain.sh" (
      {
        name = "${pname}-1.0.0";
        inherit pname words;
        programs = builtins.attrNames scripts;
      }
      // builtins.listToAttrs (
        map (program: {
          name = "program_${builtins.replaceStrings [ "-" ] [ "_" ] program}";
          value = scripts.${program};
        }) (builtins.attrNames scripts)
      )
      // extra
    )
    // {
      inherit pname;
      version = "1.0.0";
    };

  shell = [ "${busybox}/busybox" "sh" ];
in
{
  # Two programs, of which one says that it is the main one; files in share and etc.
  greet =
    plain "greet" {
      greet = ''echo "$(cat ${words}/share/words) from greet''${1:+, $1}"'';
      greet-loudly = "greet | tr a-z A-Z";
    } { folders = "share etc"; }
    // {
      meta.mainProgram = "greet";
    };

  # One program only: there is no doubt about what to run. It needs the same words.
  count-words = plain "count-words" { count-words = "wc -w <${words}/share/words"; } { };

  # States how it is to run, and mentions a package that it does not need otherwise.
  configured =
    plain "configured" {
      show = ''echo "$GREETING from $(id -u) in $PWD: $(cat "$DATA")"'';
      other = "echo other";
    } { }
    // {
      imageConfig = {
        Entrypoint = shell;
        Cmd = [
          "-c"
          "show"
        ];
        Env = [
          "GREETING=Hello"
          "DATA=${certificates}/etc/ssl/certs/ca-bundle.crt"
        ];
        User = "nobody";
        WorkingDir = "/var/lib/configured";
        ExposedPorts."8080/tcp" = { };
        Volumes."/var/lib/configured" = { };
        Labels."org.opencontainers.image.title" = "configured";
        StopSignal = "SIGINT";
      };
    };

  # A slip in the configuration.
  misconfigured = plain "misconfigured" { run = "echo never"; } { } // {
    passthru.imageConfig.Entrypont = shell;
  };

  # Several outputs: the programs are in one, what they need in another.
  outputs =
    plain "outputs" { outputs-demo = "cat @lib@/lib/answer"; } {
      outputs = [
        "out"
        "bin"
        "lib"
      ];
    };

  # Refers to certificates.
  fetch = plain "fetch" { fetch = ''head -n 1 "$SSL_CERT_FILE"; : ${certificates}''; } { };
}
