//! From Nix's names of machines to Go's, which container clients use.

use crate::oci::Platform;

/// The platform of packages of a Nix system, `x86_64-linux` for instance; none if containers do not run on it.
pub fn platform(system: &str) -> Option<Platform> {
    // Nix: `lib.systems.flakeExposed`; Go: `go tool dist list`; variants: image-spec, image-index.md.
    let (architecture, variant) = match system.strip_suffix("-linux")? {
        "x86_64" => ("amd64", None),
        "i686" | "i386" => ("386", None),
        "aarch64" => ("arm64", Some("v8")),
        "armv7l" => ("arm", Some("v7")),
        "armv6l" => ("arm", Some("v6")),
        "armv5tel" => ("arm", Some("v5")),
        "riscv64" => ("riscv64", None),
        "powerpc64le" => ("ppc64le", None),
        "powerpc64" => ("ppc64", None),
        "s390x" => ("s390x", None),
        "loongarch64" => ("loong64", None),
        "mips64el" => ("mips64le", None),
        "mipsel" => ("mipsle", None),
        _ => return None,
    };
    Some(Platform {
        architecture: architecture.into(),
        os: "linux".into(),
        os_version: None,
        variant: variant.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use super::platform;

    #[test]
    fn linux_systems_have_go_names_and_others_none() {
        let name = |system| platform(system).map(|p| (p.architecture, p.variant.unwrap_or_default()));
        assert_eq!(name("x86_64-linux"), Some(("amd64".into(), String::new())));
        assert_eq!(name("aarch64-linux"), Some(("arm64".into(), "v8".into())));
        assert_eq!(name("armv7l-linux"), Some(("arm".into(), "v7".into())));
        for other in ["x86_64-darwin", "builtin", "", "x86_64-linux-musl", "vax-linux"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
