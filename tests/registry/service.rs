//! As a service: sockets that are handed over, and what the service manager is told.

use crate::support::{Flake, PATIENCE, Registry, eventually, sha256};
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

/// The registry as a service manager starts it. Sockets are handed over as descriptors 3 and 4.
struct Service {
    registry: Registry,
    dir: tempfile::TempDir,
    sockets: [Option<OwnedFd>; 2],
    names: &'static str,
    manager: UnixDatagram,
    child: Option<Child>,
}

impl Service {
    fn new(flake: &Flake, sockets: [Option<OwnedFd>; 2], names: &'static str) -> Self {
        let mut registry = Registry::start(flake, &[("TAG_TTL", "1h")]);
        registry.stop();
        let dir = tempfile::tempdir().unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { registry, dir, sockets, names, manager, child: None }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn run(&mut self, settings: &[(&str, &str)]) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let stdio = |socket: &Option<OwnedFd>| {
            socket.as_ref().map_or_else(Stdio::null, |socket| socket.try_clone().unwrap().into())
        };
        let program = self.registry.command(&[]);
        let mut command = Command::new("/bin/sh");
        command
            // The process that the sockets are for is named in its environment.
            .args(["-c", "LISTEN_PID=$$ exec \"$0\" 3<&0 4>&1 </dev/null >/dev/null"])
            .arg(program.get_program())
            .env_clear()
            .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env_remove("LISTEN")
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .env("LISTEN_FDS", self.sockets.iter().flatten().count().to_string())
            .env("LISTEN_FDNAMES", self.names)
            .envs(settings.iter().copied())
            .stdin(stdio(&self.sockets[0]))
            .stdout(stdio(&self.sockets[1]))
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The next thing that the service manager is told, but for signs of life.
    fn told(&self) -> String {
        loop {
            let mut buffer = [0; 4096];
            let length = self.manager.recv(&mut buffer).unwrap_or_else(|e| panic!("{e}\n{}", self.log()));
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if text != "WATCHDOG=1\n" {
                return text;
            }
        }
    }

    fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.take().unwrap().wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the service\n{}", self.log());
        }
    }
}

fn tcp() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

