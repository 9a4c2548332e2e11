//! Everybody who may look, at the end of a load: the dead letters as a list and as a topic, a replay of everything, the
//! search for a business key, the export, and a broker restored from a backup.

use std::time::Duration;

use escrow::{Client, Reason, v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::history::{Event, History, Reader};
use super::super::http;
use super::{GROUPS, TOPIC, note_body, note_dead, number_of};

/// How many messages are looked up by their key.
const LOOKED_UP_MAX: u64 = 300;
/// A reader that looks so often in a row and is handed nothing, though it is owed something, is starved.
const LOOKS_MAX: u32 = 400;
/// A reader that was handed nothing for so long asks whether there is more.
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// Notes all that readers of the broker find. Everything must have come to rest. A topic that does not keep what is finished
/// has nothing to replay by then.
pub(super) async fn read_everything(client: &Client, history: &History, keeps_finished: bool) {
    let now = history.len();
    for group in GROUPS {
        for key in dead_letters(client, group).await {
            note_dead(history, group, &key);
            history.note(Event::Read { reader: Reader::Export, message: number_of(&key), as_of: now });
        }
        read_topic(client, &format!("{group}.dlq"), Reader::DeadLetters, history, now).await;
    }
    if keeps_finished {
        read_topic(client, TOPIC, Reader::Replay, history, now).await;
        history.note(Event::ReadAll(Reader::Replay));
    }
    for number in 1..LOOKED_UP_MAX {
        look_up(client, number, history, now).await;
    }
}

/// Notes all that a broker has that was restored from a backup of the time `as_of`.
pub(super) async fn read_restored(client: &Client, history: &History, as_of: usize) {
    for group in GROUPS {
        read_topic(client, &format!("{group}.dlq"), Reader::Backup, history, as_of).await;
    }
    read_topic(client, TOPIC, Reader::Backup, history, as_of).await;
}

/// A whole backup.
pub(super) async fn backup(client: &Client) -> Result<Vec<u8>, escrow::Error> {
    let operator = Some(v1::Operator { name: "judge".into(), reason: String::new() });
    let mut chunks = client.admin().backup_store(v1::BackupStoreRequest { operator }).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        bytes.extend_from_slice(&chunk.data);
    }
    Ok(bytes)
}

async fn dead_letters(client: &Client, group: &str) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = v1::Page { limit: 1000, cursor };
        let filter = v1::DeadLetterFilter { group: group.into(), ..Default::default() };
        let request = v1::ListDeadLettersRequest { page: Some(page), filter: Some(filter) };
        let answer = client.admin().list_dead_letters(request).await.expect("the broker is up").into_inner();
        keys.extend(answer.dead_letters.into_iter().map(|letter| letter.message.unwrap_or_default().key));
        cursor = answer.next_cursor;
        if cursor.is_empty() {
            return keys;
        }
    }
}

/// Reads a topic from its oldest message to its newest, as a group of its own.
async fn read_topic(client: &Client, topic: &str, reader: Reader, history: &History, as_of: usize) {
    let group = format!("reader.of.{topic}");
    let open = client.subscribe(&group).topic(topic).prefetch(1_000).open();
    let mut deliveries = open.await.expect("a reader joins");
    // Many at once: a reader that waits for each answer takes minutes for what a load leaves behind.
    let mut acks = JoinSet::new();
    let mut looks = 0;
    loop {
        match tokio::time::timeout(LOOK_AFTER, deliveries.next()).await {
            Ok(delivery) => {
                let delivery = delivery.expect("the stream goes on").expect("the broker is up");
                let message = number_of(delivery.key());
                history.note(Event::Read { reader, message, as_of });
                note_body(history, message, &delivery);
                // What a restored broker queues for itself, scheduled messages for one, has places of its own.
                if reader == Reader::Replay {
                    history.note(Event::Found { message, offset: delivery.offset() });
                }
                acks.spawn(delivery.ack());
                looks = 0;
            }
            // Nothing more came: is there more?
            Err(_) => {
                let state = state_of(client, &group).await;
                if owed(&state) == 0 {
                    break;
                }
                looks += 1;
                assert!(looks < LOOKS_MAX, "{group} is owed something, and handed nothing: {state:?}");
            }
        }
    }
    while let Some(acked) = acks.join_next().await {
        // On a slow machine a lease may run out before its ack is looked at: then the message came again.
        if let Err(error) = acked.expect("an ack does not panic") {
            assert_eq!(
                error.reason(),
                Some(Reason::StaleLease),
                "a reader may say that it has read: {error:?}"
            );
        }
    }
    deliveries.close().await;
}

