//! Faults that a real nix-daemon or evaluator cannot be made to show: they break off, say nonsense, or say nothing.
//! Each is a clear error, and the next request, with the real one back, succeeds.

use crate::{
    bed::Bed,
    socket::{Socket, answer, never_answers},
    support::{Answer, Flake, Registry, eventually, testbed},
};
use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

fn registry(flake: &Flake, variable: &str, socket: &Socket, settings: &[(&str, &str)]) -> Registry {
    let path = socket.path();
    let own = [(variable, path.to_str().unwrap()), ("UNKNOWN_TTL", "0"), ("FAILURE_TTL", "0")];
    Registry::start(flake, &[&own, settings].concat())
}

fn replace(bytes: &mut [u8], from: u64, to: u64) {
    let (from, to) = (from.to_le_bytes(), to.to_le_bytes());
    for word in bytes.chunks_exact_mut(8).filter(|word| *word == from) {
        word.copy_from_slice(&to);
    }
}

#[test]
fn a_daemon_that_is_silent_or_talks_nonsense_is_503_and_the_next_request_succeeds() {
    let flake = Flake::new("");
    let socket = Socket::of("NIX_DAEMON_SOCKET");
    let registry = registry(&flake, "NIX_DAEMON_SOCKET", &socket, &[("NIX_DAEMON_TIMEOUT", "1")]);
    let unavailable = |answer: Answer, part: &str| {
        let message = answer.is_error(503, "UNAVAILABLE");
        assert!(message.contains("nix-daemon at") && message.contains(part), "{message}");
        assert_ne!(answer.header("retry-after"), "");
    };
    socket.serve("silent", never_answers);
    unavailable(registry.manifest("hello", "latest"), "no answer within 1 s");
    socket.serve("gone", |_| Ok(()));
    unavailable(registry.manifest("hello", "latest"), "");
    socket.serve("nonsense", |mut stream| stream.write_all(&[0xa5; 4096]));
    unavailable(registry.manifest("hello", "latest"), "magic");
    // STDERR_LAST becomes a number that no protocol has.
    socket.proxy("unknown-message", |bytes, _| {
        replace(bytes, 0x616c_7473, 0x1234_5678);
        true
    });
    unavailable(registry.manifest("hello", "latest"), "0x12345678");
    socket.restore();
    registry.pull("hello", "latest");
}

#[test]
fn a_daemon_that_dies_anywhere_in_a_build_is_an_error_and_the_next_request_builds() {
    let names: Vec<String> = (0..24).map(|n| format!("image{n}")).collect();
    let scripts: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), "echo a line >&2; cp $hello $out")).collect();
    let flake = Flake::of_scripts(&scripts);
    let socket = Socket::of("NIX_DAEMON_SOCKET");
    let registry = registry(&flake, "NIX_DAEMON_SOCKET", &socket, &[]);
    let mut failed = 0;
    for (n, name) in names.iter().enumerate() {
        let end = 24 + 40 * n as u64;
        socket.proxy(name, move |bytes, passed| {
            bytes.truncate(usize::try_from(end.saturating_sub(passed)).unwrap());
            passed + (bytes.len() as u64) < end
        });
        let answer = registry.manifest(name, "latest");
        if answer.status != 200 {
            answer.is_error(503, "UNAVAILABLE");
            failed += 1;
        }
        socket.restore();
        registry.pull(name, "latest");
    }
    assert!(failed > 5, "only {failed} of the breaks were noticed");
}

#[test]
fn an_activity_that_the_protocol_did_not_have_is_an_error_and_no_hang() {
    // The activity `Build`, and the result `BuildLogLine`. One image for each: the daemon may go on with a build whose client
    // has left, and then there is nothing to say of the next one.
    let cases = [("activity", 105), ("result", 101)];
    let flake = Flake::of_scripts(&cases.map(|(name, _)| (name, "echo a line >&2; cp $hello $out")));
    let socket = Socket::of("NIX_DAEMON_SOCKET");
    let registry = registry(&flake, "NIX_DAEMON_SOCKET", &socket, &[]);
    for (name, number) in cases {
        socket.proxy(name, move |bytes, _| {
            replace(bytes, number, 9999);
            true
        });
        let message = registry.manifest(name, "latest").is_error(503, "UNAVAILABLE");
        let version = testbed("TESTBED_NIX_VERSION");
        for part in ["Type(270f)", &format!("Nix {version}, protocol 1.")] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
    }
    socket.restore();
    for (name, _) in cases {
        registry.pull(name, "latest");
    }
}

