//! The real binary, end to end: a server as its own process on free ports, and the command line against it.

mod shell;

use std::process::Command;

use serde_json::Value;
use shell::{Server, directory, escrow, stderr, stdout};

#[test]
fn a_server_serves_until_it_is_told_to_stop_and_then_ends_well() {
    let dir = directory();
    let server = Server::start(dir.path());
    assert_eq!(server.json("status")["accepting"], true);
    let health =
        escrow().args(["server", "health", "--set", &format!("grpc.listen={}", server.grpc)]).output();
    assert_eq!(stdout(&health.expect("it runs")), "serving\n");
    let grpc = server.grpc.clone();
    let (status, log) = server.terminate();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("broker stopped"), "{log}");
    let health = escrow().args(["server", "health", "--set", &format!("grpc.listen={grpc}")]).output();
    assert_eq!(health.expect("it runs").status.code(), Some(3));
}

#[test]
fn a_message_goes_from_shell_to_shell() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create order-paid");
    let published = server.json("pub order-paid hello --key o-1 --tag eu --header source=shop");
    assert_eq!(published["offset"], 0);
    let seen = server.json("sub billing --topic order-paid --no-ack --count 1");
    assert_eq!((&seen["body"], &seen["key"], &seen["attempt"]), (&"hello".into(), &"o-1".into(), &1.into()));
    let again = server.json("sub billing --topic order-paid --count 1");
    assert_eq!(again["attempt"], 1, "only looking counted as an attempt");
    assert_eq!(again["headers"]["source"], "shop");
    let none = server.run("sub billing --topic order-paid --count 1 --timeout 100ms");
    assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(1), ""));
    assert!(stderr(&none).contains("0 of 1 messages"), "{}", stderr(&none));
}

#[test]
fn a_pipe_of_lines_becomes_messages_in_order() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create numbers");
    let lines: String = (0..500).map(|number| format!("{number}\n")).collect();
    let input = dir.path().join("lines");
    std::fs::write(&input, &lines).expect("the input is written");
    let published = escrow()
        .args(["--url", &server.url, "pub", "numbers", "--lines", "-o", "jsonl"])
        .stdin(std::fs::File::open(&input).expect("the input is there"))
        .output()
        .expect("it runs");
    assert!(published.status.success(), "{}", stderr(&published));
    assert_eq!(stdout(&published).lines().count(), 500);
    let read = server.run("sub readers --topic numbers --count 500 -o jsonl");
    let bodies: String = stdout(&read)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|delivery| format!("{}\n", delivery["body"].as_str().expect("a text")))
        .collect();
    assert_eq!(bodies, lines);
}

#[test]
fn a_half_message_is_decided_by_hand() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create order-paid");
    let half = server.json("pub order-paid hello --half");
    assert_eq!(half["state"], "PREPARED");
    let id = half["transaction_id"].as_str().expect("an id").to_owned();
    assert_eq!(server.json("tx ls")[0]["transaction_id"], id.as_str());

    let refused = server.run(&format!("tx commit {id} --reason paid"));
    assert_eq!(refused.status.code(), Some(2), "without a terminal it needs --yes");
    let rehearsed = server.run(&format!("tx commit {id} --dry-run"));
    assert!(stdout(&rehearsed).starts_with("this would commit"), "{}", stdout(&rehearsed));
    assert_eq!(server.json(&format!("tx show {id}"))["state"], "PREPARED", "a dry run changes nothing");

    let decided = server.json(&format!("tx commit {id} --reason paid --yes --as ann"));
    assert_eq!(decided["state"], "COMMITTED");
    assert_eq!((&decided["decided_by"], &decided["decided_because"]), (&"ann".into(), &"paid".into()));
    let again = server.run(&format!("tx commit {id} --reason paid --yes --as bob"));
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    let said = stdout(&again);
    assert!(said.contains(&format!("{id} was committed already by ann (person) at 20")), "{said}");
    let late = server.run(&format!("tx rollback {id} --reason no --yes"));
    assert_eq!(late.status.code(), Some(1));
    assert!(stderr(&late).contains("ALREADY_DECIDED"), "{}", stderr(&late));
}

