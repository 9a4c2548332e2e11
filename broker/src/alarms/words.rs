//! What is said of an alarm, in English and in Chinese: the same on the console, in mails and in chat rooms.

use crate::records::{Alarm, AlarmEvent, AlarmRule};

use super::rules::Unit;

/// What a rule watches, in a few words.
pub fn rule_title(rule: AlarmRule, chinese: bool) -> &'static str {
    let (english, chinese_words) = match rule {
        AlarmRule::UndecidedAge => ("Undecided transaction too old", "事务未决时间过长"),
        AlarmRule::UndecidedCount => ("Too many undecided transactions", "未决事务过多"),
        AlarmRule::NoChecker => ("Nobody to ask about a kind", "无可用的回查者"),
        AlarmRule::Parked => ("Transactions wait for a person", "事务已搁置，等待人工处理"),
        AlarmRule::DeadLetters => ("Dead letters", "出现死信"),
        AlarmRule::DeadLetterRate => ("Dead letters come fast", "死信增长过快"),
        AlarmRule::RetryAttempt => ("A message keeps failing", "消息反复重试失败"),
        AlarmRule::Lag => ("A group lags", "消费堆积"),
        AlarmRule::LagAge => ("A group is late", "消费延迟过久"),
        AlarmRule::DiskFree => ("Disk nearly full", "磁盘空间不足"),
        AlarmRule::FailedSync => ("The store failed, the broker stopped", "存储写入失败，服务已停止"),
        AlarmRule::SpillBehind => ("The table does not keep up", "落盘落后"),
        AlarmRule::Damaged => ("Damaged records", "发现损坏的记录"),
    };
    if chinese { chinese_words } else { english }
}

/// What happened, in a word.
pub fn event_word(event: AlarmEvent, chinese: bool) -> &'static str {
    let (english, chinese_word) = match event {
        AlarmEvent::Raised => ("ALARM", "告警"),
        AlarmEvent::Repeated => ("STILL OPEN", "告警持续"),
        AlarmEvent::Acknowledged => ("ACKNOWLEDGED", "已有人处理"),
        AlarmEvent::Resolved => ("RESOLVED", "已恢复"),
    };
    if chinese { chinese_word } else { english }
}

/// What is wrong, in a sentence with its numbers.
pub fn sentence(alarm: &Alarm, chinese: bool) -> String {
    measured(alarm.rule, &alarm.subject, alarm.value, alarm.limit, chinese)
}

fn measured(rule: AlarmRule, subject: &str, value: u64, limit: u64, chinese: bool) -> String {
    let unit = rule.unit();
    let (shown, limit) = (amount(unit, value), amount(unit, limit));
    if chinese {
        chinese_of(rule, subject, &shown, &limit)
    } else {
        english_of(rule, subject, (value, &shown), &limit)
    }
}

fn english_of(rule: AlarmRule, subject: &str, (number, value): (u64, &str), limit: &str) -> String {
    let of = |one: &'static str, many: &'static str| if number == 1 { one } else { many };
    let said = match rule {
        AlarmRule::UndecidedAge => format!("the oldest undecided transaction is {value} old"),
        AlarmRule::UndecidedCount => {
            format!("{value} {} undecided", of("transaction is", "transactions are"))
        }
        AlarmRule::NoChecker => {
            let (noun, verb) = (of("transaction", "transactions"), of("is", "are"));
            format!("{value} {noun} of {subject} {verb} due for a check, and no checker is connected")
        }
        AlarmRule::Parked => format!("{value} {} for a person", of("transaction waits", "transactions wait")),
        AlarmRule::DeadLetters => {
            format!("group {subject} has {value} {}", of("dead letter", "dead letters"))
        }
        AlarmRule::DeadLetterRate => {
            format!("{value} {} of group {subject} died within a minute", of("message", "messages"))
        }
        AlarmRule::RetryAttempt => {
            format!("a message of group {subject} has failed {value} {}", of("time", "times"))
        }
        AlarmRule::Lag => format!("group {subject} has yet to finish {value} {}", of("message", "messages")),
        AlarmRule::LagAge => {
            format!("the oldest message that group {subject} has yet to finish is {value} old")
        }
        AlarmRule::DiskFree => format!("the disk of the store has {value} left"),
        AlarmRule::FailedSync => {
            return format!(
                "the broker stopped, for its store failed: {subject}; mend the disk and start it again"
            );
        }
        AlarmRule::SpillBehind => format!("what waits for the table fills {value} of its memory"),
        AlarmRule::Damaged => format!("{value} damaged {} met", of("record was", "records were")),
    };
    format!("{said} (limit {limit})")
}

