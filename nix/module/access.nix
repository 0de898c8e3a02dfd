# The options of HTTPS and of access control.
{ config, lib, ... }:
let
  inherit (lib) literalExpression mkOption types;
  cfg = config.services.forge-registry;
  known = import ./settings.nix lib;
in
{
  options.services.forge-registry = {
    tls = {
      acmeHost = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "registry.example.org";
        description = ''
          The entry of {option}`security.acme.certs` whose certificate HTTPS is served with. The registry becomes a member
          of the certificate's group, and is reloaded when it is renewed.
        '';
      };

      certificate = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/secrets/registry.pem";
        description = "A PEM file with the certificate for HTTPS, and after it those that lead to one that clients trust.";
      };

      key = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/secrets/registry.key";
        description = "A PEM file with the certificate's private key.";
      };

      group = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "registry-tls";
        description = ''
          The group that may read {option}`certificate` and {option}`key`, which the registry then reads where they are:
          `systemctl reload` is enough for new ones. Neither the files nor their folders may be links then, as those of
          sops-nix, agenix, {option}`environment.etc` and certbot are. Without a group, links will do, and only root need be
          able to read the files. Then systemd hands over copies that it makes when the registry starts, and new ones need
          `systemctl restart`, which refuses no connection.
        '';
      };

      clientCa = mkOption {
        type = types.nullOr types.path;
        default = null;
        description = "A PEM file with the certificates of those who sign clients' certificates. Without it, clients are not asked for any.";
      };

      clientAuth = mkOption {
        type = types.enum [
          "required"
          "optional"
        ];
        default = "required";
        description = "Whether clients must have a certificate, or may have one, with {option}`clientCa`.";
      };

      listenAddresses = mkOption {
        type = types.listOf types.str;
        default = lib.filter (address: !lib.hasPrefix "/" address) cfg.listenAddresses;
        defaultText = literalExpression "the addresses among config.services.forge-registry.listenAddresses";
        example = [
          "0.0.0.0"
          "::"
        ];
        description = "Addresses to listen on for HTTPS, if there is a certificate.";
      };

      port = mkOption {
        type = types.port;
        default = 6444;
        description = "The TCP port of these addresses.";
      };
    };

    auth = {
      htpasswdFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/secrets/forge-registry-htpasswd";
        description = ''
          A file of users and their passwords, as `htpasswd -nB USER` prints them. With this file, that of tokens, or
          rules, access is controlled.
        '';
      };

      group = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "registry-users";
        description = ''
          The group that may read {option}`htpasswdFile` and {option}`tokensFile`, which the registry then reads where they
          are: `systemctl reload` is enough after a change. Neither the files nor their folders may be links then, as those
          of sops-nix, agenix and {option}`environment.etc` are. Without a group, links will do, and only root need be able
          to read the files. Then systemd hands over copies that it makes when the registry starts, and a change needs
          `systemctl restart`, which refuses no connection.
        '';
      };

      tokensFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/secrets/forge-registry-tokens";
        description = ''
          A file of tokens: `NAME:HASH` a line, where the hash is what `printf %s TOKEN | sha256sum` prints. It is read as
          {option}`services.forge-registry.auth.htpasswdFile` is.
        '';
      };

      rules = mkOption {
        type = types.nullOr (
          types.listOf (
            types.submodule {
              options = {
                action = mkOption {
                  type = types.enum [
                    "allow"
                    "deny"
                  ];
                  description = "Whether it is allowed.";
                };
                right = mkOption {
                  type = types.enum [
                    "read"
                    "build"
                  ];
                  description = "What is.";
                };
                user = mkOption {
                  type = types.strMatching "[^[:space:]#]+";
                  description = "Whom.";
                };
                name = mkOption {
                  type = types.strMatching "[a-zA-Z0-9._/*-]+";
                  description = "With which names.";
                };
              };
            }
          )
        );
        default = null;
        example = [
          {
            action = "allow";
            right = "read";
            user = "anonymous";
            name = "public/*";
          }
          {
            action = "allow";
            right = "build";
            user = "ci";
            name = "*";
          }
        ];
        description = ''
          Who may do what. Of each rule, `action` is `allow` or `deny`, `right` is `read` or `build` (which takes in
          `read`), `user` a name, `anonymous`, `authenticated`, or a pattern, and `name` a pattern of images; in patterns
          `*` stands for anything. The first rule that fits decides, and without one the answer is no. Without a list,
          whoever logs in may do everything.
        '';
      };

      realm = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "images of example.org";
        description = "What clients are told that they log in to. The registry's own default is `${known.AUTH_REALM}` (`AUTH_REALM`).";
      };
    };
  };
}
