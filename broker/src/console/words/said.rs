//! What the service layer says, in Chinese: refusals and sentences are worded where they arise, in English, for every way
//! in. A page in Chinese finds its words here by the form of the sentence; a test holds this table to the sources, so that
//! a new sentence without Chinese words fails. What came from outside (names, texts of consumers, answers of sinks) stays as it is.

use std::borrow::Cow;

use escrow_protocol::Reason;

use super::Language;
use crate::engine::Refusal;

/// Sentences within sentences, at most: a fault within a refusal within a field.
const DEPTH_MAX: usize = 3;

/// Forms of sentences, the more particular before the more general: `{}` is a gap, in Chinese `{0}` is the first one.
const SENTENCES: &[(&str, &str)] = &[
    // Fields.
    ("it is missing; say whose dead letters", "缺少此项；请说明是哪个消费组的死信"),
    ("it is missing; say which business key", "缺少此项；请说明业务键"),
    ("it is missing; say who does this", "缺少此项；请说明操作人"),
    ("it is missing; this cannot be undone: say why", "缺少此项；此操作无法撤销，请说明原因"),
    (
        "it is missing; say oldest, newest, an offset or a time",
        "缺少此项；请选择最早、最新、某个位点或某个时间",
    ),
    ("it is missing; offsets belong to the dead letters of a group", "缺少此项；位点属于某个消费组的死信"),
    ("it is missing; say when the message is to come", "缺少此项；请说明消息何时投递"),
    ("it is missing; send a message with a topic", "缺少此项；请发送带主题的消息"),
    ("it is missing; say COMMIT or ROLLBACK", "缺少此项；请选择 COMMIT 或 ROLLBACK"),
    ("it is missing; send the id that SendHalf gave", "缺少此项；请填写 SendHalf 返回的编号"),
    (
        "it is missing, or newer than this broker; send ack, nack, reject, extend or release",
        "缺少此项，或来自更新的版本；请发送 ack、nack、reject、extend 或 release",
    ),
    ("it is missing; fill it in", "缺少此项；请填写"),
    ("it is missing; choose one", "缺少此项；请选择"),
    ("it is missing; write an offset", "缺少此项；请填写位点"),
    ("it is missing; write a time", "缺少此项；请填写时间"),
    ("it is empty; say which messages", "为空；请说明是哪些消息"),
    ("it is not oldest, newest, offset or time; choose one", "不是最早、最新、位点或时间之一；请选择"),
    ("it is not oldest or newest; choose one", "不是最早或最新之一；请选择"),
    ("it is not block, skip or dead_letter; choose one", "不是 block、skip 或 dead_letter 之一；请选择"),
    ("it is not pause, run or stop; use a button of the page", "不是暂停、继续或停止；请使用页面上的按钮"),
    (
        "it is not a time; write 2026-01-31 or 2026-01-31 12:00, in UTC",
        "不是时间；请按 2026-01-31 或 2026-01-31 12:00 填写（UTC）",
    ),
    (
        "it is not a cursor of this list; pass the next_cursor of the answer before, or none",
        "不是此列表的游标；请使用上一页给出的游标，或从第一页开始",
    ),
    (
        "it bounds what is kept for a time, and no time is given; set keep_finished_ms, too",
        "它限制按时间保留的内容，但没有给出时间；请同时设置 keep_finished_ms",
    ),
    ("it is {}, a time is not negative (Unix milliseconds)", "值为 {0}，时间不能为负（Unix 毫秒）"),
    ("it is {}, allowed is 1000 (once) to 100000", "值为 {0}，允许 1000（一倍）到 100000"),
    ("it is {}, allowed is {} to {}", "值为 {0}，允许 {1} 到 {2}"),
    ("it is {}, at most {} is allowed", "值为 {0}，最多允许 {1}"),
    ("it is {}, at most {} are allowed", "值为 {0}，最多允许 {1}"),
    (
        "it has {} bytes, at most {} are allowed; keep large objects elsewhere and send where they are",
        "共 {0} 字节，最多允许 {1}；大对象请存放在别处，只发送其位置",
    ),
    ("it has {} bytes, at most {} are allowed", "共 {0} 字节，最多允许 {1}"),
    ("there are {}, at most {} are allowed at a time", "共 {0} 个，一次最多允许 {1}"),
    ("there are {}, at most {} are allowed", "共 {0} 个，最多允许 {1}"),
    ("there are {}, a ladder has 1 to {}", "共 {0} 级，阶梯为 1 到 {1} 级"),
    ("there are {}, a transaction has 1 to {}", "共 {0} 条，一个事务包含 1 到 {1} 条消息"),
    ("{} tags of one topic, at most {} are allowed", "一个主题有 {0} 个标签，最多允许 {1}"),
    (
        "{} comes twice; name each topic once, with all its tags",
        "{0} 出现两次；每个主题只写一次，并带上全部标签",
    ),
    ("{} comes twice; give each message an id of its own", "{0} 出现两次；每条消息需有自己的编号"),
    ("their bodies have {} bytes together, at most {} are allowed", "消息体合计 {0} 字节，最多允许 {1}"),
    ("they have {} bytes together, at most {} are allowed", "合计 {0} 字节，最多允许 {1}"),
    ("a header has no name; name it or leave it out", "有一个消息头没有名称；请命名或去掉"),
    (
        "names that begin with \"escrow-\" are the broker's own; use another name",
        "以 “escrow-” 开头的名称由服务保留；请换一个名称",
    ),
    ("it is more than 366 days ahead; choose an earlier time", "超过 366 天之后；请选择更早的时间"),
    (
        "{} is not a value this broker knows; use one of its protocol's",
        "{0} 不是此服务认识的值；请使用协议中的值",
    ),
    (
        "its dead-letter topic would have an illegal name ({}); shorten it",
        "其死信主题的名称将不合法（{0}）；请缩短",
    ),
    ("its dead-letter topic needs a name, too: {}", "其死信主题也需要名称：{0}"),
    (
        "with broadcast, group and client id together name a group: {}",
        "广播时由消费组与客户端编号共同命名一个消费组：{0}",
    ),
    (
        "{} is not a legal {}: {}; use 1 to {} letters, digits, '_', '.' or '-', the first a letter or digit",
        "{0} 不是合法的名称；请使用 1 到 {3} 个字母、数字、“_”、“.” 或 “-”，首字符为字母或数字",
    ),
    ("{} is no operation; choose one of the list", "{0} 不是操作；请从列表中选择"),
    ("{} is no reason; choose one of the list", "{0} 不是死信原因；请从列表中选择"),
    ("{} is not name: value", "{0} 不是 “名称: 值” 的形式"),
    ("{} is not one of {}", "{0} 不是以下之一：{1}"),
    ("{} is not a number", "{0} 不是数字"),
    ("{} is not a {}: {}", "{0} 不是合法的编号"),
    ("invalid digit found in string", "不是数字"),
    ("cannot parse integer from empty string", "为空，应为数字"),
    ("number too large to fit in target type", "数字过大"),
    // Transactions.
    (
        "transaction {} is answered for by checkers of kind {} of producer group {}",
        "事务 {0} 由生产者组 {2} 中类型为 {1} 的回查者负责应答",
    ),
    ("transaction {} is parked: resume it, and it is checked again", "事务 {0} 已搁置：恢复后会再次回查"),
    ("transaction {} is decided already", "事务 {0} 已有最终决定"),
    (
        "transaction {} is not parked: only a parked one is resumed",
        "事务 {0} 未被搁置：只有已搁置的事务才能恢复",
    ),
    (
        "transaction {} belongs to producer group {}; only it may decide",
        "事务 {0} 属于生产者组 {1}；只有该组可以决定",
    ),
    (
        "transaction {} is {} already, by {} {}: a decision is final",
        "事务 {0} 已由 {2} {3} 决定为 {1}：决定不可更改",
    ),
    (
        "transaction {} is not known: never made, or decided longer ago than is remembered",
        "事务 {0} 不存在：从未创建，或决定时间已超出保留期",
    ),
    (
        "transaction key {} was used for a transaction of other topics; use a key once",
        "事务键 {0} 已用于其他主题的事务；每个键只能使用一次",
    ),
    (
        "{} transactions are undecided, as many as `limits.undecided_max` allows; decide some",
        "未决事务已有 {0} 个，达到 `limits.undecided_max` 上限；请先处理一部分",
    ),
    ("a decision by hand needs one; say why", "人工决定需要原因；请说明"),
    ("say hello before answering checks", "应答回查前请先握手"),
    // Topics and groups.
    (
        "names ending in .dlq are kept for dead letters; choose another name than {}",
        "以 .dlq 结尾的名称保留给死信；请换掉 {0}",
    ),
    (
        "topic {} exists; change it with `escrow topic update`",
        "主题 {0} 已存在；可用 `escrow topic update` 修改",
    ),
    (
        "topic {} holds the dead letters of a group and goes with the group",
        "主题 {0} 存放某个消费组的死信，随该消费组一起删除",
    ),
    (
        "topic {} is kept for the dead letters of a group; publish to a topic of your own",
        "主题 {0} 保留给某个消费组的死信；请使用自己的主题",
    ),
    (
        "{} undecided or scheduled messages will come to topic {}; decide or cancel them first",
        "还有 {0} 条未决或定时消息将进入主题 {1}；请先决定或取消它们",
    ),
    (
        "{} groups listen to topic {}; unsubscribe them, or force it",
        "有 {0} 个消费组订阅主题 {1}；请先取消订阅，或强制执行",
    ),
    (
        "there is no topic {}; create it with `escrow topic create {}`",
        "主题 {0} 不存在；可用 `escrow topic create {1}` 创建",
    ),
    (
        "there are {} topics, as many as `limits.topics_max` allows; delete some or raise it",
        "主题已有 {0} 个，达到 `limits.topics_max` 上限；请删除一些或调高上限",
    ),
    (
        "group {} exists; change it with `escrow group update`",
        "消费组 {0} 已存在；可用 `escrow group update` 修改",
    ),
    ("group {} does not listen to topic {}", "消费组 {0} 未订阅主题 {1}"),
    (
        "group {} has {} dead letters and {} consumers; redrive or discard the letters and stop the consumers, or force it",
        "消费组 {0} 有 {1} 条死信和 {2} 个消费者；请先重新投递或丢弃死信并停止消费者，或强制执行",
    ),
    (
        "there is no group {}; create it with `escrow group create {} --topic <topic>`",
        "消费组 {0} 不存在；可用 `escrow group create {1} --topic <主题>` 创建",
    ),
    (
        "group {} does not exist yet: name at least one topic to make it",
        "消费组 {0} 尚不存在：请至少给出一个主题以创建它",
    ),
    (
        "group {} listens to topic {} with tags {}, this consumer asks for {}; use the same tags, or change them with `escrow group update`",
        "消费组 {0} 以标签 {2} 订阅主题 {1}，此消费者要求 {3}；请使用相同标签，或用 `escrow group update` 修改",
    ),
    (
        "belongs to one client of a broadcast: join with broadcast, or choose another group",
        "属于某个客户端的广播订阅：请以广播方式加入，或换一个消费组",
    ),
    (
        "is an ordinary group: choose another group or client id for the broadcast",
        "是普通消费组：请为广播换一个消费组或客户端编号",
    ),
    (
        "there are {} groups, as many as `limits.groups_max` allows; delete some or raise it",
        "消费组已有 {0} 个，达到 `limits.groups_max` 上限；请删除一些或调高上限",
    ),
    ("offset {} is outside what is kept: {} to {}", "位点 {0} 超出保留范围：{1} 到 {2}"),
    ("this stream has said hello already", "此连接已握手"),
    (
        "{} clients are connected, as many as `limits.sessions_max` allows; close some or raise it",
        "已连接 {0} 个客户端，达到 `limits.sessions_max` 上限；请断开一些或调高上限",
    ),
    // Messages, retries, dead letters, jobs.
    (
        "group {} has no dead letter at {}: redriven, discarded, or never there",
        "消费组 {0} 在位点 {1} 没有死信：已重新投递、已丢弃，或从未存在",
    ),
    (
        "group {} has no such dead letter at offset {}: redriven, discarded, or never there",
        "消费组 {0} 在位点 {1} 没有这样的死信：已重新投递、已丢弃，或从未存在",
    ),
    ("message {} has no dead letter that matches", "消息 {0} 没有符合条件的死信"),
    ("the message of dead letter {} cannot be read", "死信 {0} 的消息无法读取"),
    (
        "message {} is not stored: it never was, was rolled back, or every group has finished it",
        "消息 {0} 未存储：从未存在、已回滚，或所有消费组都已处理完",
    ),
    ("message {} is not stored", "消息 {0} 未存储"),
    (
        "message id {} was used for another message; make a new id for each message",
        "消息编号 {0} 已用于另一条消息；请为每条消息生成新编号",
    ),
    (
        "group {} does not retry message {}: acked, dead, or never failed; `escrow msg trace {}` says which",
        "消费组 {0} 没有在重试消息 {1}：已确认、已成死信，或从未失败；`escrow msg trace {2}` 可查看",
    ),
    (
        "attempt {} of message {} is with consumer {}: wait for its answer, or for its lease to run out",
        "消息 {1} 的第 {0} 次尝试正在消费者 {2} 处：请等待其应答，或等租约到期",
    ),
    (
        "the lease is over: it ran out, was settled, or belongs to another group; the message may be under way again",
        "租约已结束：已到期、已处理，或属于另一个消费组；消息可能正在再次投递",
    ),
    (
        "{} jobs are under way, as many as `limits.jobs` allows; wait for one, or cancel it",
        "进行中的任务已有 {0} 个，达到 `limits.jobs` 上限；请等待或停止其中一个",
    ),
    ("job {} has ended: {}", "任务 {0} 已结束：{1}"),
    (
        "there is no job {}: never started, or forgotten since; `escrow jobs ls` lists them",
        "任务 {0} 不存在：从未开始，或已被清理；`escrow jobs ls` 可列出",
    ),
    ("group {} is gone", "消费组 {0} 已不存在"),
    ("the record of its progress is damaged", "其进度记录已损坏"),
    // Alarms.
    ("alarm {} is over; there is nothing left to look after", "告警 {0} 已恢复，无需再处理"),
    (
        "alarm {} is not written down yet, for the disk has no room; free some",
        "告警 {0} 尚未写入，因为磁盘空间不足；请释放空间",
    ),
    (
        "there is no alarm {}: never raised, or forgotten since; `escrow alarms ls` lists them",
        "告警 {0} 不存在：从未发生，或已被清理；`escrow alarms ls` 可列出",
    ),
    ("there is no sink {}; {}", "没有名为 {0} 的告警接收方；{1}"),
    ("none is configured, see `alarms.sinks`", "没有配置任何接收方，见 `alarms.sinks`"),
    ("there are: {}", "现有：{0}"),
    ("the answer is about no alarm; please report this", "应答与告警无关；请报告此问题"),
    ("acknowledging ended early: {}", "确认操作提前结束：{0}"),
    ("{} did not answer within {} s", "{0} 在 {1} 秒内没有应答"),
    ("{} did not take the mail within {} s", "{0} 在 {1} 秒内没有接收邮件"),
    ("{} cannot be reached: {}", "{0} 无法连接：{1}"),
    ("{} closed the connection", "{0} 关闭了连接"),
    ("{}: it answered {}", "{0}：返回 {1}"),
    // The store and the broker.
    (
        "the store is short of room (disk space, or data that waits to be written to the table): new messages are refused until there is some again; decisions and acks go on",
        "存储空间不足（磁盘空间，或待落盘的数据）：暂时拒绝新消息，恢复后自动接收；决定与确认照常进行",
    ),
    (
        "the broker's disk has no room ({}); free space, then try again",
        "服务的磁盘空间不足（{0}）；请释放空间后重试",
    ),
    (
        "what came together at once is more than the store takes ({}); send it again",
        "同时到达的数据超出存储一次所能接收（{0}）；请重新发送",
    ),
    (
        "this is more than the store takes at once ({}); do it in smaller steps",
        "超出存储一次所能接收（{0}）；请分成更小的步骤",
    ),
    (
        "more waits than the broker queues; send less at a time and try again",
        "等待的请求超出队列；请减少并发后重试",
    ),
    ("the broker is stopping; connect again", "服务正在停止；请稍后重新连接"),
    (
        "{}; run `escrow store verify` and restore a backup if need be",
        "{0}；请运行 `escrow store verify`，必要时从备份恢复",
    ),
    (
        "{}; `escrow store verify` lists all damage, a backup has the record",
        "{0}；`escrow store verify` 可列出全部损坏，备份中有该记录",
    ),
    ("{}; the broker stops, mend the disk and start it again", "{0}；服务将停止，请修复磁盘后重新启动"),
    (
        "nothing of the backup was taken for {} s, or too little over a longer time, so it was ended and is not whole; begin again, and write it where it can be written faster",
        "备份已有 {0} 秒无人接收，或长时间接收过慢，因此中止且不完整；请重新开始，并写到更快的位置",
    ),
    ("reading ended early: {}", "读取提前结束：{0}"),
    ("asking ended early: {}", "查询提前结束：{0}"),
    ("verifying ended early: {}", "校验提前结束：{0}"),
    ("a store in memory has no backup; use a data directory", "内存存储没有备份；请使用数据目录"),
    (
        "the engine's answer does not belong to the question; please report this",
        "引擎的应答与问题不符；请报告此问题",
    ),
    (
        "the engine's answer does not belong to the command; please report this",
        "引擎的应答与命令不符；请报告此问题",
    ),
    ("the broker is starting; ask again in a moment", "服务正在启动；请稍后再试"),
    // Durations and sizes.
    (
        "{} is not a duration; write a duration such as {}",
        "{0} 不是时长；请填写时长，例如 250ms、30s、5m、24h 或 1h30m",
    ),
    (
        "{} has no unit; write a duration such as {}",
        "{0} 没有单位；请填写时长，例如 250ms、30s、5m、24h 或 1h30m",
    ),
    (
        "{} has a unit that is not known; write a duration such as {}",
        "{0} 的单位未知；请填写时长，例如 250ms、30s、5m、24h 或 1h30m",
    ),
    (
        "{} is too long; write a duration such as {}",
        "{0} 太长；请填写时长，例如 250ms、30s、5m、24h 或 1h30m",
    ),
    (
        "{} is not a size; write a size such as {}",
        "{0} 不是大小；请填写大小，例如 4096、64KiB、64MiB 或 1GiB",
    ),
    (
        "{} has a unit that is not known; write a size such as {}",
        "{0} 的单位未知；请填写大小，例如 4096、64KiB、64MiB 或 1GiB",
    ),
    ("{} is too large; write a size such as {}", "{0} 太大；请填写大小，例如 4096、64KiB、64MiB 或 1GiB"),
    // What happened.
    ("moved from {} to {} by {}", "由 {2} 从 {0} 改到 {1}"),
    ("{} committed by {} {}: {}", "{0} 由{1} {2} 提交：{3}"),
    ("{} rolled back by {} {}: {}", "{0} 由{1} {2} 回滚：{3}"),
    ("{} committed by {} {}", "{0} 由{1} {2} 提交"),
    ("{} rolled back by {} {}", "{0} 由{1} {2} 回滚"),
    ("in the dead letters at offset {}: {}", "位于死信，位点 {0}：{1}"),
    (
        "{} checks reached a checker ({} unknown, {} timed out); {} found none",
        "{0} 次回查到达回查者（{1} 次不明，{2} 次超时）；{3} 次没有回查者",
    ),
    // The most general.
    (
        "{} is not known: it was never made, or decided longer ago than is remembered",
        "{0} 不存在：从未创建，或决定时间已超出保留期",
    ),
    ("group {} {}", "消费组 {0} {1}"),
];