fn chinese_of(rule: AlarmRule, subject: &str, value: &str, limit: &str) -> String {
    let said = match rule {
        AlarmRule::UndecidedAge => format!("最早的未决事务已持续 {value}"),
        AlarmRule::UndecidedCount => format!("未决事务共 {value} 个"),
        AlarmRule::NoChecker => format!("{subject} 有 {value} 个事务待回查，但没有已连接的回查者"),
        AlarmRule::Parked => format!("{value} 个事务等待人工处理"),
        AlarmRule::DeadLetters => format!("消费组 {subject} 有 {value} 条死信"),
        AlarmRule::DeadLetterRate => format!("消费组 {subject} 一分钟内新增 {value} 条死信"),
        AlarmRule::RetryAttempt => format!("消费组 {subject} 有消息已失败 {value} 次"),
        AlarmRule::Lag => format!("消费组 {subject} 堆积 {value} 条消息"),
        AlarmRule::LagAge => format!("消费组 {subject} 最早的未完成消息已等待 {value}"),
        AlarmRule::DiskFree => format!("存储所在磁盘仅剩 {value}"),
        AlarmRule::FailedSync => {
            return format!("存储失败，服务已停止：{subject}；请修复磁盘后重新启动");
        }
        AlarmRule::SpillBehind => format!("待落盘数据已占用内存上限的 {value}"),
        AlarmRule::Damaged => format!("发现 {value} 条损坏的记录"),
    };
    format!("{said}（阈值 {limit}）")
}

/// A value for people: an age to the second, a size with one decimal.
pub fn amount(unit: Unit, value: u64) -> String {
    match unit {
        Unit::Duration if value >= 1_000 => unit.text(value / 1_000 * 1_000),
        Unit::Size => {
            const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
            let (mut scaled, mut nth) = (value as f64, 0);
            while scaled >= 1024.0 && nth + 1 < UNITS.len() {
                scaled /= 1024.0;
                nth += 1;
            }
            if nth == 0 { format!("{value} B") } else { format!("{scaled:.1} {}", UNITS[nth]) }
        }
        _ => unit.text(value),
    }
}

/// The page of the console that mends it.
pub fn page(alarm: &Alarm) -> String {
    let subject = encoded(&alarm.subject);
    match alarm.rule {
        AlarmRule::UndecidedAge if !alarm.id.is_empty() => format!("/transactions/{}", encoded(&alarm.id)),
        AlarmRule::UndecidedAge | AlarmRule::UndecidedCount => "/transactions".to_owned(),
        AlarmRule::NoChecker => {
            // A subject of before may be otherwise: then all that wait.
            let of = alarm.subject.split_once('/');
            let of = of.map(|(group, kind)| format!("&group={}&kind={}", encoded(group), encoded(kind)));
            format!("/transactions?show=waiting{}", of.unwrap_or_default())
        }
        AlarmRule::Parked => "/transactions?show=parked".to_owned(),
        AlarmRule::DeadLetters | AlarmRule::DeadLetterRate => format!("/dead-letters?group={subject}"),
        AlarmRule::RetryAttempt => {
            // The page counts the attempt that comes next; below the limit there is one that was beyond it before.
            let attempt_min = alarm.value.min(alarm.limit).saturating_add(1);
            format!("/retries?group={subject}&attempt_min={attempt_min}")
        }
        AlarmRule::Lag | AlarmRule::LagAge => format!("/groups/{subject}"),
        AlarmRule::DiskFree | AlarmRule::FailedSync | AlarmRule::SpillBehind | AlarmRule::Damaged => {
            "/store".to_owned()
        }
    }
}

/// Percent-encoded, for addresses.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_said_in_both_languages_and_leads_somewhere() {
        for rule in AlarmRule::ALL {
            let alarm =
                Alarm { id: "tx-0-1".to_owned(), ..super::super::tests::alarm(*rule, "billing", 61_000) };
            for chinese in [false, true] {
                assert!(!rule_title(*rule, chinese).is_empty());
                let said = sentence(&alarm, chinese);
                let is_of_group = rule.is_of_groups();
                assert!(!is_of_group || said.contains("billing"), "{said}");
                assert_eq!(said.is_ascii(), !chinese, "{said}");
            }
            assert!(page(&alarm).starts_with('/'));
        }
    }

    #[test]
    fn a_link_leads_to_what_the_alarm_is_about() {
        let alarm = |rule, subject, value| super::super::tests::alarm(rule, subject, value);
        for (alarm, leads_to) in [
            (
                alarm(AlarmRule::NoChecker, "orders/order.create", 3),
                "/transactions?show=waiting&group=orders&kind=order.create",
            ),
            (
                Alarm { limit: 5, ..alarm(AlarmRule::RetryAttempt, "billing", 9) },
                "/retries?group=billing&attempt_min=6",
            ),
            (
                Alarm { limit: 5, ..alarm(AlarmRule::RetryAttempt, "billing", 4) },
                "/retries?group=billing&attempt_min=5",
            ),
        ] {
            assert_eq!(page(&alarm), leads_to);
        }
    }

    #[test]
    fn values_are_worded_for_people() {
        for (unit, value, text) in [
            (Unit::Duration, 61_234, "1m1s"),
            (Unit::Duration, 250, "250ms"),
            (Unit::Size, 1_610_612_736, "1.5 GiB"),
            (Unit::Size, 12, "12 B"),
            (Unit::Count, 12, "12"),
            (Unit::Percent, 80, "80%"),
        ] {
            assert_eq!(amount(unit, value), text);
        }
    }
}
