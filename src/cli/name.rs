//! Names of images on the command line.

use forge_registry::{
    config::Config,
    oci::{NameError, Reference, ReferenceError, RepositoryName, Tag},
};

#[derive(Debug, thiserror::Error)]
pub enum ImageNameError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error("{0} is a digest; a tag is expected, or the name alone")]
    Digest(String),
}

/// `name`, `name:tag`, `name@digest`; a registry's address in front is what people paste, and is not part of it.
pub fn parse(text: &str, config: &Config) -> Result<(RepositoryName, Option<Reference>), ImageNameError> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    let text = match text.split_once('/') {
        Some((host, name)) if host.contains(':') || host == "localhost" => name,
        _ => text,
    };
    let (name, reference) = match (text.split_once('@'), text.rsplit_once(':')) {
        (Some((name, digest)), _) => (name, Some(digest)),
        (None, Some((name, tag))) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    };
    let reference = reference.map(|text| Reference::parse(text, config.route.max_tag_length)).transpose()?;
    Ok((RepositoryName::parse(name, config.route.max_name_length)?, reference))
}

/// The same where there can be a tag and no digest.
pub fn parse_with_tag(text: &str, config: &Config) -> Result<(RepositoryName, Option<Tag>), ImageNameError> {
    match parse(text, config)? {
        (_, Some(Reference::Digest(digest))) => Err(ImageNameError::Digest(digest.to_string())),
        (name, Some(Reference::Tag(tag))) => Ok((name, Some(tag))),
        (name, Some(Reference::Referrer(tag))) => Ok((name, Some(tag.as_tag().clone()))),
        (name, None) => Ok((name, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_understood() {
        let config = Config::from_variables([("FLAKE", "github:o/r")]).unwrap();
        for (text, tag) in [
            ("packages/a", None),
            ("packages/a:latest", Some("latest")),
            ("localhost/packages/a", None),
            ("docker://127.0.0.1:6443/packages/a", None),
        ] {
            let (name, reference) = parse(text, &config).unwrap();
            let reference = reference.map(|reference| reference.to_string());
            assert_eq!((name.as_str(), reference.as_deref()), ("packages/a", tag), "{text}");
        }
        let (name, tag) = parse_with_tag("[::1]:6443/python3.12:1.0", &config).unwrap();
        assert_eq!((name.as_str(), tag), ("python3.12", Some("1.0".parse().unwrap())));
        assert!(parse("a b", &config).is_err());
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert!(matches!(parse_with_tag(&digest, &config), Err(ImageNameError::Digest(_))));
    }
}
