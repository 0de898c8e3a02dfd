//! The registry never starts a program. A seccomp filter makes sure of it, even for code that an attacker brings.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;

/// Why the filter is not in force.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The filter cannot be compiled for this processor.
    #[error("no seccomp filter for this processor: {0}")]
    Unsupported(seccompiler::BackendError),
    /// The kernel refuses it.
    #[error("the kernel refuses the seccomp filter: {0}")]
    Refused(seccompiler::Error),
}

/// From here on `execve` and `execveat` fail with `EPERM`, in every thread, for ever.
pub fn deny_exec() -> Result<(), SeccompError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(SeccompError::Unsupported)?;
    let rules = BTreeMap::from([(libc::SYS_execve, vec![]), (libc::SYS_execveat, vec![])]);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch)
        .and_then(TryInto::try_into)
        .map_err(SeccompError::Unsupported)?;
    // This sets no_new_privs as well, without which only root may install a filter.
    seccompiler::apply_filter_all_threads(&program).map_err(SeccompError::Refused)
}