#[test]
fn what_needs_a_person_is_listed_first_and_was_logged() {
    let dir = directory();
    let settings = ["transactions.first_check_after=1ms", "transactions.max_undecided_age=2ms"];
    let server = Server::start_with(dir.path(), &settings);
    server.json("topic create order-paid");
    for _ in 0..3 {
        server.json("pub order-paid hello --half");
    }
    while server.json("tx ls --state parked").as_array().map(Vec::len) < Some(3) {
        std::thread::yield_now();
    }
    let listed = server.json("tx ls");
    let states: Vec<_> = listed.as_array().expect("a list").iter().map(|tx| &tx["state"]).collect();
    assert_eq!(states, ["PARKED"; 3]);
    let table = stdout(&server.run("tx ls"));
    for heading in ["STATE", "KIND", "AGE", "NO CHECKER"] {
        assert!(table.contains(heading), "{table}");
    }
    let first = server.run("tx ls --limit 2 -o jsonl");
    assert_eq!(stdout(&first).lines().count(), 2);
    let cursor = stderr(&first).rsplit(' ').next().expect("a cursor").trim().to_owned();
    let rest = server.run(&format!("tx ls --cursor {cursor} -o jsonl"));
    assert_eq!(stdout(&rest).lines().count(), 1, "{}", stderr(&rest));
    let (_, log) = server.terminate();
    let warned = log.lines().filter(|line| line.contains("transactions in doubt parked"));
    let parked = warned.map(|line| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["level"], "WARN");
        event["parked"].as_u64().expect("a number")
    });
    assert_eq!(parked.sum::<u64>(), 3, "{log}");
}

#[test]
fn what_is_done_by_hand_is_logged_with_its_name_and_a_reason_only_if_there_is_one() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create order-paid --as ann");
    server.json("group create billing --topic order-paid --as ann");
    server.json("group pause billing --as ann --reason lunch");
    let (_, log) = server.terminate();
    let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let by_hand = |words: &str| events.iter().find(|event| event["message"] == words).expect("logged");
    for words in ["topic created by hand", "group created by hand"] {
        assert_eq!(by_hand(words)["operator"], "ann", "{log}");
        assert_eq!(by_hand(words).get("reason"), None, "{log}");
    }
    assert_eq!(by_hand("group changed by hand")["reason"], "lunch", "{log}");
}

#[test]
fn the_numbers_of_a_store_at_rest() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create order-paid");
    server.json("pub order-paid hello");
    let data_dir = dir.path().display();
    let busy = server.run(&format!("store stats --data-dir {data_dir}"));
    assert_eq!(busy.status.code(), Some(1), "the broker has it open");
    assert!(stderr(&busy).contains("in use by another process"), "{}", stderr(&busy));
    let sequence = server.json("store stats")["last_sequence"].as_u64().expect("a number");
    server.terminate();
    let words = format!("store stats --data-dir {data_dir} -o json");
    let output = escrow().args(words.split(' ')).output().expect("it runs");
    assert!(output.status.success(), "{}", stderr(&output));
    let stats: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(stats["last_sequence"].as_u64() >= Some(sequence), "{stats}");
    assert!(stats["table_bytes"].as_u64() > Some(0) && stats["journal_files"].as_u64() > Some(0), "{stats}");
    assert_eq!(stats["faults"], 0);
}

#[test]
fn a_health_check_needs_no_consent_to_listen() {
    let health = escrow().args(["server", "health", "--set", "grpc.listen=0.0.0.0:1"]).output();
    let health = health.expect("it runs");
    assert_eq!(health.status.code(), Some(3), "nobody is there: {}", stderr(&health));
}

