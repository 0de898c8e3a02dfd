//! What the filter does, in a process of its own, since it cannot be undone.

use std::{io::ErrorKind, process::Command, sync::mpsc, thread};

#[test]
fn after_the_filter_no_thread_can_start_a_program() {
    let start = || Command::new("true").status();
    assert!(start().unwrap().success());
    let (denied, is_denied) = mpsc::channel();
    let (begun, has_begun) = mpsc::channel();
    let earlier = thread::spawn(move || {
        begun.send(()).unwrap();
        is_denied.recv().unwrap();
        start()
    });
    has_begun.recv().unwrap();
    forge_registry::seccomp::deny_exec().unwrap();
    denied.send(()).unwrap();
    for attempt in [start(), earlier.join().unwrap(), thread::spawn(start).join().unwrap()] {
        assert_eq!(attempt.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