/// Words that stand alone in a gap.
const WORDS: &[(&str, &str)] = &[
    ("producer", "生产者"),
    ("check", "回查"),
    ("person", "人工"),
    ("policy", "策略"),
    ("PREPARED", "未决"),
    ("PARKED", "已搁置"),
    ("COMMITTED", "已提交"),
    ("ROLLED_BACK", "已回滚"),
    ("DONE", "已完成"),
    ("CANCELLED", "已停止"),
    ("FAILED", "已失败"),
];

/// A sentence of the service layer, in this language. One that the table does not know came from outside, and stays.
pub(crate) fn said(language: Language, text: &str) -> Cow<'_, str> {
    match language {
        Language::English => Cow::Borrowed(text),
        Language::Chinese => in_chinese(text, DEPTH_MAX).map_or(Cow::Borrowed(text), Cow::Owned),
    }
}

/// A refusal, in this language. Whatever it says, a reader of Chinese learns why.
pub(crate) fn refused(language: Language, refusal: &Refusal) -> String {
    let text = refusal.message.as_str();
    if language == Language::English {
        return text.to_owned();
    }
    let of_field = text.split_once(": ").filter(|_| refusal.reason == Reason::InvalidField);
    let (field, said) = match of_field.filter(|(field, _)| !field.contains(' ')) {
        Some((field, fault)) => (format!("{field}："), in_chinese(fault, DEPTH_MAX)),
        None => (String::new(), in_chinese(text, DEPTH_MAX)),
    };
    match said {
        Some(said) => format!("{field}{said}"),
        None => format!("{}（{text}）", why(refusal.reason)),
    }
}

