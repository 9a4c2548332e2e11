//! What the command line says, word for word: every help, and one long session with a real broker in which every verb is
//! used, asked for what it cannot do, and shown in each form. The files in `snapshots/` are what a person has read and
//! found good.
//!
//! `SNAPSHOTS=overwrite cargo test -p escrow-broker --test snapshots` writes them anew: read the difference.

mod shell;

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use shell::{Server, directory, escrow, stderr, stdout};
use snapbox::{Assert, Data, Redactions, assert::Action, assert::DEFAULT_ACTION_ENV, data::DataFormat};

/// Longer than any line of help wraps at.
const COLUMNS: &str = "100";

/// Compares with a file of `snapshots/`. What differs from run to run has a name in brackets there.
fn assert_is(said: &str, file: &str) {
    let mut differs = Redactions::new();
    for (name, pattern) in [
        ("[TIME]", r"(?<redacted>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z)"),
        ("[MESSAGE]", r"(?<redacted>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"),
        ("[ADDRESS]", r"(?<redacted>127\.0\.0\.1:[0-9]{4,5})"),
        ("[CLIENT]", r"(?<redacted>rust-[a-z]{12})"),
        (
            "[AGE]",
            r"(PREPARED|COMMITTED|ROLLED_BACK)\t[-A-Za-z0-9]+\t[-A-Za-z0-9]+\t[-a-z0-9]+\t(?<redacted>[0-9]+m?s)\t",
        ),
        ("[AGE]", r"\nage\t(?<redacted>[0-9]+m?s)\n"),
        ("[AGE]", r#""age_ms":(?<redacted>[0-9]+)"#),
        ("[VERSION]", r"escrow (?<redacted>[0-9]+\.[0-9]+\.[0-9]+)"),
    ] {
        let pattern = regex::Regex::new(pattern).expect("a pattern of this file");
        differs.insert(name, pattern).expect("a name of this file");
    }
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(file);
    let assert = Assert::new()
        .action(Action::Verify)
        .action_env(DEFAULT_ACTION_ENV)
        .redact_with(differs)
        .normalize_paths(false);
    assert.eq(said.to_owned(), Data::read_from(&expected, Some(DataFormat::Text)));
}

/// The help of a command and of all below it, as `--help` prints them.
fn helps(path: &[&str], into: &mut String) {
    let output = escrow().args(path).arg("--help").env("COLUMNS", COLUMNS).output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    // What all have in common is read once, with the first.
    let own = match text.split_once("Global options:\n").filter(|_| !path.is_empty()) {
        Some((own, common)) => format!("{own}{}", common.split_once("\n\n").map_or("", |(_, rest)| rest)),
        None => text.clone(),
    };
    let _ = writeln!(into, "$ escrow {} --help\n{own}", path.join(" "));
    let Some((_, commands)) = text.split_once("Commands:\n") else { return };
    for line in commands.lines().take_while(|line| !line.is_empty()) {
        // A line further to the right goes on with what the one above says.
        let name = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
        let name = name.and_then(|rest| rest.split_whitespace().next());
        if let Some(name) = name.filter(|name| *name != "help") {
            helps(&[path, &[name]].concat(), into);
        }
    }
}

#[test]
fn every_help_is_as_it_was_read() {
    let mut said = String::new();
    helps(&[], &mut said);
    assert_is(&said, "help.txt");
}

/// The commands that do something, as they are typed; `into` gets those below `path`.
fn leaves(path: &[String], into: &mut Vec<String>) {
    let output = escrow().args(path).arg("--help").output().expect("it runs");
    let text = stdout(&output);
    let below = text.split_once("Commands:\n").map_or("", |(_, commands)| commands);
    let names = below.lines().take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let names: Vec<_> =
        names.filter_map(|rest| rest.split_whitespace().next()).filter(|name| *name != "help").collect();
    for name in &names {
        leaves(&[path, &[(*name).to_owned()]].concat(), into);
    }
    if names.is_empty() {
        into.push(path.join(" "));
    }
}

/// What has a test of its own, for it does not end or takes its time.
const NOT_IN_THE_SESSION: [&str; 2] = ["dev", "bench"];

#[test]
fn every_verb_is_in_the_session() {
    let mut verbs = Vec::new();
    leaves(&[], &mut verbs);
    assert!(verbs.len() > 50, "{verbs:?}");
    let script = include_str!("snapshots/session.sh");
    verbs.retain(|verb| !NOT_IN_THE_SESSION.contains(&verb.split(' ').next().unwrap_or_default()));
    // As a whole word: `escrow top` is not in `escrow topic ls`.
    let is_typed = |verb: &String| {
        let typed = format!("escrow {verb}");
        let lines = script.lines().filter(|line| !line.starts_with('#'));
        lines
            .flat_map(|line| line.split(&typed).skip(1))
            .any(|behind| behind.is_empty() || behind.starts_with([' ', ')']))
    };
    verbs.retain(|verb| !is_typed(verb));
    assert_eq!(verbs, Vec::<String>::new());
}

/// Runs lines of a shell as a user would type them, and writes down what is seen: both streams, and a status that is
/// not 0. Lines that begin with `#` are for the reader.
fn play(script: &str, server: &Server, home: &Path) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_escrow")).parent().expect("a binary lies in a directory");
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut said = String::new();
    for line in script.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            let _ = writeln!(said, "\n{line}");
            continue;
        }
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{{ {line}\n}} 2>&1")]).current_dir(home);
        command.env_clear().env("PATH", &path).env("COLUMNS", COLUMNS).env("HOME", home);
        command.env("ESCROW_URL", &server.url).env("USER", "ann").stdin(Stdio::null());
        let output = command.output().expect("bash runs");
        let _ = writeln!(
            said,
            "$ {line}\n{}",
            stdout(&output).trim_end().replace(&*home.to_string_lossy(), "[HOME]")
        );
        if let Some(status @ 1..) = output.status.code() {
            let _ = writeln!(said, "[status {status}]");
        }
    }
    said
}

#[test]
fn a_session_with_every_verb_is_as_it_was_read() {
    let (data, home) = (directory(), directory());
    let server = Server::start(data.path());
    let script = include_str!("snapshots/session.sh");
    assert_is(&play(script, &server, home.path()), "session.txt");
}
