//! Start-up and shutdown.

fn main() {}
