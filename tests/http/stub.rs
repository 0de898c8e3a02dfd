//! A registry in memory, a server for it, and a client that sends exactly what it is told to.

use bytes::Bytes;
use forge_registry::{
    blob::{Blob, Buffers, Fingerprint, Mapping},
    encode::Encoders,
    http::{Api, Listener, ServerLimits, Service, route::RouteLimits, serve},
    metrics::Measured,
    oci::{Digest, Document, Reference, RepositoryName, Tag, media_type},
    registry::{Caller, ManifestAnswer, Patience, Readiness, RegistryError},
};
use std::{collections::HashMap, fs::File, io::Write, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
};

/// Bytes of the large blob: more than any socket buffer takes.
pub const LARGE: u64 = 64 << 20;

/// Far more than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Stub {
    pub large: Blob,
    pub ready: bool,
    /// Somebody has asked for what never comes.
    pub asked: Arc<Notify>,
}

impl Stub {
    pub fn new() -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"large").unwrap();
        Self::of(file, LARGE)
    }

    /// With a large blob that begins with what is in this file.
    pub fn of(file: File, length: u64) -> Self {
        file.set_len(length).unwrap();
        let fingerprint = Fingerprint::of(&file.metadata().unwrap());
        let mapping = Arc::new(Mapping::new(file, "large".into(), fingerprint).unwrap());
        Self {
            large: Blob::mapped(mapping, 0, length, Buffers::for_chunks(64 << 20)).unwrap(),
            ready: true,
            asked: Arc::default(),
        }
    }
}

