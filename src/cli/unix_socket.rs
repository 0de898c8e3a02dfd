//! Unix sockets that the registry makes itself.

use std::{
    fs, io,
    os::unix::{
        self,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// A Unix socket in the file system, which is removed when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    path: PathBuf,
    /// Whoever takes the name gets to keep it. An inode alone can be used again.
    mark: (u64, i64, i64),
}

impl UnixSocket {
    /// Makes a socket. One that is there already is replaced if nobody listens on it any more, as after a crash; anything
    /// else that has this name stays.
    pub fn bind(path: &Path, mode: u32) -> io::Result<(Self, UnixListener)> {
        if is_left_behind(path)? {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        // Until here it has the mode that the umask leaves, which with any usual one lets nobody else in.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        let mark = mark(&fs::symlink_metadata(path)?);
        Ok((Self { path: path.into(), mark }, listener))
    }

    /// Whether a socket could be made there; none is there afterwards that was not there before.
    pub fn can_be_made(path: &Path) -> io::Result<()> {
        if is_left_behind(path)? {
            return Ok(());
        }
        drop(unix::net::UnixListener::bind(path)?);
        fs::remove_file(path)
    }
}

/// Whether a socket is there on which nobody listens any more. That there is anything else is an error.
fn is_left_behind(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no socket"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        },
        Err(_) => Ok(false),
    }
}

fn mark(found: &fs::Metadata) -> (u64, i64, i64) {
    (found.ino(), found.ctime(), found.ctime_nsec())
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| mark(&found) == self.mark) {
            // Where it cannot be removed, it is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_on_which_nobody_listens_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (first, listener) = UnixSocket::bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(UnixSocket::bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(UnixSocket::can_be_made(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        UnixSocket::can_be_made(&path).unwrap();
        let (second, _listener) = UnixSocket::bind(&path, 0o666).unwrap();
        drop(first);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o666, "it is not the first one's any more");
        drop(second);
        assert!(!path.exists());
        UnixSocket::can_be_made(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "kept").unwrap();
        assert!(UnixSocket::bind(&path, 0o600).is_err());
        assert!(UnixSocket::can_be_made(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }
}
