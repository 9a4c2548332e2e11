//! A notice as each receiver wants it: JSON of ours, the robots of DingTalk, Feishu, WeCom and Slack, mail. Pure: what goes
//! out is made from the notice and the time alone.

use serde_json::{Value, json};

use super::settings::{Sink, SinkKind};
use super::sign;
use super::words::{event_word, page, rule_title, sentence};
use crate::http::api::time_text;
use crate::records::{Alarm, AlarmEvent};

/// Longest text in a message to a robot, bytes: WeCom takes 4096, the others more.
const TEXT_BYTES_MAX: usize = 3_500;

/// What is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told<'a> {
    /// Of an alarm.
    Alarm { number: u64, notice: u64, event: AlarmEvent, alarm: &'a Alarm },
    /// Nothing, but that telling works: by whom it was asked for.
    Test { by: &'a str },
}

/// A notice in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    /// Given once: a receiver that sees it again has seen it.
    pub(super) id: String,
    pub(super) title: String,
    /// A line each.
    pub(super) lines: Vec<String>,
    /// Where it is mended.
    pub(super) link: String,
    /// For programs.
    data: Value,
}

/// What is posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Post {
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

fn time(at_ms: u64) -> String {
    time_text(at_ms as i64).unwrap_or_default()
}

/// Nothing that a person typed begins a new line.
fn flat(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

impl Letter {
    /// The words of what is told. `console`: where the console is, without a slash at its end.
    pub(super) fn new(told: Told<'_>, at_ms: u64, console: &str, chinese: bool) -> Self {
        match told {
            Told::Alarm { number, notice, event, alarm } => {
                Self::of_alarm((number, notice), event, alarm, at_ms, console, chinese)
            }
            Told::Test { by } => Self::of_test(by, at_ms, console, chinese),
        }
    }

    fn of_alarm(
        (number, notice): (u64, u64),
        event: AlarmEvent,
        alarm: &Alarm,
        at_ms: u64,
        console: &str,
        chinese: bool,
    ) -> Self {
        let label = |english: &'static str, chinese_label: &'static str| {
            if chinese { chinese_label } else { english }
        };
        let said = flat(&sentence(alarm, chinese));
        let mut lines = vec![said.clone()];
        let mut line = |label: &str, value: &str| {
            if !value.is_empty() {
                lines.push(format!("{label}: {}", flat(value)));
            }
        };
        line(label("id", "ID"), &alarm.id);
        line(label("raised", "发生时间"), &time(alarm.raised_at_ms));
        if let Some(ack) = &alarm.ack {
            line(label("looked after by", "处理人"), &format!("{} ({})", ack.name, ack.reason));
        }
        if let Some(at_ms) = alarm.resolved_at_ms {
            line(label("over", "恢复时间"), &time(at_ms));
        }
        line(label("alarm", "告警编号"), &number.to_string());
        let id = format!("{number}.{notice}");
        let link = format!("{console}{}", page(alarm));
        let ack = alarm
            .ack
            .as_ref()
            .map(|ack| json!({ "name": ack.name, "reason": ack.reason, "at": time(ack.at_ms) }));
        let data = json!({
            "id": id,
            "event": event.as_str(),
            "at": time(at_ms),
            "text": said,
            "link": link,
            "alarm": {
                "number": number,
                "rule": alarm.rule.as_str(),
                "subject": alarm.subject,
                "id": alarm.id,
                "value": alarm.value,
                "limit": alarm.limit,
                "worst": alarm.worst,
                "raised_at": time(alarm.raised_at_ms),
                "repeats": alarm.repeats,
                "acknowledged": ack,
                "resolved_at": alarm.resolved_at_ms.map(time),
            },
        });
        let title = format!("[Escrow] {}: {}", event_word(event, chinese), rule_title(alarm.rule, chinese));
        Self { id, title, lines, link, data }
    }

    fn of_test(by: &str, at_ms: u64, console: &str, chinese: bool) -> Self {
        let (title, said) = match chinese {
            false => ("[Escrow] TEST", format!("a test by {}: alarms of this broker arrive here", flat(by))),
            true => ("[Escrow] 测试", format!("{} 发起的测试：此处可以收到本服务的告警", flat(by))),
        };
        let (id, link) = (format!("test.{at_ms}"), format!("{console}/alarms"));
        let data = json!({ "id": id, "event": "test", "at": time(at_ms), "text": said, "link": link });
        Self { id, title: title.to_owned(), lines: vec![said], link, data }
    }

    /// What is posted to a sink that is posted to.
    pub(super) fn post(&self, sink: &Sink, now_ms: u64) -> Post {
        let timestamp_s = now_ms / 1_000;
        let secret = sink.secret.reveal();
        let mut path = sink.url.path.clone();
        let mut headers = vec![("content-type", "application/json; charset=utf-8".to_owned())];
        let body = match sink.kind {
            SinkKind::Webhook => self.data.clone(),
            SinkKind::DingTalk => {
                if !secret.is_empty() {
                    path.push(if path.contains('?') { '&' } else { '?' });
                    path.push_str(&sign::dingtalk(secret, now_ms));
                }
                let text = format!(
                    "#### {}\n\n{}\n\n[{}]({})",
                    self.title,
                    self.joined("\n\n"),
                    self.link,
                    self.link
                );
                json!({ "msgtype": "markdown", "markdown": { "title": self.title, "text": text } })
            }
            SinkKind::Feishu => self.feishu(secret, timestamp_s),
            SinkKind::WeCom => {
                let text =
                    format!("**{}**\n{}\n[{}]({})", self.title, self.joined("\n"), self.link, self.link);
                json!({ "msgtype": "markdown", "markdown": { "content": text } })
            }
            SinkKind::Slack => {
                let text = slack_escaped(&format!("{}\n{}", self.title, self.joined("\n")));
                let text = format!("{text}\n<{}>", self.link);
                let block = json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
                json!({ "text": slack_escaped(&self.title), "blocks": [block] })
            }
            // Mail is not posted; see `mail`.
            SinkKind::Smtp => Value::Null,
        };
        let body = body.to_string();
        if sink.kind == SinkKind::Webhook {
            headers.push(("escrow-notice-id", self.id.clone()));
            headers.push(("escrow-timestamp", timestamp_s.to_string()));
            if !secret.is_empty() {
                headers.push(("escrow-signature", sign::webhook(secret, timestamp_s, body.as_bytes())));
            }
        }
        Post { path, headers, body }
    }

    fn feishu(&self, secret: &str, timestamp_s: u64) -> Value {
        let mut content: Vec<Value> =
            self.lines.iter().map(|line| json!([{ "tag": "text", "text": line }])).collect();
        content.push(json!([{ "tag": "a", "text": self.link, "href": self.link }]));
        let post = json!({ "zh_cn": { "title": self.title, "content": content } });
        let mut message = json!({ "msg_type": "post", "content": { "post": post } });
        if !secret.is_empty() {
            message["timestamp"] = json!(timestamp_s.to_string());
            message["sign"] = json!(sign::feishu(secret, timestamp_s));
        }
        message
    }

    /// The lines as one text, cut where a robot takes no more.
    fn joined(&self, between: &str) -> String {
        let mut text = self.lines.join(between);
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text
    }
}

/// Slack reads `&`, `<` and `>` as its own.
fn slack_escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What a robot says besides its status: 200 means only that it has read the request.
///
/// # Errors
/// Its own words, if it did not take the message.
pub(super) fn judge_answer(kind: SinkKind, status: u16, body: &str) -> Result<(), String> {
    let said: String = flat(body).chars().take(200).collect();
    if !(200..300).contains(&status) {
        return Err(format!("it answered {status}: {said}"));
    }
    let field = match kind {
        SinkKind::DingTalk | SinkKind::WeCom => "errcode",
        SinkKind::Feishu => "code",
        SinkKind::Webhook | SinkKind::Slack | SinkKind::Smtp => return Ok(()),
    };
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    // Feishu's old robots say StatusCode.
    match answer.get(field).or_else(|| answer.get("StatusCode")).and_then(Value::as_i64) {
        Some(0) => Ok(()),
        _ if said.is_empty() => {
            Err("it answered nothing, where it should say that it took the message".into())
        }
        _ => Err(format!("it did not take the message: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Secret, Url};
    use super::super::tests::alarm;
    use super::*;
    use crate::records::{AlarmAck, AlarmRule};

    const AT_MS: u64 = 1_700_000_000_000;
    const ID: &str = "01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d";

    fn sink(kind: SinkKind, secret: &str, chinese: bool) -> Sink {
        Sink {
            kind,
            url: Url::read("http://127.0.0.1:9/robot?key=k", &["http"]).expect("sound"),
            secret: Secret::new(secret),
            user: String::new(),
            from: String::new(),
            to: Vec::new(),
            chinese,
        }
    }

    fn posted(kind: SinkKind, secret: &str, chinese: bool) -> Post {
        let alarm = Alarm { id: ID.to_owned(), ..alarm(AlarmRule::DeadLetters, "billing", 3) };
        let told = Told::Alarm { number: 7, notice: 2, event: AlarmEvent::Raised, alarm: &alarm };
        Letter::new(told, AT_MS, "http://c", chinese).post(&sink(kind, secret, chinese), AT_MS)
    }

    fn body(post: &Post) -> Value {
        serde_json::from_str(&post.body).expect("JSON")
    }

    #[test]
    fn our_webhook_is_signed_json() {
        let post = posted(SinkKind::Webhook, "s3cr3t", false);
        let expected = json!({
            "id": "7.2", "event": "raised", "at": "2023-11-14T22:13:20.000Z",
            "text": "group billing has 3 dead letters (limit 1)", "link": "http://c/dead-letters?group=billing",
            "alarm": {
                "number": 7, "rule": "dead_letters", "subject": "billing", "id": ID, "value": 3, "limit": 1, "worst": 3,
                "raised_at": "1970-01-01T00:00:01.000Z", "repeats": 0, "acknowledged": null, "resolved_at": null,
            },
        });
        assert_eq!(body(&post), expected);
        assert_eq!(post.path, "/robot?key=k");
        let header =
            |name| post.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        assert_eq!(header("escrow-notice-id").as_deref(), Some("7.2"));
        assert_eq!(header("escrow-timestamp").as_deref(), Some("1700000000"));
        assert_eq!(
            header("escrow-signature"),
            Some(sign::webhook("s3cr3t", 1_700_000_000, post.body.as_bytes()))
        );
        let unsigned = posted(SinkKind::Webhook, "", false);
        assert!(!unsigned.headers.iter().any(|(name, _)| *name == "escrow-signature"));
    }

    #[test]
    fn dingtalk_gets_markdown_and_its_signature_in_the_address() {
        let post = posted(SinkKind::DingTalk, "SEC123", true);
        let link = "http://c/dead-letters?group=billing";
        let expected = json!({
            "msgtype": "markdown",
            "markdown": {
                "title": "[Escrow] 告警: 出现死信",
                "text": format!("#### [Escrow] 告警: 出现死信\n\n消费组 billing 有 3 条死信（阈值 1）\n\nID: {ID}\n\n发生时间: 1970-01-01T00:00:01.000Z\n\n告警编号: 7\n\n[{link}]({link})"),
            },
        });
        assert_eq!(body(&post), expected);
        assert_eq!(post.path, format!("/robot?key=k&{}", sign::dingtalk("SEC123", AT_MS)));
        assert_eq!(posted(SinkKind::DingTalk, "", true).path, "/robot?key=k");
    }

    #[test]
    fn feishu_gets_a_post_and_its_signature_in_the_message() {
        let link = "http://c/dead-letters?group=billing";
        let mut expected = json!({
            "msg_type": "post",
            "content": { "post": { "zh_cn": {
                "title": "[Escrow] 告警: 出现死信",
                "content": [
                    [{ "tag": "text", "text": "消费组 billing 有 3 条死信（阈值 1）" }],
                    [{ "tag": "text", "text": format!("ID: {ID}") }],
                    [{ "tag": "text", "text": "发生时间: 1970-01-01T00:00:01.000Z" }],
                    [{ "tag": "text", "text": "告警编号: 7" }],
                    [{ "tag": "a", "text": link, "href": link }],
                ],
            } } },
        });
        assert_eq!(body(&posted(SinkKind::Feishu, "", true)), expected);
        expected["timestamp"] = json!("1700000000");
        expected["sign"] = json!(sign::feishu("fs-secret", 1_700_000_000));
        assert_eq!(body(&posted(SinkKind::Feishu, "fs-secret", true)), expected);
    }

    #[test]
    fn wecom_gets_markdown() {
        let link = "http://c/dead-letters?group=billing";
        let expected = json!({
            "msgtype": "markdown",
            "markdown": { "content": format!("**[Escrow] 告警: 出现死信**\n消费组 billing 有 3 条死信（阈值 1）\nID: {ID}\n发生时间: 1970-01-01T00:00:01.000Z\n告警编号: 7\n[{link}]({link})") },
        });
        assert_eq!(body(&posted(SinkKind::WeCom, "", true)), expected);
    }

    #[test]
    fn slack_gets_a_block_with_its_own_letters_escaped() {
        let ack = AlarmAck { at_ms: 1, name: "ada".to_owned(), reason: "<a&b>\n*x*".to_owned() };
        let alarm = Alarm { ack: Some(ack), ..alarm(AlarmRule::Parked, "", 2) };
        let told = Told::Alarm { number: 7, notice: 1, event: AlarmEvent::Acknowledged, alarm: &alarm };
        let post = Letter::new(told, AT_MS, "http://c", false).post(&sink(SinkKind::Slack, "", false), AT_MS);
        let expected = json!({
            "text": "[Escrow] ACKNOWLEDGED: Transactions wait for a person",
            "blocks": [{ "type": "section", "text": { "type": "mrkdwn", "text":
                "[Escrow] ACKNOWLEDGED: Transactions wait for a person\n2 transactions wait for a person (limit 1)\nraised: 1970-01-01T00:00:01.000Z\nlooked after by: ada (&lt;a&amp;b&gt; *x*)\nalarm: 7\n<http://c/transactions?show=parked>"
            } }],
        });
        assert_eq!(body(&post), expected);
    }

    #[test]
    fn a_test_says_who_tests() {
        let letter = Letter::new(Told::Test { by: "ada" }, AT_MS, "http://c", false);
        let post = letter.post(&sink(SinkKind::Webhook, "", false), AT_MS);
        let expected = json!({
            "id": "test.1700000000000", "event": "test", "at": "2023-11-14T22:13:20.000Z",
            "text": "a test by ada: alarms of this broker arrive here", "link": "http://c/alarms",
        });
        assert_eq!(body(&post), expected);
    }

    #[test]
    fn a_robot_that_answers_200_and_refuses_has_refused() {
        for (kind, status, answer, taken) in [
            (SinkKind::Webhook, 204, "", true),
            (SinkKind::Webhook, 302, "", false),
            (SinkKind::Slack, 200, "ok", true),
            (SinkKind::Slack, 404, "no_service", false),
            (SinkKind::DingTalk, 200, r#"{"errcode":0,"errmsg":"ok"}"#, true),
            (SinkKind::DingTalk, 200, r#"{"errcode":310000,"errmsg":"sign not match"}"#, false),
            (SinkKind::WeCom, 200, r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#, false),
            (SinkKind::Feishu, 200, r#"{"code":0,"msg":"success"}"#, true),
            (SinkKind::Feishu, 200, r#"{"StatusCode":0}"#, true),
            (SinkKind::Feishu, 200, r#"{"code":19021,"msg":"sign match fail"}"#, false),
            (SinkKind::WeCom, 200, "<html>a proxy</html>", false),
        ] {
            let judged = judge_answer(kind, status, answer);
            assert_eq!(judged.is_ok(), taken, "{kind:?} {status} {answer}: {judged:?}");
        }
    }
}
