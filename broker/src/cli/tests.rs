//! What can be said: every verb, every help, every example.

use clap::{Command, CommandFactory, Parser};

use super::Cli;

/// Hands every command below `command` to `visit`, with its full name.
fn walk(command: &Command, name: &str, visit: &mut dyn FnMut(&str, &Command)) {
    visit(name, command);
    for inner in command.get_subcommands() {
        walk(inner, &format!("{name} {}", inner.get_name()), visit);
    }
}

fn examples(command: &Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_default();
    examples.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The words of an example's own command, without what is piped in or out.
fn words(example: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for letter in example.chars() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is always a word").push(letter),
        }
    }
    let begin = words.iter().position(|word| word == "escrow").expect("an example of escrow");
    let end = words[begin..].iter().position(|word| ["|", ">", "<"].contains(&word.as_str()));
    words[begin..end.map_or(words.len(), |end| begin + end)].to_vec()
}

#[test]
fn the_command_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_has_two_examples_of_its_own_verb() {
    let mut count = 0;
    walk(&Cli::command(), "escrow", &mut |name, command| {
        let examples = examples(command);
        assert!(examples.len() >= 2, "{name} has {} examples", examples.len());
        for example in &examples {
            assert!(
                words(example).join(" ").starts_with(name),
                "{name} has an example of another verb: {example}"
            );
        }
        count += 1;
    });
    assert!(count > 40, "only {count} commands were visited");
}

#[test]
fn every_example_can_be_said() {
    walk(&Cli::command(), "escrow", &mut |name, command| {
        for example in examples(command) {
            if let Err(error) = Cli::try_parse_from(words(&example)) {
                panic!("an example of {name} is refused: {example}\n{error}");
            }
        }
    });
}

/// What the documents show is tried by no machine else. What stands for something is put in its place.
#[test]
fn every_command_of_the_documents_can_be_said() {
    let mut said = 0;
    for (name, text) in [
        ("README.md", include_str!("../../../README.md")),
        ("docs/operating.md", include_str!("../../../docs/operating.md")),
    ] {
        let in_blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
        for line in in_blocks.flat_map(str::lines).filter(|line| line.starts_with("escrow ")) {
            let line = line.replace("<message>", "01939c5e-7d5a-7cc3-98a4-1f1d2a3b4c5d").replace('"', "'");
            let command = line.split(" #").next().unwrap_or_default().trim_end();
            // What is piped is quoted for another program.
            let command = command.split(" | ").next().unwrap_or_default();
            if let Err(error) = Cli::try_parse_from(words(command)) {
                panic!("{name} has a command that is refused: {command}\n{error}");
            }
            said += 1;
        }
    }
    assert!(said > 40, "only {said} commands were found");
}

#[test]
fn every_argument_is_explained() {
    walk(&Cli::command(), "escrow", &mut |name, command| {
        assert!(command.get_about().is_some(), "{name} says nothing about itself");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name} does not explain {}", argument.get_id());
        }
    });
}

#[test]
fn verbs_that_ask_no_broker_do_not_offer_its_address() {
    let mut cli = Cli::command();
    cli.build();
    for verb in ["server", "dev", "completions", "man"] {
        let command = cli.find_subcommand_mut(verb).expect("the verb");
        let help = command.render_long_help().to_string();
        for option in ["--url", "--output", "--as "] {
            assert!(!help.contains(option), "{verb} offers {option}:\n{help}");
        }
    }
    let status = cli.find_subcommand_mut("status").expect("the verb").render_long_help().to_string();
    assert!(status.contains("--url"), "{status}");
    // Said all the same, as a habit or by a script, they change nothing.
    for words in
        ["escrow server check-config -o json", "escrow --url http://127.0.0.1:1 -o jsonl dev --check"]
    {
        assert!(Cli::try_parse_from(words.split(' ')).is_ok(), "{words} was refused");
    }
}