fn request(mut stream: impl Read + Write, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn sockets_that_are_handed_over_are_served_beside_those_of_listen() {
    let flake = Flake::new("");
    let (socket, address) = tcp();
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("http");
    let unix = UnixListener::bind(&path).unwrap();
    let mut service =
        Service::new(&flake, [Some(socket.into()), Some(unix.into())], "http:forge-registry.socket");
    service.run(&[]);
    assert_eq!(service.told(), "READY=1\n");
    let ok = |answer: std::io::Result<String>| {
        assert!(answer.as_ref().unwrap().starts_with("HTTP/1.1 200"), "{answer:?}")
    };
    ok(request(TcpStream::connect(&address).unwrap(), "/v2/"));
    ok(request(UnixStream::connect(&path).unwrap(), "/v2/"));
    // The address that LISTEN has unless it is set is not listened on.
    assert_eq!(service.log().matches("listening on").count(), 2, "{}", service.log());
    assert!(service.log().contains("client=unix"), "{}", service.log());
    assert_eq!(service.stop(), Some(0));

    let own = service.registry.address.clone();
    service.run(&[("LISTEN", &own)]);
    assert!(service.told().starts_with("STOPPING=1\n"));
    assert_eq!(service.told(), "READY=1\n");
    ok(request(TcpStream::connect(&own).unwrap(), "/v2/"));
    ok(request(TcpStream::connect(&address).unwrap(), "/v2/"));
}

#[test]
fn metrics_have_a_socket_that_is_named_so() {
    let flake = Flake::new("");
    let (socket, address) = tcp();
    let (other, metrics) = tcp();
    let mut service = Service::new(&flake, [Some(socket.into()), Some(other.into())], "http:metrics");
    service.run(&[]);
    assert_eq!(service.told(), "READY=1\n");
    let get = |address: &str, path| request(TcpStream::connect(address).unwrap(), path).unwrap();
    assert!(get(&metrics, "/metrics").contains("\nforge_registry_build_info{version="), "{}", service.log());
    assert!(get(&metrics, "/v2/").starts_with("HTTP/1.1 404"));
    assert!(get(&address, "/v2/").starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/metrics").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_socket_for_something_unknown_is_refused_in_one_line() {
    let flake = Flake::new("");
    let mut service = Service::new(&flake, [Some(tcp().0.into()), None], "gopher");
    service.run(&[]);
    assert_eq!(service.child.take().unwrap().wait().unwrap().code(), Some(2));
    assert_eq!(service.log().lines().count(), 1, "{}", service.log());
    assert!(
        service.log().contains("LISTEN_FDNAMES") && service.log().contains("gopher"),
        "{}",
        service.log()
    );
}

#[test]
fn no_client_is_refused_while_the_service_restarts() {
    let flake = Flake::new("largeMiB = \"32\";");
    let (socket, address) = tcp();
    let mut service = Service::new(&flake, [Some(socket.into()), None], "http");
    service.run(&[]);
    assert_eq!(service.told(), "READY=1\n");
    let manifest = request(TcpStream::connect(&address).unwrap(), "/v2/large/manifests/latest").unwrap();
    let manifest =
        serde_json::from_str::<serde_json::Value>(manifest.split_once("\r\n\r\n").unwrap().1).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (done, address, layer) = (&done, &address, &layer);
                scope.spawn(move || {
                    let mut answers = 0;
                    while !done.load(Ordering::Relaxed) {
                        // One of them downloads all the time.
                        let path = match number {
                            0 => format!("/v2/large/blobs/{layer}"),
                            _ => "/v2/large/manifests/latest".to_owned(),
                        };
                        let mut stream = TcpStream::connect(address).unwrap();
                        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                            .unwrap();
                        let mut answer = Vec::new();
                        stream.read_to_end(&mut answer).unwrap();
                        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
                        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                        assert!(number != 0 || sha256(&answer[body..]) == *layer, "a layer was cut");
                        answers += 1;
                    }
                    answers
                })
            })
            .collect();
        for _ in 0..5 {
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert_eq!(service.stop(), Some(0));
            assert!(service.told().starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="));
            service.run(&[]);
            assert_eq!(service.told(), "READY=1\n");
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
}

#[test]
fn sighup_reads_the_catalog_again_and_says_so() {
    let flake = Flake::new("");
    let (socket, address) = tcp();
    let mut service = Service::new(&flake, [Some(socket.into()), None], "http");
    let catalog = service.dir.path().join("catalog.json");
    let derivation = crate::catalog::derivation(&flake, "hello.image");
    fs::write(&catalog, "{}").unwrap();
    service.run(&[("CATALOG", catalog.to_str().unwrap()), ("FLAKE", "")]);
    assert_eq!(service.told(), "READY=1\n");
    let manifest =
        || request(TcpStream::connect(&address).unwrap(), "/v2/shop/web/manifests/latest").unwrap();
    assert!(manifest().starts_with("HTTP/1.1 404"));

    let reload = || {
        service.signal("-HUP");
        let told = service.told();
        let time = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{told}"));
        assert!(time.trim_end().parse::<u64>().unwrap() > 0);
        service.told()
    };
    fs::write(&catalog, format!(r#"{{ "shop/web": {{ "drvPath": "{derivation}" }} }}"#)).unwrap();
    assert_eq!(reload(), "READY=1\nSTATUS=reloaded: 1 images in the catalog\n");
    // Although it was remembered that there is no such image.
    assert!(manifest().starts_with("HTTP/1.1 200"), "{}", manifest());

    fs::write(&catalog, "{ broken").unwrap();
    assert!(reload().starts_with("READY=1\nSTATUS=not reloaded: CATALOG: "));
    assert!(manifest().starts_with("HTTP/1.1 200"));
    assert!(service.log().contains("ERROR"), "{}", service.log());
}

#[test]
fn the_watchdog_is_fed_while_the_registry_runs_and_not_while_it_hangs() {
    let flake = Flake::new("");
    let mut service = Service::new(&flake, [Some(tcp().0.into()), None], "http");
    service.run(&[("WATCHDOG_USEC", "200000")]);
    assert_eq!(service.told(), "READY=1\n");
    let fed = || {
        let mut buffer = [0; 64];
        let length = service.manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1\n");
    };
    fed();
    fed();
    service.signal("-STOP");
    service.manager.set_nonblocking(true).unwrap();
    let pending = || while service.manager.recv(&mut [0; 64]).is_ok() {};
    eventually("it has stopped", || {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", service.child.as_ref().unwrap().id())).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    });
    pending();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(service.manager.recv(&mut [0; 64]).is_err(), "a process that hangs was taken for well");
    service.signal("-CONT");
    service.manager.set_nonblocking(false).unwrap();
    fed();
}