pub fn oci() -> Document {
    Document::new(media_type::OCI_MANIFEST, r#"{"form":"oci"}"#)
}

pub fn docker() -> Document {
    Document::new(media_type::DOCKER_MANIFEST, r#"{"form":"docker"}"#)
}

pub const SMALL: &[u8] = b"0123456789";

/// What the stub calls the large blob; the content does not matter here.
pub fn large_digest() -> Digest {
    Digest::of(b"large")
}

impl Api for Stub {
    async fn manifest(
        self: &Arc<Self>,
        repository: &RepositoryName,
        reference: &Reference,
        caller: &Caller,
    ) -> Result<ManifestAnswer, RegistryError> {
        let message = "building hello.drv failed\n last words".to_owned();
        match repository.as_str() {
            "failing" => Err(RegistryError::BuildFailed { message, log_tail: vec!["last words".into()] }),
            "buggy" => panic!("secret"),
            "slow" => {
                tokio::time::sleep(Duration::from_millis(400)).await;
                Ok(ManifestAnswer { documents: vec![oci(), docker()] })
            }
            "endless" => {
                self.asked.notify_one();
                std::future::pending().await
            }
            "building" if caller.patience == Patience::AsksOnce => {
                Ok(ManifestAnswer { documents: vec![oci(), docker()] })
            }
            "building" => {
                let retry_after = Duration::from_secs(7);
                Err(RegistryError::InProgress { message: "hello is being built".into(), retry_after })
            }
            "zstd" => {
                let layer = format!(r#"{{"layers":["{}"]}}"#, media_type::OCI_LAYER_ZSTD);
                Ok(ManifestAnswer {
                    documents: vec![Document::new(media_type::OCI_MANIFEST, layer), docker()],
                })
            }
            _ => match reference {
                Reference::Tag(tag) if tag.as_str() == "latest" => {
                    Ok(ManifestAnswer { documents: vec![oci(), docker()] })
                }
                Reference::Digest(digest) if *digest == docker().digest => {
                    Ok(ManifestAnswer { documents: vec![docker()] })
                }
                _ => Err(RegistryError::ManifestUnknown { message: format!("no {reference}") }),
            },
        }
    }

    async fn blob(
        self: &Arc<Self>,
        repository: &RepositoryName,
        digest: &Digest,
        _: &Caller,
    ) -> Result<Blob, RegistryError> {
        if *digest == large_digest() {
            Ok(self.large.clone())
        } else if *digest == Digest::of(SMALL) {
            Ok(Blob::memory(Bytes::from_static(SMALL)))
        } else if *digest == Digest::of(b"") {
            Ok(Blob::memory(Bytes::new()))
        } else {
            Err(RegistryError::BlobUnknown { repository: repository.clone(), digest: *digest })
        }
    }

    async fn tags(self: &Arc<Self>, _: &RepositoryName, _: &Caller) -> Result<Vec<Tag>, RegistryError> {
        Ok(["1.0", "1.1", "latest"].iter().map(|t| t.parse().unwrap()).collect())
    }

    async fn catalog(self: &Arc<Self>, _: &Caller) -> Result<Vec<RepositoryName>, RegistryError> {
        Ok(["app/web", "packages/hello"].iter().map(|n| n.parse().unwrap()).collect())
    }

    async fn readiness(self: &Arc<Self>) -> Readiness {
        let daemon = if self.ready { Ok(()) } else { Err("connection refused".to_owned()) };
        Readiness { parts: vec![("nix-daemon", daemon)] }
    }

    async fn measured(self: &Arc<Self>) -> Arc<Measured> {
        Arc::default()
    }
}

pub struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<u32>,
}

impl Server {
    pub async fn start(limits: ServerLimits) -> Self {
        Self::with(Stub::new(), limits, PATIENCE).await
    }

    pub async fn with(stub: Stub, limits: ServerLimits, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Service::new(Arc::new(stub), RouteLimits::default(), Encoders::new(2, 0));
        let shutdown = async move {
            let _ = stopped.await;
        };
        let served = tokio::spawn(serve(vec![Listener::Tcp(listener)], service, limits, shutdown, grace));
        Self { address, stop: Some(stop), served }
    }

    /// Begins the end.
    pub fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// How many connections were cut.
    pub async fn ended(self) -> u32 {
        tokio::time::timeout(PATIENCE, self.served).await.expect("an end").unwrap()
    }

    pub async fn connect(&self) -> Client {
        Client::of(TcpStream::connect(self.address).await.unwrap())
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let mut client = self.connect().await;
        client.request(method, path, headers).await;
        client.answer(method == "HEAD").await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }
}

pub struct Client {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    /// Lower-case names.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub fn length(&self) -> Option<u64> {
        self.header("content-length").map(|l| l.parse().unwrap())
    }
}

impl Client {
    pub fn of(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn request(&mut self, method: &str, path: &str, headers: &[&str]) {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        self.send(
            format!("{method} {path} HTTP/1.1\r\nHost: registry.test:6443\r\n{headers}\r\n").as_bytes(),
        )
        .await;
    }

    /// More bytes; `false` at the end of the connection, in whatever way it came.
    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 1 << 16];
        let read =
            tokio::time::timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("bytes or an end");
        let n = read.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..n]);
        n > 0
    }

    /// The head of the next response; `None` if the connection ends instead.
    pub async fn head(&mut self) -> Option<Answer> {
        let end = loop {
            match self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(end) => break end,
                None if self.fill().await => {}
                None => return None,
            }
        };
        let rest = self.buffer.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let mut status = lines.next().unwrap().splitn(3, ' ').skip(1);
        Some(Answer {
            status: status.next().unwrap().parse().unwrap(),
            reason: status.next().unwrap_or_default().to_owned(),
            headers: lines
                .map(|line| line.split_once(": ").unwrap_or((line, "")))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: Vec::new(),
        })
    }

    /// The next response; `None` if the connection ends before one begins. A body that is cut is short.
    pub async fn answer(&mut self, head: bool) -> Option<Answer> {
        let mut answer = self.head().await?;
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks().await;
            return Some(answer);
        }
        if !head && answer.status != 304 {
            self.body(&mut answer).await;
        }
        Some(answer)
    }

    /// The body of a response whose head has been read; one that is cut is short.
    pub async fn body(&mut self, answer: &mut Answer) {
        let length = answer.length().unwrap_or(0) as usize;
        while self.buffer.len() < length && self.fill().await {}
        let rest = self.buffer.split_off(length.min(self.buffer.len()));
        answer.body = std::mem::replace(&mut self.buffer, rest);
    }

    /// A chunked body (RFC 9112, section 7.1); it must not be cut.
    async fn chunks(&mut self) -> Vec<u8> {
        let (mut body, mut at) = (Vec::new(), 0);
        loop {
            let line = loop {
                match self.buffer[at..].windows(2).position(|w| w == b"\r\n") {
                    Some(end) => break at + end,
                    None => assert!(self.fill().await, "cut"),
                }
            };
            let size =
                usize::from_str_radix(std::str::from_utf8(&self.buffer[at..line]).unwrap(), 16).unwrap();
            let end = line + 2 + size;
            while self.buffer.len() < end + 2 {
                assert!(self.fill().await, "cut");
            }
            body.extend_from_slice(&self.buffer[line + 2..end]);
            assert_eq!(&self.buffer[end..end + 2], b"\r\n");
            at = end + 2;
            if size == 0 {
                self.buffer.drain(..at);
                return body;
            }
            if at > 1 << 20 {
                self.buffer.drain(..at);
                at = 0;
            }
        }
    }

    /// Whether the server closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill().await
    }

    /// Moves what has arrived to `received`; whether the connection has ended.
    pub async fn is_closed_after(&mut self, received: &mut Vec<u8>) -> bool {
        received.append(&mut self.buffer);
        !self.fill().await
    }
}
