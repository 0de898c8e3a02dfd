//! How a container of a package is to run, as the flake states it beside the package: the fields of an image
//! configuration's `config` (image-spec, config.md, "Properties").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The fields, and what each may be.
const ACCEPTED: [(&str, &str); 9] = [
    ("Entrypoint", "a list of strings"),
    ("Cmd", "a list of strings"),
    ("Env", "a list of strings such as \"NAME=value\""),
    ("User", "a string such as \"1000:1000\""),
    ("WorkingDir", "an absolute path"),
    ("ExposedPorts", "a set such as { \"80/tcp\" = { }; }"),
    ("Volumes", "a set such as { \"/data\" = { }; }"),
    ("Labels", "a set of strings"),
    ("StopSignal", "a string such as \"SIGINT\""),
];

/// How a container is to run; what is not stated is up to the package and the client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Settings {
    /// Whom the program runs as: `user`, `uid`, `user:group`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Ports, each `80`, `80/tcp` or `80/udp`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Variables, each `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program and its first arguments; an empty list means that there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments that a user can replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Folders whose contents outlive the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Where the program starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What asks the program to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// `{}`, which Go's JSON has for the members of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Empty {}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// They are not a set of fields.
    #[error("it is {found}, not a set of fields; {}", accepted())]
    NotASet {
        /// What it is.
        found: &'static str,
    },
    /// There is no such field.
    #[error("it has the unknown field {field:?}; {}", accepted())]
    Unknown {
        /// Its name.
        field: String,
    },
    /// A field has a value of another kind.
    #[error("its {field} is {found}; accepted is {accepted}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it is.
        found: String,
        /// What it may be.
        accepted: &'static str,
    },
}

fn accepted() -> String {
    let fields: Vec<String> = ACCEPTED.iter().map(|(field, what)| format!("{field} ({what})")).collect();
    format!("accepted are {}", fields.join(", "))
}

impl Settings {
    /// Reads settings; nothing in them is left out. A field that is null is not stated.
    pub fn parse(value: Value) -> Result<Self, SettingsError> {
        let Value::Object(fields) = value else { return Err(SettingsError::NotASet { found: kind(&value) }) };
        let mut settings = Self::default();
        for (name, value) in fields {
            let known = ACCEPTED.iter().find(|(field, _)| *field == name);
            let (field, accepted) = *known.ok_or_else(|| SettingsError::Unknown { field: shown(&name) })?;
            if !value.is_null() {
                let wrong = |found| SettingsError::Value { field, found, accepted };
                settings.set(field, value).map_err(wrong)?;
            }
        }
        Ok(settings)
    }

    /// The error says what the value is instead.
    fn set(&mut self, field: &str, value: Value) -> Result<(), String> {
        match field {
            "Entrypoint" => self.entrypoint = Some(strings(value)?),
            "Cmd" => self.cmd = Some(strings(value)?),
            "Env" => {
                self.env = strings(value)?;
                let is_variable = |text: &str| text.find('=').is_some_and(|at| at > 0);
                if let Some(other) = self.env.iter().find(|text| !is_variable(text)) {
                    return Err(format!("a list with {:?}", shown(other)));
                }
            }
            "User" => self.user = Some(string(value)?),
            "WorkingDir" => self.working_dir = Some(path(string(value)?)?),
            "ExposedPorts" => {
                self.exposed_ports = set(value)?;
                if let Some(other) = self.exposed_ports.keys().find(|port| !is_port(port)) {
                    return Err(format!("a set with {:?}", shown(other)));
                }
            }
            "Volumes" => {
                self.volumes = set(value)?;
                for folder in self.volumes.keys() {
                    path(folder.clone()).map_err(|found| format!("a set with {found}"))?;
                }
            }
            "Labels" => {
                for (key, value) in object(value)? {
                    let value = string(value).map_err(|found| format!("a set where {key:?} is {found}"))?;
                    self.labels.insert(key, value);
                }
            }
            _ => self.stop_signal = Some(string(value)?),
        }
        Ok(())
    }

