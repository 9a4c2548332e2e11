//! What the verbs do and say, with a real broker: contexts, checks, the live view where there is no terminal, the manual.

mod shell;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use shell::{Server, directory, escrow, stderr, stdout};

/// A command with a directory of its own for its contexts.
fn at_home(home: &Path) -> Command {
    let mut command = escrow();
    command.env("XDG_CONFIG_HOME", home);
    command
}

#[test]
fn a_broker_is_found_by_its_name() {
    let (dir, home) = (directory(), directory());
    let server = Server::start(dir.path());
    let run = |words: &str| at_home(home.path()).args(words.split(' ')).output().expect("it runs");
    let text = |words: &str| {
        let output = run(words);
        assert!(output.status.success(), "escrow {words}: {}", stderr(&output));
        stdout(&output)
    };
    assert!(
        text(&format!("context add here {} --as ann --use", server.url))
            .contains("context here added, and current")
    );
    text("context add gone http://127.0.0.1:1");
    let again = run("context add here http://127.0.0.1:2");
    assert!(!again.status.success() && stderr(&again).contains("--replace"), "{}", stderr(&again));
    let listed: Value = serde_json::from_str(&text("context ls -o json")).expect("JSON");
    assert_eq!(
        (&listed[0]["name"], &listed[1]["name"], &listed[1]["current"]),
        (&"gone".into(), &"here".into(), &true.into())
    );

    text("topic create order-paid");
    let done: Value = serde_json::from_str(&text("audit ls -o json")).expect("JSON");
    assert_eq!(done[0]["name"], "ann", "the context says who is asking");
    let gone = run("status --context gone");
    assert_eq!(gone.status.code(), Some(3), "{}", stderr(&gone));
    let both =
        at_home(home.path()).env("ESCROW_URL", &server.url).args(["status", "--context", "gone"]).output();
    assert_eq!(both.expect("it runs").status.code(), Some(2), "two brokers at once");
    let variable = at_home(home.path()).env("ESCROW_CONTEXT", "gone").args(["context", "show"]).output();
    assert!(stdout(&variable.expect("it runs")).contains("ESCROW_CONTEXT"));
    let unknown = run("status --context nowhere");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("there are gone, here"), "{}", stderr(&unknown));
    text("context rm here --yes");
    assert!(text("context show").contains("the default"));
}

#[test]
fn a_check_says_one_line_and_its_status() {
    let (dir, home) = (directory(), directory());
    let server = Server::start_with(dir.path(), &["transactions.first_check_after=1ms"]);
    server.json("topic create order-paid");
    let check = |words: &str| {
        let output = at_home(home.path())
            .env("ESCROW_URL", &server.url)
            .args(["check"])
            .args(words.split(' '))
            .output()
            .expect("it runs");
        let line = stdout(&output);
        assert_eq!(line.lines().count(), 1, "{line}{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        (output.status.code(), line)
    };
    let (status, line) = check("health --free-warning 1B --free-critical 1B");
    assert_eq!(status, Some(0), "{line}");
    assert!(line.starts_with("ESCROW HEALTH OK - ") && line.contains("'free'="), "{line}");
    let (status, line) = check("health --free-warning 1000TiB --free-critical 1B");
    assert_eq!(status, Some(1), "{line}");
    let (status, line) = check("health --url http://127.0.0.1:1");
    assert_eq!(status, Some(2), "a broker that is away is what it is for: {line}");
    let (status, line) = check("tx --url http://127.0.0.1:1");
    assert_eq!(status, Some(3), "{line}");
    let (status, line) = check("tx --age-warning 2h --age-critical 1h");
    assert_eq!(status, Some(3), "a warning above critical makes no sense: {line}");

    assert_eq!(check("tx").0, Some(0));
    server.json("pub order-paid hello --half");
    while server.json("status")["waiting_for_checker"] != 1 {
        std::thread::yield_now();
    }
    let (status, line) = check("tx");
    assert_eq!(status, Some(1), "{line}");
    assert!(
        line.starts_with("ESCROW TX WARNING - 1 wait for a checker; 1 transaction undecided |"),
        "{line}"
    );
    assert_eq!(check("tx --waiting-critical 1").0, Some(2));

    server.json("pub order-paid hello");
    server.json("sub billing --topic order-paid --count 1 --reject --reason no");
    server.json("pub order-paid hello");
    let (status, line) = check("dlq billing --critical 5");
    assert_eq!(status, Some(1), "{line}");
    assert!(
        line.contains("billing: 1 dead letter; 1 group, 1 dead letter in all | 'dead_letters'=1"),
        "{line}"
    );
    let (status, line) = check("lag billing --messages-critical 1");
    assert_eq!(status, Some(2), "{line}");
    assert!(line.contains("billing: 1 message behind") && line.contains("no consumer"), "{line}");
    assert_eq!(check("lag nobody").0, Some(3));
    let senseless = escrow().args(["check", "lag", "--nonsense"]).output().expect("it runs");
    assert_eq!(senseless.status.code(), Some(3), "{}", stderr(&senseless));
}

#[test]
fn top_prints_a_frame_where_there_is_no_terminal() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create order-paid");
    server.json("group create billing --topic order-paid");
    server.json("pub order-paid hello");
    server.json("pub order-paid hello --half");
    let output = server.run("top --interval 200ms");
    assert!(output.status.success(), "{}", stderr(&output));
    let frame = stdout(&output);
    for words in [
        "transactions  undecided 1",
        "messages      lag 1  ready 1",
        "latency",
        "GROUP",
        "billing",
        "no consumer",
    ] {
        assert!(frame.contains(words), "{words} is missing:\n{frame}");
    }
    assert!(!frame.contains('\u{1b}'), "a pipe gets no colours:\n{frame}");
    let read = server.json("top --once --interval 200ms");
    assert_eq!(read["groups"][0]["lag"], 1);
    assert_eq!(read["status"]["undecided"], 1);
    assert!(read["latencies"]["publish"]["p99_us"].as_u64() > Some(0), "{read}");
}

#[test]
fn the_manual_is_written_and_read_by_man() {
    let dir = directory();
    let into = dir.path().join("man1");
    let output = escrow().args(["man", "--dir"]).arg(&into).output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let page = std::fs::read_to_string(into.join("escrow-tx-commit.1")).expect("the page is there");
    assert!(page.contains(".SH EXAMPLES\n.nf\n  escrow tx commit tx\\-0\\-42"), "{page}");
    let one = escrow().args(["man", "tx", "commit"]).output().expect("it runs");
    assert_eq!(stdout(&one), page);
    let unknown = escrow().args(["man", "tx", "comit"]).output().expect("it runs");
    assert_eq!(unknown.status.code(), Some(2), "{}", stderr(&unknown));
}

#[test]
fn the_completions_of_each_shell_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = escrow().args(["completions", shell]).output().expect("it runs");
        assert!(output.status.success() && stdout(&output).contains("rollback"), "{shell}");
    }
}

#[test]
fn a_pipe_that_is_closed_is_no_error() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create numbers");
    let binary = env!("CARGO_BIN_EXE_escrow");
    let script = format!(
        "set -o pipefail; export ESCROW_URL={url}; seq 300 | {binary} pub numbers --lines -o jsonl | head -1 > /dev/null || exit 8; \
         {binary} topic ls | head -0 || exit 9; {binary} man | head -1 > /dev/null || exit 10",
        url = server.url
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
