use super::*;

const FLAKE: (&str, &str) = ("FLAKE", "github:o/r");

fn config(variables: &[(&'static str, &'static str)]) -> Config {
    Config::from_variables([&[FLAKE], variables].concat()).unwrap()
}

#[test]
fn the_example_file_is_what_the_program_documents() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");
    let file = std::fs::read_to_string(path).unwrap_or_default();
    assert!(file == env_example(), "write this to .env.example:\n{}", env_example());
}

#[test]
fn every_default_is_valid_and_empty_is_unset() {
    let empty: Vec<(&str, &str)> =
        SETTINGS.iter().map(|s| (s.name, "")).filter(|(n, _)| *n != "FLAKE").collect();
    let (defaults, empty) = (config(&[]), config(&empty));
    assert_eq!(format!("{defaults:?}"), format!("{empty:?}"));
    assert_eq!(defaults.listen, [Address::Inet("127.0.0.1:6443".parse().unwrap())]);
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(defaults.registry.max_evaluations.get(), processors.max(2));
    assert_eq!(defaults.systems, [format!("{}-linux", std::env::consts::ARCH)]);
}

#[test]
fn the_names_of_the_former_registry_still_work() {
    let old = Config::from_variables([
        ("GITHUB_REPO", "github:a/b"),
        ("FLASK_HOST", "::1"),
        ("FLASK_PORT", "5000"),
    ]);
    let old = old.unwrap();
    assert_eq!(old.flake.as_deref(), Some("github:a/b"));
    assert_eq!(old.listen, [Address::Inet("[::1]:5000".parse().unwrap())]);
    assert_eq!(config(&[("FLASK_PORT", "5000")]).listen, [Address::Inet("0.0.0.0:5000".parse().unwrap())]);
    let both = config(&[("LISTEN", "127.0.0.1:1"), ("FLASK_PORT", "2"), ("GITHUB_REPO", "x:y")]);
    assert_eq!(both.listen, [Address::Inet("127.0.0.1:1".parse().unwrap())]);
    assert_eq!(both.flake.as_deref(), Some("github:o/r"));
}

#[test]
fn the_package_sources_of_nixery_are_package_sets() {
    let set =
        |variables: &[(&str, &str)]| Config::from_variables(variables.iter().copied()).unwrap().package_set;
    assert_eq!(
        set(&[("NIXERY_CHANNEL", "nixos-26.05")]).as_deref(),
        Some("github:NixOS/nixpkgs/nixos-26.05")
    );
    assert_eq!(set(&[("NIXERY_PKGS_REPO", "https://h/r")]).as_deref(), Some("git+https://h/r"));
    assert_eq!(set(&[("NIXERY_PKGS_PATH", "/src")]).as_deref(), Some("path:/src"));
    assert_eq!(set(&[("NIXERY_PKGS_PATH", "/src"), ("PACKAGE_SET", "nixpkgs")]).as_deref(), Some("nixpkgs"));
}