    /// These settings on top of default variables: of a variable that is in both, the value is the one stated here.
    pub(super) fn with_defaults(mut self, defaults: Vec<String>) -> Self {
        fn name(variable: &str) -> &str {
            variable.split('=').next().unwrap_or_default()
        }
        let stated = |default: &String| self.env.iter().any(|variable| name(variable) == name(default));
        let mut env: Vec<String> = defaults.into_iter().filter(|default| !stated(default)).collect();
        env.append(&mut self.env);
        Self { env, ..self }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a set",
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn string(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(kind(&other).into()),
    }
}

fn path(text: String) -> Result<String, String> {
    if text.starts_with('/') { Ok(text) } else { Err(format!("{:?}", shown(&text))) }
}

fn strings(value: Value) -> Result<Vec<String>, String> {
    let Value::Array(elements) = value else { return Err(kind(&value).into()) };
    let in_list = |found| format!("a list with {found}");
    elements.into_iter().map(|element| string(element).map_err(in_list)).collect()
}

fn object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(members) => Ok(members),
        other => Err(kind(&other).into()),
    }
}

fn set(value: Value) -> Result<BTreeMap<String, Empty>, String> {
    let member = |(key, value): (String, Value)| match &value {
        Value::Object(members) if members.is_empty() => Ok((key, Empty {})),
        _ => Err(format!("a set where {:?} is {}, not {{ }}", shown(&key), kind(&value))),
    };
    object(value)?.into_iter().map(member).collect()
}

/// `port`, `port/tcp`, `port/udp` or `port/sctp`, or a range of ports.
fn is_port(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |port: &str| port.parse::<u16>().is_ok_and(|_| port.bytes().all(|b| b.is_ascii_digit()));
    matches!(protocol, "tcp" | "udp" | "sctp") && number(first) && number(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_is_taken_over_as_it_stands() {
        let all = json!({
            "User": "nobody", "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "8000-8010": {} }, "Env": ["A=1", "B="],
            "Entrypoint": ["/bin/x"], "Cmd": [], "Volumes": { "/data": {} }, "WorkingDir": "/data",
            "Labels": { "a": "b" }, "StopSignal": "SIGINT"
        });
        let settings = Settings::parse(all.clone()).unwrap();
        assert_eq!(serde_json::to_value(&settings).unwrap(), all);
        assert_eq!(Settings::parse(json!({ "User": null })).unwrap(), Settings::default());
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_would_be() {
        for (value, expected) in [
            (
                json!([]),
                "it is a list, not a set of fields; accepted are Entrypoint (a list of strings), Cmd",
            ),
            (json!({ "Entrypont": [] }), "it has the unknown field \"Entrypont\"; accepted are Entrypoint"),
            (json!({ "entrypoint": [] }), "unknown field \"entrypoint\""),
            (json!({ "Healthcheck": {} }), "unknown field \"Healthcheck\""),
            (json!({ "Cmd": "sh" }), "its Cmd is a string; accepted is a list of strings"),
            (json!({ "Cmd": ["sh", 1] }), "its Cmd is a list with a number; accepted is a list of strings"),
            (json!({ "Env": { "A": "1" } }), "its Env is a set; accepted is a list of strings such as"),
            (json!({ "Env": ["A=1", "B"] }), "its Env is a list with \"B\"; accepted is"),
            (json!({ "Env": ["=1"] }), "its Env is a list with \"=1\"; accepted is"),
            (json!({ "User": 1000 }), "its User is a number; accepted is a string such as \"1000:1000\""),
            (json!({ "WorkingDir": "data" }), "its WorkingDir is \"data\"; accepted is an absolute path"),
            (json!({ "ExposedPorts": ["80"] }), "its ExposedPorts is a list; accepted is a set such as"),
            (json!({ "ExposedPorts": { "http": {} } }), "its ExposedPorts is a set with \"http\"; accepted"),
            (json!({ "Volumes": { "/a": 1 } }), "its Volumes is a set where \"/a\" is a number, not { }"),
            (json!({ "Volumes": { "a": {} } }), "its Volumes is a set with \"a\"; accepted is"),
            (json!({ "Labels": { "a": true } }), "its Labels is a set where \"a\" is a truth value"),
            (json!({ "StopSignal": 2 }), "its StopSignal is a number; accepted is"),
        ] {
            let error = Settings::parse(value).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_stated_variable_takes_the_place_of_a_default() {
        let settings = Settings { env: vec!["PATH=/opt".into(), "A=1".into()], ..Default::default() };
        let defaults = vec!["PATH=/bin".into(), "SSL_CERT_FILE=/x".into()];
        assert_eq!(settings.with_defaults(defaults).env, ["SSL_CERT_FILE=/x", "PATH=/opt", "A=1"]);
    }
}