fn in_chinese(text: &str, depth: usize) -> Option<String> {
    let known = WORDS.iter().find(|(word, _)| *word == text);
    if let Some((_, word)) = known {
        return Some((*word).to_owned());
    }
    let (gaps, chinese) =
        SENTENCES.iter().find_map(|(form, chinese)| Some((gaps_of(form, text)?, chinese)))?;
    let mut said = (*chinese).to_owned();
    for (nth, gap) in gaps.into_iter().enumerate() {
        let within = (depth > 1).then(|| in_chinese(gap, depth - 1)).flatten();
        said = said.replace(&format!("{{{nth}}}"), within.as_deref().unwrap_or(gap));
    }
    Some(said)
}

/// What fills the gaps of a form in this text, if it has that form.
fn gaps_of<'a>(form: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let (parts, mut rest) = (form.split("{}").collect::<Vec<_>>(), text);
    let [first, between @ .., last] = parts.as_slice() else { return (form == text).then(Vec::new) };
    rest = rest.strip_prefix(first)?;
    let mut gaps = Vec::new();
    for part in between {
        let (gap, behind) = rest.split_once(part)?;
        gaps.push(gap);
        rest = behind;
    }
    gaps.push(rest.strip_suffix(last)?);
    Some(gaps)
}

/// Why, where the sentence has no words of its own.
fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidField => "某项的值不合法",
        Reason::HelloExpected => "需要先握手",
        Reason::ProtocolVersion => "协议版本不兼容",
        Reason::UnknownTopic => "主题不存在",
        Reason::UnknownGroup => "消费组不存在",
        Reason::UnknownTransaction => "事务不存在",
        Reason::UnknownMessage => "消息不存在",
        Reason::UnknownDeadLetter => "死信不存在",
        Reason::UnknownRetry => "该消费组没有在重试此消息",
        Reason::UnknownSubscription => "消费组未订阅该主题",
        Reason::UnknownJob => "任务不存在",
        Reason::UnknownAlarm => "告警不存在",
        Reason::UnknownSink => "告警接收方不存在",
        Reason::TopicExists => "主题已存在",
        Reason::GroupExists => "消费组已存在",
        Reason::MessageIdReused => "消息编号已被使用",
        Reason::TransactionKeyReused => "事务键已被使用",
        Reason::AlreadyDecided => "已有相反的最终决定",
        Reason::WrongGroup => "事务属于另一个生产者组",
        Reason::StaleLease => "租约已结束",
        Reason::SubscriptionMismatch => "订阅方式不一致",
        Reason::ReservedTopic => "该主题保留给死信",
        Reason::InUse => "仍在使用中",
        Reason::NotParked => "事务未被搁置",
        Reason::NotUndecided => "事务已有最终决定",
        Reason::JobEnded => "任务已结束",
        Reason::AlarmResolved => "告警已恢复",
        Reason::OffsetOutOfRange => "位点超出保留范围",
        Reason::LimitReached => "已达上限",
        Reason::DiskFull => "磁盘空间不足",
        Reason::Overloaded => "等待的请求过多",
        Reason::ShuttingDown => "服务正在停止",
        Reason::Damaged => "记录已损坏",
        Reason::Internal => "服务内部错误",
        _ => NOT_WORDED,
    }
}