#[test]
fn a_place_that_takes_no_files_is_named() {
    let started = escrow().args(["server", "--set", "data_dir=/proc/x"]).output().expect("it runs");
    assert_eq!(started.status.code(), Some(1));
    assert!(stderr(&started).contains("the directory /proc cannot be written to"), "{}", stderr(&started));
    let dir = directory();
    let server = Server::start(dir.path());
    let missing = dir.path().join("missing");
    let backup = server.run(&format!("store backup --to {}/x", missing.display()));
    assert_eq!(backup.status.code(), Some(1));
    let expected = format!("there is no directory {}", missing.display());
    assert!(stderr(&backup).contains(&expected), "{}", stderr(&backup));
}

#[test]
fn a_dead_letter_is_shown_redriven_and_discarded() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create order-paid");
    for _ in 0..2 {
        server.json("pub order-paid hello --key o-1");
    }
    for _ in 0..2 {
        let rejected = server.json("sub billing --topic order-paid --count 1 --reject --reason nobody");
        assert_eq!(rejected["attempt"], 1, "the first command took a message it did not print");
    }
    let dead = server.json("dlq ls billing --cause REJECTED --error nobody");
    assert_eq!(dead.as_array().map(Vec::len), Some(2));
    assert_eq!(server.json("dlq show billing 0")["message"]["body"], "hello");
    let rehearsed = server.run("dlq redrive billing --all --dry-run");
    assert!(stderr(&rehearsed).contains("2 would be done, 0 refused"), "{}", stderr(&rehearsed));
    let would = server.json("jobs results 1");
    assert_eq!(
        (&would[0]["offset"], &would[1]["offset"], &would[1]["done"]),
        (&0.into(), &1.into(), &true.into())
    );
    assert_eq!(server.json("dlq ls billing").as_array().map(Vec::len), Some(2));
    assert!(server.run("dlq redrive billing 0 --yes").status.success());
    let gone = server.run("dlq redrive billing 0 --yes -o json");
    assert_eq!(gone.status.code(), Some(1));
    let gone: Value = serde_json::from_slice(&gone.stdout).expect("a job");
    assert_eq!(gone["failures"][0]["reason"], "UNKNOWN_DEAD_LETTER");
    assert_eq!(server.json("sub billing --count 1")["key"], "o-1");
    let exported = stdout(&server.run("dlq export billing --key o-1"));
    assert!(exported.lines().count() == 1 && exported.contains("\"body\":\"hello\""), "{exported}");
    assert!(stdout(&server.run("dlq export billing --format csv")).starts_with("group,offset,"));
    assert_eq!(server.run("dlq edit billing 9 --body fixed --reason test --yes").status.code(), Some(1));
    let slow = server.json("dlq redrive billing --all --rate 1 --key nobody-has-it --detach --yes");
    assert_eq!((&slow["state"], &slow["total"]), (&"RUNNING".into(), &1.into()));
    assert!(server.run("dlq discard billing 1 --reason test --yes").status.success());
    let jobs = server.json("jobs ls");
    assert_eq!(jobs.as_array().map(Vec::len), Some(5));
    assert_eq!(jobs[0]["kind"], "DISCARD");
    let rest = server.run(&format!("jobs cancel {} --yes", jobs[0]["job_id"]));
    assert!(stderr(&rest).contains("has ended"), "{}", stderr(&rest));
    assert_eq!(server.json("dlq ls billing").as_array().map(Vec::len), Some(0));
}