#[test]
fn an_evaluator_that_is_silent_endless_or_talks_nonsense_is_an_error_and_the_next_request_succeeds() {
    let flake = Flake::new("");
    let socket = Socket::of("EVALUATOR_SOCKET");
    let registry = registry(&flake, "EVALUATOR_SOCKET", &socket, &[("EVALUATION_TIMEOUT", "2")]);
    let ask = |status: u16, code: &str, part: &str| {
        let message = registry.manifest("hello", "latest").is_error(status, code);
        assert!(message.contains(part), "{message}");
    };
    let until_the_end = |mut stream: &UnixStream| io::copy(&mut stream, &mut io::sink());

    socket.serve("silent", never_answers);
    ask(504, "UNKNOWN", "EVALUATION_TIMEOUT");
    socket.serve("gone", move |stream| until_the_end(&stream).map(drop));
    ask(503, "UNAVAILABLE", "closed the connection without an answer");
    socket.serve("endless", move |mut stream| {
        until_the_end(&stream)?;
        loop {
            stream.write_all(&[b'a'; 1 << 16])?;
        }
    });
    ask(503, "UNAVAILABLE", "longer than");
    socket.serve("nonsense", move |mut stream| {
        let expression = io::read_to_string(&stream)?;
        stream.write_all(answer(&expression, "{\"found\":7}").as_bytes())?;
        stream.write_all(b"\n\xff\xfe@nix {broken")
    });
    ask(503, "UNAVAILABLE", "unexpected value");
    socket.serve("killed", move |mut stream| {
        until_the_end(&stream)?;
        stream.write_all(b"\x1b[31mout of memory\x1b[0m\n")
    });
    ask(503, "UNAVAILABLE", "its last line was: out of memory");
    // It says why, and hangs up without having read what it is asked.
    socket.serve("refuses", move |mut stream| stream.write_all(b"too many evaluations\n"));
    ask(503, "UNAVAILABLE", "its last line was: too many evaluations");
    socket.restore();
    registry.pull("hello", "latest");
}

#[test]
fn roots_are_not_asked_for_one_by_one_of_a_daemon_that_does_not_answer() {
    let flake = Flake::of_scripts(&["a", "b", "c"].map(|name| (name, "cp $hello $out; : $name")));
    let socket = Socket::of("NIX_DAEMON_SOCKET");
    let mut registry = registry(&flake, "NIX_DAEMON_SOCKET", &socket, &[("NIX_DAEMON_TIMEOUT", "1")]);
    for name in ["a", "b", "c"] {
        registry.pull(name, "latest");
    }
    registry.stop();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    socket.serve("silent", move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        never_answers(stream)
    });
    registry.run();
    eventually("the registry gives up", || registry.logged("GC roots were not registered") == 1);
    assert_eq!((asked.load(Ordering::SeqCst), registry.logged("images=3")), (1, 1), "{}", registry.log());
}

#[test]
fn a_daemon_that_is_restarted_between_or_during_builds_is_found_again() {
    let flake = Flake::of_scripts(&[
        ("before", "cp $hello $out"),
        ("after", "cp $hello $out"),
        ("during", "echo it has begun >&2; sleep 4; cp $hello $out"),
    ]);
    let bed = Bed::up();
    let registry = bed.registry(&flake, &[]);
    registry.pull("before", "latest");
    bed.daemon("restart-daemon");
    registry.pull("after", "latest");
    bed.daemon("stop-daemon");
    registry.pull("before", "latest");
    bed.daemon("start-daemon");
    thread::scope(|scope| {
        let pull = scope.spawn(|| registry.manifest("during", "latest"));
        eventually("the build has begun", || registry.logged("it has begun") == 1);
        bed.daemon("restart-daemon");
        pull.join().unwrap().is_error(503, "UNAVAILABLE");
    });
    registry.pull("during", "latest");
}