#[test]
fn a_bad_value_is_one_line_with_name_value_and_what_is_allowed() {
    let bad = [
        ("LISTEN", "6443"),
        ("TAG_TTL", "soon"),
        ("CACHE_MAX_BYTES", "much"),
        ("CACHE_SIZE", "0"),
        ("STATE_DIR", "relative"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("MAX_TAG_LENGTH", "129"),
        ("METRICS_LISTEN", "9643"),
        ("FLAKE", "github:o/r#attr"),
        ("SYSTEMS", "x86_64-linux,linux"),
        ("NIX_BUILD_TIMEOUT", "0"),
        ("RETENTION_DAYS", "-1"),
        ("LAYER_COMPRESSION", "lz4"),
        ("MAX_ENCODINGS", "-1"),
        ("ENCODING_MIN_RATE", "fast"),
        ("TRUSTED_PROXIES", "example.org"),
        ("AUTH_MAX_FAILURES", "0"),
        ("AUTH_REALM", "\"here\""),
        ("MAX_CLIENT_BUILDS", "many"),
        ("IMPLICIT_IMAGES", "maybe"),
        ("MAX_LAYERS", "1"),
        ("MAX_LAYERS", "126"),
        ("LAYER_STRATEGY", "best"),
        ("MAX_CLOSURE_PATHS", "0"),
        ("NIX_SNAPSHOTTER", "2"),
        ("LISTEN", "unix:relative"),
        ("LISTEN_MODE", "1777"),
        ("TLS_LISTEN", "unix:/a"),
    ];
    for (name, value) in bad {
        let error = Config::from_variables([FLAKE, (name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}={value:?} is not valid: expected ")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_number_out_of_its_range_is_told_the_range() {
    for (name, value, range) in [
        ("MAX_LAYERS", "126", "from 2 to 125"),
        ("MAX_CLOSURE_PATHS", "0", "from 1 to 100000"),
        ("MAX_IMAGE_NAME_LENGTH", "256", "from 1 to 255"),
        ("MAX_TAG_LENGTH", "129", "from 1 to 128"),
    ] {
        let error = Config::from_variables([FLAKE, (name, value)]).unwrap_err().to_string();
        assert!(error.ends_with(&format!("expected a whole number {range}")), "{error}");
    }
}

#[test]
fn settings_of_tls_that_mean_nothing_alone_are_refused() {
    let [certificate, key] = [("TLS_CERTIFICATE", "/c.pem"), ("TLS_KEY", "/k.pem")];
    let [ca, auth] = [("TLS_CLIENT_CA", "/ca.pem"), ("TLS_CLIENT_AUTH", "optional")];
    let listen = ("TLS_LISTEN", "127.0.0.1:1");
    for (variables, expected) in [
        (&[certificate][..], "TLS_CERTIFICATE=\"/c.pem\" has no effect without TLS_KEY"),
        (&[key, listen], "TLS_KEY=\"/k.pem\" has no effect without TLS_CERTIFICATE"),
        (&[listen], "TLS_LISTEN=\"127.0.0.1:1\" has no effect without TLS_CERTIFICATE and TLS_KEY"),
        (&[ca], "TLS_CLIENT_CA=\"/ca.pem\" has no effect without TLS_CERTIFICATE and TLS_KEY"),
        (&[certificate, key, auth], "TLS_CLIENT_AUTH=\"optional\" has no effect without TLS_CLIENT_CA"),
        (&[certificate, key, ca, ("TLS_CLIENT_AUTH", "maybe")], "TLS_CLIENT_AUTH=\"maybe\" is not valid"),
    ] {
        let error = Config::from_variables([&[FLAKE], variables].concat()).unwrap_err().to_string();
        assert!(error.starts_with(expected) && error.lines().count() == 1, "{error}");
    }
    assert!(config(&[certificate, key, listen, ca, auth]).tls.is_some());
}

#[test]
fn popularity_is_what_the_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("popularity.json");
    let read = || Config::from_variables([FLAKE, ("POPULARITY", path.to_str().unwrap())]);
    let error = read().unwrap_err().to_string();
    assert!(error.starts_with("POPULARITY: ") && error.contains("popularity.json"), "{error}");
    std::fs::write(&path, "{\"glibc-2.40\": 7}").unwrap();
    let layers = |config: Config| config.registry.image_options.layers.unwrap();
    assert_ne!(layers(read().unwrap()), layers(config(&[])));
}

#[test]
fn a_bad_value_under_another_name_is_reported_under_that() {
    for (name, value, reported) in [
        ("GITHUB_REPO", "a#b", "GITHUB_REPO=\"a#b\" is not valid"),
        ("FLASK_PORT", "http", "FLASK_HOST:FLASK_PORT=\"0.0.0.0:http\" is not valid"),
        ("STATE_DIRECTORY", "relative", "STATE_DIRECTORY=\"relative\" is not valid"),
        ("NIX_DAEMON_SOCKET_PATH", "relative", "NIX_DAEMON_SOCKET_PATH=\"relative\" is not valid"),
    ] {
        let source = ("CATALOG", "/c.json");
        let error = Config::from_variables([source, (name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(reported), "{error}");
    }
    let both = [("GITHUB_REPO", "a:b"), ("FLAKE", "c#d")];
    assert!(Config::from_variables(both).unwrap_err().to_string().starts_with("FLAKE=\"c#d\""));
}

#[test]
fn nothing_to_serve_is_an_error() {
    assert_eq!(Config::from_variables([]).unwrap_err(), ConfigError::NoSource);
    assert!(Config::from_variables([("CATALOG", "/c.json")]).is_ok());
}
