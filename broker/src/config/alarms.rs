//! Sinks of alarms as they are written: `alarms.sinks.NAME.FIELD`, from a file, the environment or flags, put together
//! before they are judged.

use std::collections::BTreeMap;

use super::nearest::nearest;
use super::shape::wrong;
use super::units::UnitError;
use crate::alarms::{Secret, Sink, SinkKind, Url};

/// The fields of a sink.
const FIELDS: [&str; 8] = ["kind", "url", "secret", "secret_file", "user", "from", "to", "language"];
/// Longest name of a sink, bytes: it is a label.
const NAME_BYTES_MAX: usize = 64;
/// Largest file of a secret, bytes.
const SECRET_BYTES_MAX: u64 = 16 * 1024;
/// Most sinks.
pub(super) const SINKS_MAX: usize = 32;

/// What is wrong with a sink, and in which of its fields.
#[derive(Debug)]
pub(super) struct SinkFault {
    pub(super) field: Option<String>,
    pub(super) error: UnitError,
}

type Fields = BTreeMap<String, String>;

fn in_field(field: &str, fault: impl Into<String>, remedy: impl Into<String>) -> SinkFault {
    SinkFault { field: Some(field.to_owned()), error: wrong(fault, remedy) }
}

/// `NAME.FIELD` taken apart.
///
/// # Errors
/// If it is not that.
pub(super) fn name_and_field(key: &str) -> Result<(String, String), UnitError> {
    let Some((name, field)) = key.split_once('.').filter(|(_, field)| !field.contains('.')) else {
        let fault = format!("{key:?} is no name of a sink with one of its fields");
        return Err(wrong(fault, "write alarms.sinks.NAME.FIELD, e.g. alarms.sinks.oncall.url"));
    };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
        let fault = format!("{name:?} is no name of a sink");
        return Err(wrong(fault, format!("use letters, digits, - and _, at most {NAME_BYTES_MAX}")));
    }
    if !FIELDS.contains(&field) {
        let remedy = match nearest(field, FIELDS) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("there are: {}", FIELDS.join(", ")),
        };
        return Err(wrong(format!("a sink has no field {field:?}"), remedy));
    }
    Ok((name.to_owned(), field.to_owned()))
}

/// All sinks that these entries, `NAME.FIELD` and value, describe.
///
/// # Errors
/// The first fault.
pub(super) fn sinks(entries: &[(String, String)]) -> Result<BTreeMap<String, Sink>, UnitError> {
    let mut named: BTreeMap<String, Fields> = BTreeMap::new();
    for (key, value) in entries {
        let (name, field) = name_and_field(key)?;
        named.entry(name).or_default().insert(field, value.clone());
    }
    named.into_iter().map(|(name, fields)| Ok((name, sink(&fields).map_err(|fault| fault.error)?))).collect()
}

/// A sink of these fields.
///
/// # Errors
/// The first fault.
pub(super) fn sink(fields: &Fields) -> Result<Sink, SinkFault> {
    let text = |field: &str| fields.get(field).map_or("", |text| text.trim());
    let kinds = || SinkKind::ALL.map(SinkKind::as_str).join(", ");
    let kind = SinkKind::ALL.into_iter().find(|kind| kind.as_str() == text("kind"));
    let Some(kind) = kind else {
        let fault = match text("kind") {
            "" => "it has no kind".to_owned(),
            other => format!("{other:?} is not a kind of sink"),
        };
        return Err(in_field("kind", fault, format!("write one of: {}", kinds())));
    };
    let is_mail = kind == SinkKind::Smtp;
    let schemes: &[&str] = if is_mail { &["smtp", "smtps"] } else { &["http", "https"] };
    if text("url").is_empty() {
        let example = if is_mail { "smtp://mail.example.com:587" } else { "https://alerts.example.com/hook" };
        return Err(in_field("url", "it has no url", format!("write where it is, e.g. {example:?}")));
    }
    let url =
        Url::read(text("url"), schemes).map_err(|fault| in_field("url", fault, "correct the address"))?;
    for field in ["user", "from", "to"] {
        if !is_mail && fields.contains_key(field) {
            let fault = format!("a sink of kind {} has none", kind.as_str());
            return Err(in_field(field, fault, "remove it; it belongs to kind = \"smtp\""));
        }
    }
    let to: Vec<String> = text("to")
        .split([',', ';', ' '])
        .map(|one| one.trim_matches(['[', ']', '"']).trim())
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect();
    if is_mail {
        mail_address("from", text("from"))?;
        if to.is_empty() {
            return Err(in_field("to", "nobody gets the mail", "write who does, e.g. \"ops@example.com\""));
        }
        to.iter().try_for_each(|one| mail_address("to", one))?;
    }
    let chinese = match text("language") {
        "" => matches!(kind, SinkKind::DingTalk | SinkKind::Feishu | SinkKind::WeCom),
        "en" => false,
        "zh-CN" => true,
        other => {
            let fault = format!("{other:?} is not a language here");
            return Err(in_field("language", fault, "write en or zh-CN"));
        }
    };
    let secret = secret(fields)?;
    if text("user").is_empty() && is_mail && !secret.is_empty() {
        return Err(in_field(
            "user",
            "there is a password and nobody whose it is",
            "write the user, or no secret",
        ));
    }
    Ok(Sink { kind, url, secret, user: text("user").to_owned(), from: text("from").to_owned(), to, chinese })
}

fn mail_address(field: &str, text: &str) -> Result<(), SinkFault> {
    let is_plain = |letter: char| letter.is_ascii_graphic() && !"<>,;\"()[]\\".contains(letter);
    let is_sound = text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    match is_sound && text.chars().all(is_plain) {
        true => Ok(()),
        false => {
            let fault = format!("{text:?} is not a mail address");
            Err(in_field(field, fault, "write one such as \"escrow@example.com\""))
        }
    }
}

fn secret(fields: &Fields) -> Result<Secret, SinkFault> {
    match (fields.get("secret"), fields.get("secret_file")) {
        (Some(_), Some(_)) => {
            Err(in_field("secret_file", "there is a secret already", "write secret or secret_file, not both"))
        }
        (Some(secret), None) => Ok(Secret::new(secret.trim())),
        (None, Some(path)) => match read_small(path.trim()) {
            Ok(secret) => Ok(Secret::new(secret.trim())),
            Err(error) => {
                let fault = format!("{path:?} cannot be read: {error}");
                Err(in_field("secret_file", fault, "name a file with nothing but the secret in it"))
            }
        },
        (None, None) => Ok(Secret::default()),
    }
}

/// A file that is one: a device or a pipe might never end.
fn read_small(path: &str) -> std::io::Result<String> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() || about.len() > SECRET_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is no file of at most {SECRET_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(path)
}
