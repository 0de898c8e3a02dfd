//! Walks the headers of a tar archive: ustar, PAX and GNU.
//!
//! ```text
//! archive ::= (extension* header data padding)* zero-block zero-block zeroes*
//! header  ::= 512 bytes: name 100, …, size 12 (octal, or binary if the first bit is set) at 124, checksum 8 at 148,
//!             type at 156, link name 100 at 157, "ustar" at 257, name prefix 155 at 345
//! ```
//! (POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".) The `tar` crate reads
//! extensions of any length into memory and cannot be told not to, hence this walk; it knows no more of an archive
//! than names, sizes and links.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// A name may be as long as Linux allows a path to be, and PAX headers may carry extended attributes beside it.
const MAX_EXTENSION: u64 = 1 << 20;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// Another member, named from the root of the archive.
    HardLink(Vec<u8>),
    /// Another member, named from the folder of this one.
    SymLink(Vec<u8>),
    Folder,
    /// Something that has no bytes to serve; the words for it.
    Special(&'static str),
}

/// A member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes that follow the header, without padding.
    pub(super) size: u64,
}

/// What an archive is read from: knows how to get past bytes that nobody wants.
pub(super) trait Input: BufRead {
    fn skip(&mut self, n: u64) -> io::Result<()>;
}

/// A file, in which what is not wanted is not read.
pub(super) struct Seekable<R>(pub(super) io::BufReader<R>);

impl<R: Read> Read for Seekable<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<R: Read> BufRead for Seekable<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.0.consume(n);
    }
}

impl<R: Read + Seek> Input for Seekable<R> {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        match i64::try_from(n) {
            Ok(n) => self.0.seek_relative(n),
            Err(_) => self.0.seek(SeekFrom::Start(u64::MAX)).map(|_| ()),
        }
    }
}

impl Input for &mut super::decompress::Chunks {
    fn skip(&mut self, n: u64) -> io::Result<()> {
        if io::copy(&mut self.by_ref().take(n), &mut io::sink())? == n {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// A walk over an archive.
pub(super) struct Walk<I> {
    input: I,
    /// Bytes from the start of the archive to where `input` is.
    position: u64,
    /// Bytes of the current member's data, and after them of padding, that have not been consumed.
    data_left: u64,
    padding_left: u64,
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<I: Input> Walk<I> {
    pub(super) fn new(input: I) -> Self {
        Self { input, position: 0, data_left: 0, padding_left: 0 }
    }

    /// Bytes from the start of the archive: right after [`Self::next`], where the member's data begin.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Where the current member's data and their padding end; none if that is beyond all numbers.
    pub(super) fn end(&self) -> Option<u64> {
        self.position.checked_add(self.data_left)?.checked_add(self.padding_left)
    }

    /// The current member's data.
    pub(super) fn data(&mut self) -> Data<'_, I> {
        Data(self)
    }

    /// The next member, or none at the end of the archive, which has then been read to its last byte.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.finish_data()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header.as_old().size)?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(until_nul(self.extension(size)?)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(self.extension(size)?)),
                EntryType::XHeader => extensions.add(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.member(&header, extensions, size).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header, extensions: Extensions, size: u64) -> io::Result<Member> {
        let name = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            let link = extensions.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
            link.unwrap_or_default()
        };
        let entry_type = header.entry_type();
        let sparse = extensions.sparse || entry_type.is_gnu_sparse();
        let kind = match entry_type {
            _ if sparse => Kind::Special("a sparse file"),
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Link => Kind::HardLink(link()),
            EntryType::Symlink => Kind::SymLink(link()),
            EntryType::Directory => Kind::Folder,
            EntryType::Char | EntryType::Block => Kind::Special("a device"),
            EntryType::Fifo => Kind::Special("a FIFO"),
            _ => Kind::Special("of a type that is not known"),
        };
        // As all other readers have it, only what can have data does, whatever the header says.
        let has_data = sparse || kind == Kind::File || kind == Kind::Special("of a type that is not known");
        let size = if has_data { extensions.size.unwrap_or(size) } else { 0 };
        if entry_type.is_gnu_sparse() {
            let mut more = header.as_gnu().is_some_and(|gnu| gnu.is_extended());
            while more {
                more = self.block()?.is_some_and(|block| block[504] == 1);
            }
        }
        self.data_left = size;
        self.padding_left = padding(size);
        Ok(Member { name, kind, size })
    }

    /// Goes to the next block boundary after the current member.
    fn finish_data(&mut self) -> io::Result<()> {
        let Some(end) = self.end() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        if end > self.position {
            self.input.skip(end - self.position)?;
            self.position = end;
            (self.data_left, self.padding_left) = (0, 0);
        }
        Ok(())
    }

    /// The next header that is not zeroes; none at the end.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|b| *b == 0) {
            self.only_zeroes_follow()?;
            return Ok(None);
        }
        if !is_header(&block) {
            return Err(invalid(format!("what is at byte {} is no tar header", self.position - BLOCK)));
        }
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    fn only_zeroes_follow(&mut self) -> io::Result<()> {
        loop {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(());
            }
            if let Some(n) = available.iter().position(|b| *b != 0) {
                let at = self.position + n as u64;
                return Err(invalid(format!("garbage follows the end of the archive, at byte {at}")));
            }
            let n = available.len();
            self.input.consume(n);
            self.position += n as u64;
        }
    }