async fn state_of(client: &Client, group: &str) -> v1::Group {
    let request = v1::GetGroupRequest { name: group.into() };
    client.admin().get_group(request).await.expect("the group is there").into_inner()
}

/// Deliveries that the group still waits for, or holds.
fn owed(group: &v1::Group) -> u64 {
    group.leased + group.retrying + group.positions.iter().map(|position| position.lag).sum::<u64>()
}

/// Looks a message up by its business key. One that is undecided is shown as that, to people, and is not there to be read.
async fn look_up(client: &Client, number: u64, history: &History, as_of: usize) {
    let request = v1::FindMessagesRequest { key: number.to_string(), page: None };
    let found = client.admin().find_messages(request).await.expect("the broker is up").into_inner();
    if found.messages.iter().any(|message| shows(&message.state)) {
        history.note(Event::Read { reader: Reader::Search, message: number, as_of });
    }
}

/// Whether a message in this state is shown as one. Of one that is gone only its story is told, a rolled back one included:
/// what became of it, and nothing of what it said.
fn shows(state: &str) -> bool {
    !["UNDECIDED", "REMOVED"].contains(&state)
}

/// Asks `/api/v1` for each of `messages` by its business key, as a script would; notes those that it shows as more than
/// undecided.
///
/// # Errors
/// If the broker is not there, or answers with something else.
pub(super) async fn ask_http(
    port: u16,
    messages: std::ops::Range<u64>,
    history: &History,
) -> Result<(), Box<dyn std::error::Error>> {
    for message in messages {
        let found = get(port, &format!("/api/v1/messages?key={message}")).await?;
        // What is shown is no younger than this moment.
        let as_of = history.len();
        let found = found.get("messages").and_then(|found| found.as_array()).cloned().unwrap_or_default();
        if found.iter().any(|found| found["state"].as_str().is_none_or(shows)) {
            history.note(Event::Read { reader: Reader::Http, message, as_of });
        }
    }
    Ok(())
}

/// Exports the dead letters of all groups, as scripts do (a JSON text a line) and as the console does (a table); notes the
/// messages in them.
///
/// # Errors
/// If the broker is not there, or answers with something else.
pub(super) async fn export_http(port: u16, history: &History) -> Result<(), Box<dyn std::error::Error>> {
    for group in GROUPS {
        let path = format!("/api/v1/dead-letters/export?group={group}&operator.name=judge");
        let (lines, as_of) = export(port, &path, history).await?;
        for line in lines.lines() {
            let letter: serde_json::Value = serde_json::from_str(line)?;
            note_exported(history, letter["message"]["key"].as_str(), as_of, line)?;
        }
        let path = format!("/dead-letters/export?group={group}&format=csv");
        let (rows, as_of) = export(port, &path, history).await?;
        for row in rows.lines().skip(1) {
            let key = row.split(',').nth(KEY_COLUMN).map(|key| key.trim_matches('"'));
            note_exported(history, key, as_of, row)?;
        }
    }
    Ok(())
}

/// A file, and of what time it is at the latest.
async fn export(
    port: u16,
    path: &str,
    history: &History,
) -> Result<(String, usize), Box<dyn std::error::Error>> {
    let page = http::get_with(port, path, "cookie: escrow_operator=judge\r\n").await?;
    if page.status != 200 {
        return Err(format!("{path}: {} {}", page.status, page.text).into());
    }
    Ok((page.text, history.len()))
}

fn note_exported(history: &History, key: Option<&str>, as_of: usize, line: &str) -> Result<(), String> {
    let message = key.and_then(|key| key.parse().ok());
    let message = message.ok_or_else(|| format!("an export has a line without a key: {line}"))?;
    history.note(Event::Read { reader: Reader::Export, message, as_of });
    Ok(())
}

/// Where a table of dead letters has the business key.
const KEY_COLUMN: usize = 7;

/// The JSON at `path`: one small request, one small answer.
async fn get(port: u16, path: &str) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let is_ok = answer.starts_with("HTTP/1.1 200");
    let json = answer.find('{').zip(answer.rfind('}')).map(|(from, until)| &answer[from..=until]);
    let (true, Some(json)) = (is_ok, json) else { return Err(format!("{path}: {answer}").into()) };
    Ok(serde_json::from_str(json)?)
}
