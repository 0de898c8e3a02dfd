//! The forms of image names.

use crate::oci::RepositoryName;

/// A repository name in a form that means something in a flake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// `packages/<attr>`: `<flake>#<attr>.image`, else an image made of `<flake>#<attr>`.
    Package {
        /// The attribute path, with dots.
        attr: String,
    },
    /// `applications/<attr>/<image>`: `<image>` in the folder `<flake>#<attr>.containers`.
    Application {
        /// The attribute path, with dots.
        attr: String,
        /// The archive's name in the folder, without its endings.
        image: String,
    },
    /// `<attr>`: `<flake>#<attr>.image`, else `<flake>#<attr>` itself.
    Attribute {
        /// The attribute path, with dots.
        attr: String,
    },
}

/// The name has none of these forms.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} has no form that this registry serves: use packages/<attribute>, applications/<attribute>/<image> \
     or <attribute>, for instance packages/hello"
)]
pub struct ImageNameError {
    name: RepositoryName,
}

impl ImageName {
    /// Recognises the form of a name.
    pub fn parse(name: &RepositoryName) -> Result<Self, ImageNameError> {
        let components: Vec<&str> = name.components().collect();
        Ok(match *components {
            ["packages", attr] => Self::Package { attr: attr.into() },
            ["applications", attr, image] => Self::Application { attr: attr.into(), image: image.into() },
            [attr] => Self::Attribute { attr: attr.into() },
            _ => return Err(ImageNameError { name: name.clone() }),
        })
    }

    /// The attribute path of the package or application.
    pub fn attr(&self) -> &str {
        match self {
            Self::Package { attr } | Self::Application { attr, .. } | Self::Attribute { attr } => attr,
        }
    }

    /// The attribute paths that it can be, the first that exists counts. An element may contain dots.
    pub fn candidates(&self) -> Vec<Vec<&str>> {
        match self {
            Self::Package { attr } => vec![vec![attr, "image"]],
            Self::Application { attr, .. } => vec![vec![attr, "containers"]],
            Self::Attribute { attr } => vec![vec![attr, "image"], vec![attr]],
        }
    }

    /// The attribute path of the package that an image is made of where no candidate exists.
    pub fn package(&self) -> Option<Vec<&str>> {
        match self {
            Self::Package { attr } => Some(vec![attr]),
            Self::Application { .. } | Self::Attribute { .. } => None,
        }
    }

    /// The same form with another attribute, as users would type it.
    pub fn with_attr(&self, attr: &str) -> String {
        match self {
            Self::Package { .. } => format!("packages/{attr}"),
            Self::Application { image, .. } => format!("applications/{attr}/{image}"),
            Self::Attribute { .. } => attr.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms_and_no_other() {
        let parse = |name: &str| ImageName::parse(&name.parse().unwrap());
        assert_eq!(parse("packages/a.b"), Ok(ImageName::Package { attr: "a.b".into() }));
        assert_eq!(
            parse("applications/shop/web"),
            Ok(ImageName::Application { attr: "shop".into(), image: "web".into() })
        );
        assert_eq!(parse("hello"), Ok(ImageName::Attribute { attr: "hello".into() }));
        assert_eq!(parse("packages"), Ok(ImageName::Attribute { attr: "packages".into() }));
        for other in ["packages/a/b", "applications/a", "library/hello", "applications/a/b/c"] {
            assert!(parse(other).unwrap_err().to_string().contains("packages/<attribute>"), "{other}");
        }
    }
}
