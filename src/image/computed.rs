//! Layers that are computed while they are sent: made once, for their digest and their entry list.

use super::{Image, ImageBlob, ImageError, Options, Reader};
use crate::{
    blob::{Source, cache::Finished},
    layer::{self, Contents, EntryList, LayerError, Style},
    nix::StorePath,
    oci::{Descriptor, Digest, media_type},
};
use std::{io, path::Path};
