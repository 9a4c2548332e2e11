//! What is configured of alarms: the rules, who is told, how often, for how long.

use std::collections::BTreeMap;
use std::fmt;

use super::Rules;
use super::outbox::Patience;

/// How it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmSettings {
    /// When alarms are raised.
    pub rules: Rules,
    /// How often is looked, milliseconds. Default 1 s.
    pub look_every_ms: u64,
    /// People are told again of an alarm that nobody looks after, after this long, milliseconds; 0: never. Default 4 h.
    pub repeat_ms: u64,
    /// What people's browsers call the console; empty: as HTTP listens.
    pub console_url: String,
    /// A file of certificates that are trusted beside the system's; empty: none.
    pub ca_file: String,
    /// Who is told, by name.
    pub sinks: BTreeMap<String, Sink>,
    /// The delays before each further attempt at a sink that failed, the last repeats, milliseconds.
    pub retry_delays_ms: Vec<u64>,
    /// After this long a notice that no attempt got through with is given up, milliseconds. Default 24 h.
    pub give_up_ms: u64,
    /// How long one attempt may take, milliseconds. Default 10 s.
    pub timeout_ms: u64,
}

impl Default for AlarmSettings {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            look_every_ms: 1_000,
            repeat_ms: 4 * 3600 * 1000,
            console_url: String::new(),
            ca_file: String::new(),
            sinks: BTreeMap::new(),
            retry_delays_ms: vec![1_000, 5_000, 30_000, 120_000, 600_000],
            give_up_ms: 24 * 3600 * 1000,
            timeout_ms: 10_000,
        }
    }
}

impl AlarmSettings {
    /// Nothing is watched.
    pub fn off() -> Self {
        Self { rules: Rules::off(), ..Self::default() }
    }

    pub(super) fn patience(&self) -> Patience {
        let delays_ms = match self.retry_delays_ms.is_empty() {
            true => vec![1_000],
            false => self.retry_delays_ms.clone(),
        };
        Patience { delays_ms, give_up_ms: self.give_up_ms }
    }
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// This one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: to be used, never shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "***" })
    }
}

/// How a sink is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkKind {
    /// JSON of ours, signed.
    Webhook,
    /// A robot of DingTalk (钉钉).
    DingTalk,
    /// A robot of Feishu (飞书) or Lark.
    Feishu,
    /// A robot of WeCom (企业微信).
    WeCom,
    /// An incoming webhook of Slack, or of what speaks its language.
    Slack,
    /// Mail.
    Smtp,
}

impl SinkKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Webhook, Self::DingTalk, Self::Feishu, Self::WeCom, Self::Slack, Self::Smtp];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::DingTalk => "dingtalk",
            Self::Feishu => "feishu",
            Self::WeCom => "wecom",
            Self::Slack => "slack",
            Self::Smtp => "smtp",
        }
    }
}

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// How it is spoken to.
    pub kind: SinkKind,
    /// Where it is.
    pub url: Url,
    /// What signs a webhook, DingTalk's or Feishu's secret; the password of mail.
    pub secret: Secret,
    /// Who mails, at the server; empty: nobody in particular.
    pub user: String,
    /// Whose mail it is.
    pub from: String,
    /// Who gets mail.
    pub to: Vec<String>,
    /// In Chinese (else in English).
    pub chinese: bool,
}

/// Where a sink is.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// `http`, `https`, `smtp` or `smtps`.
    pub scheme: String,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The rest, with its slash.
    pub path: String,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str, schemes: &[&str]) -> Result<Self, String> {
        let known = || schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ");
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| schemes.contains(scheme))
        else {
            return Err(format!("it does not begin with {}", known()));
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if authority.contains('@') {
            return Err("it has a name or password in it, which would be shown; they have keys of their own"
                .to_owned());
        }
        if text.chars().any(|letter| letter.is_control() || letter.is_whitespace() || !letter.is_ascii()) {
            return Err("it has letters that no address has; write them as %XX".to_owned());
        }
        let default = match scheme {
            "https" => 443,
            "http" => 80,
            "smtps" => 465,
            _ => 25,
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().map_err(|_| format!("{port:?} is not a port"))?;
                (host, port)
            }
            _ => (authority, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        Ok(Self { scheme: scheme.to_owned(), host: host.to_owned(), port, path: path.to_owned() })
    }

    /// Host and port, as they are dialled and as a `Host` header has them.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Url {
    /// The paths of chat robots are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Url {
    /// The paths of chat robots are secrets: they are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = if self.path == "/" { "" } else { "/…" };
        write!(f, "{}://{}{rest}", self.scheme, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let schemes = ["http", "https", "smtp"];
        for (text, authority, path) in [
            ("http://127.0.0.1:9000/hook?a=b", "127.0.0.1:9000", "/hook?a=b"),
            ("https://example.com", "example.com:443", "/"),
            ("http://[::1]/x", "[::1]:80", "/x"),
            ("http://[::1]:81/x", "[::1]:81", "/x"),
            ("smtp://mail", "mail:25", "/"),
        ] {
            let url = Url::read(text, &schemes).expect(text);
            assert_eq!((url.authority().as_str(), url.path.as_str()), (authority, path), "{text}");
        }
        for (text, fault) in [
            ("example.com", "http:// or https:// or smtp://"),
            ("ftp://example.com", "http:// or https:// or smtp://"),
            ("http://", "names no host"),
            ("http://host:port/", "is not a port"),
            ("http://ann:word@host/", "keys of their own"),
            ("http://host/a b", "%XX"),
            ("http://host/\r\nX: y", "%XX"),
        ] {
            let error = Url::read(text, &schemes).expect_err(text);
            assert!(error.contains(fault), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let url =
            Url::read("https://chat.example/robot/send?access_token=s3cr3t", &["https"]).expect("sound");
        let shown = format!("{url} {url:?} {:?}", Secret::new("s3cr3t"));
        assert!(!shown.contains("s3cr3t") && shown.contains("chat.example"), "{shown}");
    }
}