#[test]
fn a_message_id_is_explained_for_the_command_line() {
    for id in ["00000000-0000-0000-0000-000000000000", "42"] {
        let error = Cli::try_parse_from(["escrow", "msg", "trace", id]).expect_err("no id").to_string();
        assert!(error.contains("write it as a UUID that is not nil, e.g. 01939c5e"), "{error}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for words in [
        "escrow",
        "escrow tx commit tx-0-1",
        "escrow tx commit 17 --reason x",
        "escrow topic delete t",
        "escrow dlq discard g 1",
        "escrow dlq redrive g",
        "escrow dlq redrive g 1 --all",
        "escrow group seek g --topic t",
        "escrow group seek g --topic t --oldest --newest",
        "escrow group create g --topic not/good",
        "escrow group create g --retry sometimes",
        "escrow pub t b --commit",
        "escrow pub t b --half --commit --rollback",
        "escrow pub t b --count 0",
        "escrow pub t b --header novalue",
        "escrow pub t b --delay 5",
        "escrow sub g --topic t --ack --nack",
        "escrow sub g --topic t --after 5s",
        "escrow scheduled cancel not-an-id",
        "escrow topic ls --all --limit 3",
        "escrow topic ls --limit 0",
        "escrow status -o yaml",
        "escrow context add -x http://127.0.0.1:1",
        "escrow context use",
        "escrow context use prod --none",
        "escrow check",
        "escrow check tx --age-warning 5",
        "escrow check health --free-warning lots",
        "escrow man tx --dir x",
    ] {
        assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{words} was accepted");
    }
}

#[test]
fn a_dry_run_needs_no_reason() {
    for words in [
        "escrow tx commit tx-0-1 --dry-run",
        "escrow dlq discard g 1 --dry-run",
        "escrow topic delete t --dry-run",
        "escrow group delete g --dry-run",
    ] {
        assert!(Cli::try_parse_from(words.split(' ')).is_ok(), "{words} was refused");
    }
}

/// Verbs that end in one of these words end something for good.
const FINAL: [&str; 14] = [
    "delete", "rm", "discard", "cancel", "commit", "rollback", "seek", "redrive", "repair", "edit", "purge",
    "remove", "revoke", "give-up",
];
/// Decisions that stay in the records with their reason.
const DECISIONS: [&str; 5] = ["topic delete", "group delete", "tx commit", "tx rollback", "dlq discard"];

#[test]
fn what_cannot_be_undone_asks_and_can_be_rehearsed() {
    let mut count = 0;
    walk(&Cli::command(), "escrow", &mut |name, command| {
        let has = |flag: &str| command.get_arguments().any(|argument| argument.get_long() == Some(flag));
        let is_final = FINAL.contains(&name.rsplit(' ').next().unwrap_or_default());
        assert!(!is_final || has("yes"), "{name} sounds final and never asks");
        assert!(!has("yes") || has("dry-run"), "{name} asks and cannot be rehearsed");
        count += usize::from(is_final);
    });
    assert!(count >= 12, "only {count} verbs are final");
}

#[test]
fn a_decision_by_hand_says_why() {
    for name in DECISIONS {
        let name = format!("escrow {name}");
        let mut said = Vec::new();
        walk(&Cli::command(), "escrow", &mut |visited, command| {
            if visited == name {
                let examples = examples(command);
                said = examples
                    .iter()
                    .map(|example| words(example))
                    .find(|words| words.contains(&"--reason".into()))
                    .unwrap_or_default();
            }
        });
        let why = said
            .iter()
            .position(|word| word == "--reason")
            .unwrap_or_else(|| panic!("no example of {name} says why"));
        assert!(Cli::try_parse_from(&said).is_ok(), "{said:?}");
        said.drain(why..why + 2);
        said.retain(|word| word != "--yes");
        said.push("--yes".to_owned());
        assert!(Cli::try_parse_from(&said).is_err(), "{name} can be done without --reason: {said:?}");
    }
}
