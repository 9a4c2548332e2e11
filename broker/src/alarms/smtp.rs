//! One mail: the dialogue with a mail server, and the mail as text. STARTTLS where the server offers it; a password goes
//! over nothing else but TLS, or to this machine itself.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use super::http::connect;
use super::letter::Letter;
use super::settings::{Sink, Url};
use super::tls::{Stream, Tls};

/// Longest line of an answer, bytes; the standard says 512.
const LINE_BYTES_MAX: usize = 4_096;
/// Most lines of one answer.
const LINES_MAX: usize = 100;
/// Bytes of one encoded word of a header: 60 characters in base64, 75 with what is around them at most.
const WORD_BYTES_MAX: usize = 45;
/// Characters of a line of base64.
const BASE64_LINE: usize = 76;

/// Mails `letter`, within `within`.
///
/// # Errors
/// What went wrong, for people.
pub(super) async fn mail(
    tls: &Tls,
    sink: &Sink,
    letter: &Letter,
    date: &str,
    within: Duration,
) -> Result<(), String> {
    match timeout(within, dialogue(tls, sink, letter, date)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{} did not take the mail within {} s", sink.url, within.as_secs_f32())),
    }
}

async fn dialogue(tls: &Tls, sink: &Sink, letter: &Letter, date: &str) -> Result<(), String> {
    let url = &sink.url;
    let is_encrypted = url.scheme == "smtps";
    let mut server = Server::new(connect(tls, url, is_encrypted).await?, url);
    server.answer(2).await?;
    let mut offers = server.greet().await?;
    let is_offered = |offers: &[String], what: &str| offers.iter().any(|offer| offer.starts_with(what));
    let mut is_private = is_encrypted;
    if !is_encrypted && is_offered(&offers, "STARTTLS") {
        server.say("STARTTLS").await?;
        server.answer(2).await?;
        // Whatever came before TLS is not from the server.
        let stream = server.reader.into_inner();
        let stream = tls.encrypt(stream, &url.host).await.map_err(|error| format!("{url}: {error}"))?;
        server = Server::new(stream, url);
        offers = server.greet().await?;
        is_private = true;
    }
    if !sink.user.is_empty() {
        let is_here = matches!(url.host.as_str(), "localhost" | "127.0.0.1" | "::1");
        if !is_private && !is_here {
            return Err(format!(
                "{url} offers no TLS, and the password must not be overheard; use smtps://, or no user"
            ));
        }
        server.log_in(&offers, &sink.user, sink.secret.reveal()).await?;
    }
    server.say(&format!("MAIL FROM:<{}>", sink.from)).await?;
    server.answer(2).await?;
    let mut refused = Vec::new();
    for to in &sink.to {
        server.say(&format!("RCPT TO:<{to}>")).await?;
        refused.extend(server.answer(2).await.err());
    }
    // One address that is gone must not keep the mail from the others.
    if refused.len() == sink.to.len() {
        return Err(refused.swap_remove(0));
    }
    for refusal in refused {
        tracing::warn!(refusal, "a mail server did not take an address of an alarm's mail");
    }
    server.say("DATA").await?;
    server.answer(3).await?;
    server.say(&format!("{}\r\n.", text_of(sink, letter, date))).await?;
    server.answer(2).await?;
    // It has the mail: how it says goodbye does not matter.
    let _ = server.say("QUIT").await;
    Ok(())
}

struct Server<'a> {
    reader: BufReader<Stream>,
    url: &'a Url,
}

impl<'a> Server<'a> {
    fn new(stream: Stream, url: &'a Url) -> Self {
        Self { reader: BufReader::new(stream), url }
    }

    async fn say(&mut self, line: &str) -> Result<(), String> {
        let written = self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).await;
        let flushed = match written {
            Ok(()) => self.reader.get_mut().flush().await,
            Err(error) => Err(error),
        };
        flushed.map_err(|error| format!("{}: {error}", self.url))
    }

    /// The lines of an answer whose code begins with `class`.
    async fn answer(&mut self, class: u32) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        for _ in 0..LINES_MAX {
            let line = self.line().await?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if is_last {
                return match line.chars().next().and_then(|digit| digit.to_digit(10)) == Some(class) {
                    true => Ok(lines),
                    false => Err(format!("{} said: {line}", self.url)),
                };
            }
        }
        Err(format!("{} does not come to an end", self.url))
    }

    async fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            let found = self.reader.fill_buf().await.map_err(|error| format!("{}: {error}", self.url))?;
            if found.is_empty() {
                return Err(format!("{} closed the connection", self.url));
            }
            let end = found.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(found.len(), |at| at + 1);
            line.extend_from_slice(&found[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if line.len() > LINE_BYTES_MAX {
                return Err(format!("{} speaks no SMTP: its line has no end", self.url));
            }
        }
    }

    /// What the server offers.
    async fn greet(&mut self) -> Result<Vec<String>, String> {
        self.say("EHLO escrow.invalid").await?;
        let offers = self.answer(2).await?;
        Ok(offers.into_iter().map(|offer| offer.to_ascii_uppercase()).collect())
    }

    async fn log_in(&mut self, offers: &[String], user: &str, password: &str) -> Result<(), String> {
        let ways = offers.iter().find_map(|offer| offer.strip_prefix("AUTH")).unwrap_or_default();
        if ways.split_whitespace().any(|way| way == "PLAIN") {
            self.say(&format!("AUTH PLAIN {}", BASE64.encode(format!("\0{user}\0{password}")))).await?;
        } else if ways.split_whitespace().any(|way| way == "LOGIN") {
            self.say("AUTH LOGIN").await?;
            self.answer(3).await?;
            self.say(&BASE64.encode(user)).await?;
            self.answer(3).await?;
            self.say(&BASE64.encode(password)).await?;
        } else {
            return Err(format!(
                "{} offers neither AUTH PLAIN nor AUTH LOGIN, but a user is configured",
                self.url
            ));
        }
        self.answer(2).await.map(drop)
    }
}

