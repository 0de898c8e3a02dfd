//! Unix sockets that the registry makes itself: those of `LISTEN` and `METRICS_LISTEN`, and the admin socket.
//!
//! A process that is killed leaves its socket's name behind, and the next one takes it over. A name is taken over only if
//! the kernel says that nobody listens there (`ECONNREFUSED`). An owner that accepts too slowly (`EAGAIN`: its backlog is
//! full), or that cannot be reached for another reason, is alive.

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
};
use std::{
    fs, io,
    os::unix::{
        self,
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// A Unix socket in the file system, which is removed when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    path: PathBuf,
    /// The last process to take the name keeps it. An inode alone can be used again.
    mark: (u64, i64, i64),
}

/// A socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A process listens there.
    #[error("it is in use by another process")]
    InUse,
    /// The name is that of something else, which is not ours to delete.
    #[error("it exists already, and is no socket")]
    NotASocket,
    /// It may be in use, and that cannot be found out.
    #[error("it exists already, and cannot be connected to: {0}")]
    Unreachable(io::Error),
    /// The operating system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl UnixSocket {
    /// Makes a socket, in place of one on which nobody listens any more.
    pub fn bind(path: &Path, mode: u32) -> Result<(Self, UnixListener), BindError> {
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
    pub fn can_be_made(path: &Path) -> Result<(), BindError> {
        if is_left_behind(path)? {
            return Ok(());
        }
        drop(unix::net::UnixListener::bind(path)?);
        Ok(fs::remove_file(path)?)
    }
}

/// Whether a socket is there on which nobody listens any more.
fn is_left_behind(path: &Path) -> Result<bool, BindError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(BindError::NotASocket),
        Ok(_) => match reach(path) {
            Ok(()) | Err(Errno::AGAIN) => Err(BindError::InUse),
            Err(Errno::CONNREFUSED) => Ok(true),
            // Its owner has removed it just now.
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(BindError::Unreachable(error.into())),
        },
        Err(_) => Ok(false),
    }
}

/// Connects to a socket, without waiting for its owner to accept.
fn reach(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
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
        assert!(matches!(UnixSocket::bind(&path, 0o600), Err(BindError::InUse)));
        assert!(matches!(UnixSocket::can_be_made(&path), Err(BindError::InUse)));
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
        assert!(matches!(UnixSocket::bind(&path, 0o600), Err(BindError::NotASocket)));
        assert!(matches!(UnixSocket::can_be_made(&path), Err(BindError::NotASocket)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }

    /// An owner that accepts nothing: the kernel takes as many connections as its backlog holds, and refuses the next with
    /// `EAGAIN`.
    #[tokio::test]
    async fn a_socket_whose_backlog_is_full_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let owner = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&owner, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&owner, 0).unwrap();
        let mut queue = Vec::new();
        let error = loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
            match connect(&client, &SocketAddrUnix::new(&path).unwrap()) {
                Ok(()) => queue.push(client),
                Err(error) => break error,
            }
        };
        assert_eq!((error, queue.len()), (Errno::AGAIN, 1));
        let inode = fs::metadata(&path).unwrap().ino();
        assert!(matches!(UnixSocket::bind(&path, 0o600), Err(BindError::InUse)));
        assert!(matches!(UnixSocket::can_be_made(&path), Err(BindError::InUse)));
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "it is the owner's as before");
        drop(owner);
        UnixSocket::bind(&path, 0o600).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_cannot_be_connected_to_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _owner = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(matches!(UnixSocket::bind(&path, 0o600), Err(BindError::Unreachable(_))));
        assert!(path.exists());
    }
}
