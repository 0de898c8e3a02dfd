//! The settings of access control.

use super::{
    ConfigError, parse,
    parse::{Bad, absolute, count, nonzero},
    positive,
    variables::Raw,
};
use crate::access::{AccessSettings, Files, Proxies};
use std::num::NonZeroU32;

/// `AUTH_…`; nothing if no file of them is set.
pub(super) fn access(raw: &Raw) -> Result<Option<AccessSettings>, ConfigError> {
    let path = |name, value: &Option<String>| {
        value.clone().map(|file| parse(name, Some(file), absolute)).transpose()
    };
    let files = Files {
        htpasswd: path("AUTH_HTPASSWD", &raw.auth_htpasswd)?,
        tokens: path("AUTH_TOKENS", &raw.auth_tokens)?,
        rules: path("AUTH_RULES", &raw.auth_rules)?,
    };
    let settings = AccessSettings {
        realm: parse("AUTH_REALM", raw.auth_realm.clone(), realm)?,
        max_failures: parse("AUTH_MAX_FAILURES", raw.auth_max_failures.clone(), failures)?,
        failure_window: parse("AUTH_FAILURE_WINDOW", raw.auth_failure_window.clone(), positive)?,
        max_checks: match raw.auth_max_checks.clone() {
            Some(number) => parse("AUTH_MAX_CHECKS", Some(number), nonzero)?,
            None => super::values::processors(),
        },
        max_queued_checks: parse("AUTH_MAX_QUEUED_CHECKS", raw.auth_max_queued_checks.clone(), count)?,
        max_remembered: parse("MAX_REMEMBERED", raw.max_remembered.clone(), nonzero)?,
        files,
    };
    Ok(Some(settings).filter(|settings| settings.files != Files::default()))
}

/// `TRUSTED_PROXIES`
pub(super) fn proxies(text: &str) -> Result<Proxies, Bad> {
    Proxies::parse(text)
        .ok_or(Bad::new("addresses, networks such as 10.0.0.0/8, and unix, separated by commas"))
}

fn realm(text: &str) -> Result<String, Bad> {
    let is_plain = text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\');
    match is_plain && text.len() <= 100 {
        true => Ok(text.to_owned()),
        false => {
            Err(Bad::new("at most 100 printable characters of ASCII without quotation marks and backslashes"))
        }
    }
}

fn failures(text: &str) -> Result<NonZeroU32, Bad> {
    text.parse().map_err(|_| Bad::new("a whole number, 1 or more"))
}