/// A text of any language in a header: words of at most 75 characters each, on lines of their own.
fn encoded_words(text: &str) -> String {
    let mut words = vec![String::new()];
    for letter in text.chars() {
        if words.last().is_some_and(|word| word.len() + letter.len_utf8() > WORD_BYTES_MAX) {
            words.push(String::new());
        }
        words.last_mut().expect("there is one").push(letter);
    }
    let words: Vec<_> = words.iter().map(|word| format!("=?UTF-8?B?{}?=", BASE64.encode(word))).collect();
    words.join("\r\n ")
}

/// The mail, headers and all. The body is base64: no line of it is a dot, or too long.
fn text_of(sink: &Sink, letter: &Letter, date: &str) -> String {
    let subject = encoded_words(&letter.title);
    let body = BASE64.encode(format!("{}\r\n\r\n{}\r\n", letter.lines.join("\r\n"), letter.link));
    let lines: Vec<_> =
        body.as_bytes().chunks(BASE64_LINE).map(|line| String::from_utf8_lossy(line)).collect();
    let host = sink.from.rsplit('@').next().unwrap_or("escrow.invalid");
    let headers = [
        format!("Date: {date}"),
        format!("From: Escrow <{}>", sink.from),
        format!("To: {}", sink.to.join(", ")),
        format!("Subject: {subject}"),
        format!(
            "Message-ID: <{}.{}@{host}>",
            letter.id,
            date.bytes().filter(u8::is_ascii_digit).map(char::from).collect::<String>()
        ),
        "MIME-Version: 1.0".to_owned(),
        "Content-Type: text/plain; charset=utf-8".to_owned(),
        "Content-Transfer-Encoding: base64".to_owned(),
        "Auto-Submitted: auto-generated".to_owned(),
    ];
    format!("{}\r\n\r\n{}", headers.join("\r\n"), lines.join("\r\n"))
}

#[cfg(test)]
mod tests {
    use super::super::letter::Told;
    use super::super::settings::{Secret, SinkKind};
    use super::*;

    #[test]
    fn a_mail_is_text_that_any_server_takes() {
        let sink = Sink {
            kind: SinkKind::Smtp,
            url: Url::read("smtp://mail", &["smtp"]).expect("sound"),
            secret: Secret::default(),
            user: String::new(),
            from: "escrow@example.com".to_owned(),
            to: vec!["a@example.com".to_owned(), "b@example.com".to_owned()],
            chinese: true,
        };
        let letter = Letter::new(Told::Test { by: "王小明" }, 1_700_000_000_000, "http://c", true);
        let mail = text_of(&sink, &letter, "Tue, 14 Nov 2023 22:13:20 +0000");
        assert!(mail.is_ascii(), "{mail}");
        assert!(mail.lines().all(|line| line.len() <= 78 && line != "."), "{mail}");
        let (head, body) = mail.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains("To: a@example.com, b@example.com\r\n"), "{head}");
        assert!(head.contains("Message-ID: <test.1700000000000.142023221320"), "{head}");
        let body = BASE64.decode(body.replace("\r\n", "")).expect("base64");
        assert_eq!(
            String::from_utf8(body).expect("text"),
            "王小明 发起的测试：此处可以收到本服务的告警\r\n\r\nhttp://c/alarms\r\n"
        );
    }

    #[test]
    fn long_subjects_are_cut_into_words_between_characters() {
        let text = "告警".repeat(20);
        let words = encoded_words(&text);
        assert!(words.lines().count() > 2 && words.lines().all(|line| line.trim().len() <= 75), "{words}");
        let parts = words.split("\r\n ").map(|word| {
            let inner = word.trim_start_matches("=?UTF-8?B?").trim_end_matches("?=");
            String::from_utf8(BASE64.decode(inner).expect("base64")).expect("whole characters")
        });
        assert_eq!(parts.collect::<String>(), text);
    }
}