#[test]
fn what_was_done_by_hand_is_listed_and_exported_also_after_a_restart() {
    let dir = directory();
    let server = Server::start(dir.path());
    server.json("topic create order-paid --as ada");
    assert!(server.run("group create billing --topic order-paid --as eve").status.success());
    assert!(server.run("group pause billing --as eve").status.success());
    assert!(!server.run("group pause nobody --as eve").status.success());
    assert_eq!(server.terminate().0, Some(0));

    let server = Server::start(dir.path());
    assert!(server.run("group resume billing --as ada").status.success());
    let done = server.json("audit ls --all");
    let done: Vec<_> =
        done.as_array().unwrap().iter().map(|entry| (&entry["name"], &entry["verb"])).collect();
    let said: Vec<_> = done.iter().map(|(name, verb)| format!("{name} {verb}").replace('"', "")).collect();
    assert_eq!(said, ["ada group.resume", "eve group.pause", "eve group.create", "ada topic.create"]);
    assert_eq!(server.json("audit ls --who eve --verb group.pause").as_array().map(Vec::len), Some(1));
    let file = dir.path().join("audit.csv");
    let export = format!("audit export --format csv --to {}", file.display());
    assert!(server.run(&export).status.success());
    let written = std::fs::read_to_string(&file).expect("the file is there");
    assert!(written.starts_with("number,at,name,verb,target") && written.lines().count() == 6, "{written}");
    assert!(!server.run(&export).status.success(), "a file that exists is not overwritten");
    assert_eq!(stdout(&server.run("audit export")).lines().count(), 6, "each export is in it");
}

#[test]
fn a_backup_of_the_running_broker_is_restored() {
    let dir = directory();
    let server = Server::start(&dir.path().join("data"));
    server.json("topic create order-paid");
    server.json("pub order-paid precious --key o-1");
    let (file, into) = (dir.path().join("backup"), dir.path().join("restored"));
    let backed_up = server.run(&format!("store backup --to {}", file.display()));
    assert!(backed_up.status.success(), "{}", stderr(&backed_up));
    assert!(
        !server.run(&format!("store backup --to {}", file.display())).status.success(),
        "it was overwritten"
    );
    let restore = format!("store restore {} --data-dir {}", file.display(), into.display());
    assert!(server.run(&restore).status.success());
    let again = server.run(&restore);
    assert!(stderr(&again).contains("is not empty"), "{}", stderr(&again));
    let verified = server.json(&format!("store verify --data-dir {}", into.display()));
    assert_eq!(verified["sound"], true);
    drop(server);
    let restored = Server::start(&into);
    assert_eq!(restored.json("msg find --key o-1")[0]["state"], "QUEUED");
}

#[test]
fn a_store_that_fails_ends_the_server_with_a_clear_line() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    // Small enough that the store soon needs the directory, which is no longer there.
    let small = ["store.overlay=4KiB", "store.journal=16KiB", "store.journal_file=4KiB"];
    let server = Server::start_with(&data_dir, &small);
    server.json("topic create order-paid");
    std::fs::remove_dir_all(&data_dir).expect("the directory is removed");
    let body = "x".repeat(2_000);
    // By single calls: a session would try again for a while.
    let put = |_| !server.run(&format!("pub order-paid {body} --half")).status.success();
    let is_refused = (0..50).any(put);
    assert!(is_refused, "the broker goes on without its store");
    let (status, log) = server.ended();
    assert_eq!(status, Some(1), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: the store failed"), "{last}");
}

#[test]
fn a_data_directory_in_use_is_refused_with_a_clear_line() {
    let dir = directory();
    let _server = Server::start(dir.path());
    let second = escrow()
        .args(["server", "--set", &format!("data_dir={}", dir.path().display())])
        .args(["--set", "grpc.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0"])
        .output()
        .expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("in use by another process"), "{}", stderr(&second));
}

#[test]
fn a_fail_point_ends_the_server_where_it_says_and_a_restart_serves() {
    let dir = directory();
    let killed = escrow()
        .env("ESCROW_FAILPOINT", "during_recovery")
        .args(["server", "--set", &format!("data_dir={}", dir.path().display())])
        .args(["--set", "grpc.listen=127.0.0.1:0", "--set", "http.listen=127.0.0.1:0"])
        .output()
        .expect("it runs");
    assert_eq!(killed.status.code(), None, "it ended by itself: {}", stderr(&killed));
    assert_eq!(Server::start(dir.path()).json("status")["accepting"], true);
    let mistyped = escrow().env("ESCROW_FAILPOINT", "nowhere").arg("server").output().expect("it runs");
    assert_eq!(mistyped.status.code(), Some(2), "{}", stderr(&mistyped));
}

