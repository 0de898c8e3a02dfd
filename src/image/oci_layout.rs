//! OCI image layouts, as a folder or in an archive (image-spec, image-layout.md).
use super::{Image, ImageError, contents::Contents};
pub(super) fn is_one(contents: &Contents<'_>) -> bool {
    contents.has("index.json")
}
pub(super) fn read(contents: &mut Contents<'_>) -> Result<Image, ImageError> {
    Err(contents.invalid("not yet"))
}