/// For a reason that is newer than this table: a test fails until it has words.
const NOT_WORDED: &str = "被拒绝";

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// Where sentences arise that a page can show. Sessions of clients word theirs for clients.
    const SOURCES: [&str; 7] =
        ["engine", "service", "driver", "alarms/desk.rs", "grpc/admin.rs", "grpc/wire", "console/pages"];
    /// How far back a sentence is looked for that has a name, bytes.
    const NAMED_WITHIN: usize = 1_500;

    fn files(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).expect("it can be listed") {
                files(&entry.expect("an entry").path(), found);
            }
        } else if !path.ends_with("tests.rs") && !path.components().any(|part| part.as_os_str() == "tests") {
            found.push(path.to_owned());
        }
    }

    /// The texts in quotes of `source`, up to where `ends` says so outside of them.
    fn quoted(source: &str, mut ends: impl FnMut(char) -> bool) -> (Vec<String>, usize) {
        let (mut texts, mut text, mut is_escaped) = (Vec::new(), None::<String>, false);
        for (at, letter) in source.char_indices() {
            match &mut text {
                Some(_) if letter == '"' && !is_escaped => texts.extend(text.take()),
                Some(text) => text.push(letter),
                None if letter == '"' => text = Some(String::new()),
                None if ends(letter) => return (texts, at),
                None => {}
            }
            is_escaped = letter == '\\' && !is_escaped;
        }
        (texts, source.len())
    }

    /// What `source` refuses with, as it stands in quotes.
    fn sentences(source: &str) -> Vec<String> {
        let mut found = Vec::new();
        for call in ["Refusal::new(", "Refusal::invalid("] {
            for (at, _) in source.match_indices(call) {
                let arguments = &source[at + call.len()..];
                let mut depth = 1;
                let (texts, end) = quoted(arguments, |letter| {
                    depth += i32::from(matches!(letter, '(' | '[' | '{'))
                        - i32::from(matches!(letter, ')' | ']' | '}'));
                    depth == 0
                });
                found.extend(texts);
                // A sentence that was given a name before.
                let start =
                    (at.saturating_sub(NAMED_WITHIN)..at).find(|start| source.is_char_boundary(*start));
                let before = &source[start.unwrap_or(at)..at];
                let words = arguments[..end].split(|letter: char| !letter.is_alphanumeric() && letter != '_');
                for word in
                    words.filter(|word| matches!(*word, "text" | "message" | "fault" | "remedy" | "known"))
                {
                    if let Some(named) = before.rfind(&format!("let {word} =")) {
                        found.extend(quoted(&before[named..], |letter| letter == ';').0);
                    }
                }
            }
        }
        // What is nothing but gaps is worded elsewhere.
        found.retain(|text| {
            text.trim().contains(' ')
                && !filled(text).replace("x-1", "").trim_matches([' ', ':', ',']).is_empty()
        });
        found
    }

    /// A sentence with something in its gaps.
    fn filled(form: &str) -> String {
        let mut text = String::new();
        let mut rest = form.replace("\\\"", "\"");
        while let Some((before, behind)) = rest.split_once('\\') {
            text.push_str(before);
            rest = behind.trim_start().to_owned();
        }
        text.push_str(&rest);
        let mut parts = text.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            filled.push_str("x-1");
            filled.push_str(part.split_once('}').map_or("", |(_, behind)| behind));
        }
        filled
    }

    #[test]
    fn every_sentence_of_a_refusal_has_chinese_words() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        SOURCES.iter().for_each(|source| files(&root.join(source), &mut found));
        let mut count = 0;
        let mut missing = Vec::new();
        for file in &found {
            let source = std::fs::read_to_string(file).expect("it can be read");
            let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for sentence in sentences(source).iter().map(|sentence| filled(sentence)) {
                count += 1;
                if in_chinese(&sentence, DEPTH_MAX).is_none() {
                    missing.push(format!("{}: {sentence}", file.display()));
                }
            }
        }
        assert!(count > 100, "only {count} sentences were found: this test looks past them");
        assert!(missing.is_empty(), "give these words in SENTENCES:\n{}", missing.join("\n"));
    }

    #[test]
    fn a_duration_or_a_size_that_is_none_is_refused_in_chinese() {
        use crate::config::{parse_duration_ms, parse_size};
        let durations = ["", "soon", "5", "5 weeks", "99999999999999999999d", "213503982335d"];
        let sizes = ["", "much", "5 stones", "99999999TiB"];
        let faults = durations.map(|text| parse_duration_ms(text).map(drop)).into_iter();
        for fault in faults.chain(sizes.map(|text| parse_size(text).map(drop))) {
            let fault = fault.expect_err("none of them is one").to_string();
            assert!(in_chinese(&fault, DEPTH_MAX).is_some(), "{fault}");
        }
    }

    #[test]
    fn every_reason_has_words_and_every_form_the_same_gaps() {
        for reason in Reason::ALL {
            assert_ne!(why(*reason), NOT_WORDED, "{reason} has no words");
        }
        for (form, chinese) in SENTENCES {
            let gaps = form.matches("{}").count();
            for nth in 0..10 {
                let is_used = chinese.contains(&format!("{{{nth}}}"));
                assert!(nth < gaps || !is_used, "{chinese} has a gap that {form} has not");
            }
            assert!(!chinese.is_ascii(), "{chinese}");
        }
    }

    #[test]
    fn refusals_are_said_in_chinese_also_those_within_others_and_those_nobody_knows() {
        let decided = Refusal::new(
            Reason::AlreadyDecided,
            "transaction tx-0-1 is COMMITTED already, by person \"ada\": a decision is final",
        );
        let unnamed = Refusal::invalid("operator.name", "it is missing; say who does this");
        let illegal =
            Refusal::invalid("name", "a b".parse::<escrow_protocol::TopicName>().unwrap_err().to_string());
        let strange = Refusal::new(Reason::Damaged, "something else");
        for (refusal, chinese) in [
            (decided, "事务 tx-0-1 已由 人工 \"ada\" 决定为 已提交：决定不可更改"),
            (unnamed, "operator.name：缺少此项；请说明操作人"),
            (
                illegal,
                "name：\"a b\" 不是合法的名称；请使用 1 到 127 个字母、数字、“_”、“.” 或 “-”，首字符为字母或数字",
            ),
            (strange, "记录已损坏（something else）"),
        ] {
            assert_eq!(refused(Language::Chinese, &refusal), chinese);
            assert_eq!(refused(Language::English, &refusal), refusal.message);
        }
    }
}