#[test]
fn the_exit_status_says_what_kind_of_failure_it_was() {
    let dir = directory();
    let server = Server::start(dir.path());
    for (words, status) in [
        ("status", 0),
        ("--help", 0),
        ("--version", 0),
        ("topic show nowhere", 1),
        ("topic create -bad", 2),
        ("tx show seventeen", 2),
        ("status --url http://127.0.0.1:1", 3),
        ("status --url nonsense", 2),
    ] {
        let output = server.run(words);
        assert_eq!(output.status.code(), Some(status), "escrow {words}: {}", stderr(&output));
    }
    let unreachable = server.run("status --url http://127.0.0.1:1");
    assert_eq!(stderr(&unreachable).lines().count(), 1, "{}", stderr(&unreachable));
}

#[test]
fn printed_defaults_are_a_configuration_and_faults_are_named_with_their_lines() {
    let dir = directory();
    let file = dir.path().join("escrow.toml");
    let defaults = escrow().args(["server", "print-defaults"]).output().expect("it runs");
    std::fs::write(&file, &defaults.stdout).expect("the file is written");
    let check = |command: &mut Command| {
        command.args(["server", "check-config", "-c"]).arg(&file).output().expect("it runs")
    };
    assert_eq!(stdout(&check(&mut escrow())), "ok\n");

    std::fs::write(&file, "[grpc]\nlisten = \"0.0.0.0:7800\"\nlissten = 1\n").expect("the file is written");
    let faulty = check(escrow().env("ESCROW_DELIVERY__LEASE", "1"));
    assert_eq!(faulty.status.code(), Some(1));
    let said = stderr(&faulty);
    for words in
        ["3 faults", "escrow.toml:2: grpc.listen", "escrow.toml:3: grpc.lissten", "ESCROW_DELIVERY__LEASE"]
    {
        assert!(said.contains(words), "{words} is missing:\n{said}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let piped = format!("{} server print-defaults | head -1", env!("CARGO_BIN_EXE_escrow"));
    let script = format!("set -o pipefail; for round in 1 2 3 4 5 6 7 8; do {piped} || exit 9; done");
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

#[test]
fn every_story_of_the_product_holds() {
    let output = escrow().args(["dev", "--check"]).output().expect("it runs");
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stdout(&output).lines().filter(|line| line.starts_with("ok ")).count(), 12);
}

#[test]
fn alarms_are_listed_acknowledged_and_their_rules_and_sinks_shown() {
    let dir = directory();
    // Nobody listens there: the sink cannot be reached.
    let settings = [
        "alarms.parked=off",
        "alarms.sinks.oncall.kind=webhook",
        "alarms.sinks.oncall.url=http://127.0.0.1:1/hook",
        "topics.create_on_use=true",
        "groups.create_on_use=true",
    ];
    let server = Server::start_with(dir.path(), &settings);
    let rules = server.json("alarms rules");
    let limit_of = |rule: &str| {
        let rules = rules.as_array().unwrap();
        rules.iter().find(|known| known["name"] == rule).map(|known| known["limit"].clone())
    };
    assert_eq!(limit_of("parked"), Some("off".into()));
    assert_eq!(limit_of("lag"), Some("100000 for 1m clear 80000".into()));
    let sinks = server.json("alarms sinks");
    assert_eq!((&sinks[0]["name"], &sinks[0]["kind"]), (&"oncall".into(), &"webhook".into()));
    let failed = server.run("alarms test oncall");
    assert!(!failed.status.success() && stderr(&failed).contains("cannot be reached"), "{}", stderr(&failed));
    let unknown = server.run("alarms test nobody");
    assert!(stderr(&unknown).contains("there are: oncall"), "{}", stderr(&unknown));
    assert!(stderr(&server.run("alarms ack 7 --reason x")).contains("there is no alarm 7"));
    assert_eq!(server.json("alarms ls").as_array().map(Vec::len), Some(0));
    assert_eq!(server.json("status")["alarms_open"], 0);
}