    /// 512 bytes, or none if the input ends exactly here.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK as usize]>> {
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK as usize];
        self.input.read_exact(&mut block)?;
        self.position += BLOCK;
        Ok(Some(block))
    }

    /// The data of an extension, which have to fit into memory.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(invalid(format!("an extended header of {size} bytes; {MAX_EXTENSION} are allowed")));
        }
        (self.data_left, self.padding_left) = (size, padding(size));
        let mut data = Vec::new();
        self.data().read_to_end(&mut data)?;
        Ok(data)
    }
}

/// [`Read::read`] for what has a buffer.
pub(super) fn read_buffered(input: &mut impl BufRead, buf: &mut [u8]) -> io::Result<usize> {
    let available = input.fill_buf()?;
    let n = available.len().min(buf.len());
    buf[..n].copy_from_slice(&available[..n]);
    input.consume(n);
    Ok(n)
}

/// The data of the current member. Ending before all of them have been read is an error.
pub(super) struct Data<'w, I>(&'w mut Walk<I>);

impl<I: Input> Read for Data<'_, I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_buffered(self, buf)
    }
}

impl<I: Input> BufRead for Data<'_, I> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.0.data_left == 0 {
            return Ok(&[]);
        }
        let available = self.0.input.fill_buf()?;
        if available.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let n = usize::try_from(self.0.data_left).unwrap_or(usize::MAX).min(available.len());
        Ok(&available[..n])
    }

    fn consume(&mut self, n: usize) {
        self.0.input.consume(n);
        self.0.position += n as u64;
        self.0.data_left -= n as u64;
    }
}

/// What extended headers say of the member that follows.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Extensions {
    /// Takes over the records of a PAX header: `"%d %s=%s\n", length, keyword, value`.
    fn add(&mut self, mut records: &[u8]) -> io::Result<()> {
        let malformed = || invalid("a malformed PAX header");
        // Some writers pad the records with NUL.
        while records.first().is_some_and(|b| *b != 0) {
            let space = records.iter().take(20).position(|b| *b == b' ').ok_or_else(malformed)?;
            let length = std::str::from_utf8(&records[..space]).ok().and_then(|n| n.parse::<usize>().ok());
            let length = length.filter(|n| *n > space + 1 && *n <= records.len()).ok_or_else(malformed)?;
            let (record, rest) = records.split_at(length);
            let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], record[equals + 1..].to_vec());
            match key {
                b"path" if !self.sparse => self.name = Some(value),
                b"linkpath" => self.link = Some(value),
                b"size" => {
                    let size = String::from_utf8(value).ok().and_then(|size| size.parse().ok());
                    self.size = Some(size.ok_or_else(malformed)?);
                }
                b"GNU.sparse.name" => (self.name, self.sparse) = (Some(value), true),
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            records = rest;
        }
        Ok(())
    }
}

/// Whether 512 bytes are a header: whether the checksum is right, which is all that the oldest archives have.
pub(super) fn is_header(block: &[u8]) -> bool {
    let Some(block) = block.first_chunk::<{ BLOCK as usize }>() else { return false };
    let summed = || block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
    let unsigned: u64 = summed().map(u64::from).sum();
    // Some old writers added signed bytes.
    let signed: i64 = summed().map(|b| i64::from(b as i8)).sum();
    let stored = number(&block[148..156]);
    stored.is_ok_and(|n| n == unsigned || i64::try_from(n) == Ok(signed))
}

/// A number in octal digits, or in binary if the first bit is set.
fn number(field: &[u8]) -> io::Result<u64> {
    let overflow = || invalid("a number in a tar header does not fit 64 bits");
    match field {
        [0xff, ..] => Err(invalid("a negative number in a tar header")),
        [first, rest @ ..] if first & 0x80 != 0 => rest
            .iter()
            .try_fold(u64::from(first & 0x7f), |n, b| Some(n.checked_mul(256)? + u64::from(*b)))
            .ok_or_else(overflow),
        _ => {
            let digits = field.iter().skip_while(|b| matches!(b, b' ' | 0));
            let digits = digits.take_while(|b| !matches!(b, b' ' | 0));
            digits.copied().try_fold(0u64, |n, b| match b {
                b'0'..=b'7' => Ok(n.checked_mul(8).ok_or_else(overflow)? + u64::from(b - b'0')),
                _ => Err(invalid("a malformed number in a tar header")),
            })
        }
    }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|b| *b == 0) {
        name.truncate(end);
    }
    name
}

/// Bytes from the end of data to the next block.
fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}
