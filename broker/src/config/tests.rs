//! A configuration from each source, and from all at once; and every fault of one at once.

use std::path::PathBuf;

use super::keys::{KEYS, SECTIONS};
use super::shape::Shape;
use super::*;
use crate::engine::Settings;
use crate::records::{AlarmRule, InDoubt, OrderingPolicy};

/// A configuration file in a directory of its own.
struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn file(text: &str) -> File {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("escrow.toml");
    std::fs::write(&path, text).expect("the file is written");
    File { _directory: directory, path }
}

fn sources(file: Option<&File>, environment: &[(&str, &str)], flags: &[&str]) -> Sources {
    Sources {
        file: file.map(|file| file.path.clone()),
        environment: environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        insecure: false,
    }
}

fn faults_of(sources: &Sources) -> Vec<String> {
    let Faults(faults) = sources.load().expect_err("the configuration is faulty");
    let directory = sources.file.as_ref().and_then(|path| path.parent());
    let prefix = directory.map_or(String::new(), |directory| format!("{}/", directory.display()));
    faults.iter().map(|fault| fault.to_string().replacen(&prefix, "", 1)).collect()
}

#[test]
fn nothing_given_is_the_defaults() {
    let config = sources(None, &[], &[]).load().expect("defaults are sound");
    assert_eq!(config, Config::default());
    assert_eq!(config.settings(), Settings::default());
    assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:7800");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:7880");
}

#[test]
fn printed_defaults_read_back_to_the_defaults() {
    let printed = file(&print_defaults());
    assert_eq!(sources(Some(&printed), &[], &[]).load(), Ok(Config::default()));
}

#[test]
fn every_key_is_printed_and_stands_in_a_section() {
    let text = print_defaults();
    for key in KEYS {
        assert!(text.contains(&format!("\n{} = ", key.short_name())), "{} is not printed", key.name);
        let has_section =
            key.section().is_empty() || SECTIONS.iter().any(|(section, _)| *section == key.section());
        assert!(has_section, "{} is in no section", key.name);
    }
}

#[test]
fn a_file_is_read() {
    let given = file(
        r#"
data_dir = "/var/lib/escrow"
[grpc]
listen = "127.0.0.1:9000"
[store]
cache = "128MiB"
free_floor = 1_000_000
[transactions]
first_check_after = "250ms"
check_delays = ["1s", "1h30m"]
in_doubt = "rollback"
kinds = { "order.create" = "commit" }
[delivery]
lease = "2m"
ordering = "skip"
[retry]
strategy = "exponential"
initial_delay = "2s"
multiplier = 1.5
max_delay = "10m"
max_attempts = 4
[topics]
create_on_use = true
[log]
format = "json"
"#,
    );
    let config = sources(Some(&given), &[], &[]).load().expect("the file is sound");
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/escrow"));
    assert_eq!(config.grpc.listen.port(), 9000);
    assert_eq!(config.store.table_cache_bytes, 128 << 20);
    assert_eq!(config.store.free_floor_bytes, 1_000_000);
    assert_eq!(config.transactions.first_check_after_ms, 250);
    assert_eq!(config.transactions.check_delays_ms, [1_000, 5_400_000]);
    assert_eq!(config.transactions.in_doubt, InDoubt::Rollback);
    assert_eq!(config.transactions.kinds.values().collect::<Vec<_>>(), [&InDoubt::Commit]);
    assert_eq!(config.delivery.ordering, OrderingPolicy::Skip);
    assert_eq!(config.log.format, LogFormat::Json);
    let settings = config.settings();
    assert!(settings.topics.create_on_use);
    assert_eq!(settings.groups.settings.lease_ms, 120_000);
    assert_eq!(settings.groups.settings.retry.max_attempts, 4);
    assert_eq!(
        settings.groups.settings.retry.delays,
        crate::records::RetryDelays::Exponential {
            initial_ms: 2_000,
            multiplier_permille: 1_500,
            max_ms: 600_000
        }
    );
}

#[test]
fn kinds_may_be_a_table_and_dotted_names_need_no_quotes() {
    let given = file("[transactions.kinds]\norder.create = \"commit\"\n\"pay\" = \"rollback\"\n");
    let config = sources(Some(&given), &[], &["transactions.kinds.ship.out=park"]).load().expect("sound");
    let kinds: Vec<_> =
        config.transactions.kinds.iter().map(|(kind, policy)| (kind.as_str(), *policy)).collect();
    assert_eq!(
        kinds,
        [("order.create", InDoubt::Commit), ("pay", InDoubt::Rollback), ("ship.out", InDoubt::Park)]
    );
}

#[test]
fn the_environment_is_read_and_what_is_not_ours_is_passed_over() {
    let environment = [
        ("ESCROW_DATA_DIR", "/data"),
        ("ESCROW_TRANSACTIONS__CHECK_DELAYS", "1s, 2s"),
        ("ESCROW_TRANSACTIONS__KINDS", "a=commit,b=park"),
        ("ESCROW_TOPICS__CREATE_ON_USE", "true"),
        ("ESCROW_URL", "http://elsewhere:7800"),
        ("ESCROW_OPERATOR", "ann"),
        ("PATH", "/bin"),
    ];
    let config = sources(None, &environment, &[]).load().expect("the environment is sound");
    assert_eq!(config.data_dir, PathBuf::from("/data"));
    assert_eq!(config.transactions.check_delays_ms, [1_000, 2_000]);
    assert_eq!(config.transactions.kinds.len(), 2);
    assert!(config.topics.create_on_use);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let given = file("[delivery]\nlease = \"1m\"\n[retry]\nmax_attempts = 1\njitter_percent = 1\n");
    let environment = [("ESCROW_RETRY__MAX_ATTEMPTS", "2"), ("ESCROW_RETRY__JITTER_PERCENT", "2")];
    let config = sources(Some(&given), &environment, &["retry.jitter_percent=3", "retry.jitter_percent=4"])
        .load()
        .expect("all sources are sound");
    assert_eq!(config.delivery.lease_ms, 60_000);
    assert_eq!(config.retry.max_attempts, 2);
    assert_eq!(config.retry.jitter_percent, 4);
}

#[test]
fn all_faults_are_reported_at_once_each_with_its_place() {
    let given = file(
        "data_dir = \"\"\n\
         [delivery]\n\
         leese = \"30s\"\n\
         lease = \"100ms\"\n\
         \n\
         [transactions]\n\
         check_delays = []\n\
         first_check_after = 6\n\
         [nonsense]\n\
         lease = 1\n",
    );
    let environment = [
        ("ESCROW_RETRY__MAX_ATTEMPTS", "many"),
        ("ESCROW_LIMITS__BODY", "64MiB"),
        ("ESCROW_LOG__FORMAT", "xml"),
    ];
    let flags = ["http.listen=0.0.0.0:7880", "grpc.listen=7800", "nothing", "topics.create_on_use=yes"];
    let faults = faults_of(&sources(Some(&given), &environment, &flags));
    let expected = [
        "escrow.toml:1: data_dir: it is empty; name a directory",
        "escrow.toml:3: delivery.leese: there is no such key; did you mean delivery.lease?",
        "escrow.toml:4: delivery.lease: 100ms is below the minimum of 1s; write a larger value",
        "escrow.toml:7: transactions.check_delays: the list is empty; give at least one duration; the last one repeats",
        "escrow.toml:8: transactions.first_check_after: \"6\" has no unit; write a duration such as \"250ms\", \"30s\", \"5m\", \"24h\" or \"1h30m\"",
        "escrow.toml:10: nonsense.lease: there is no such key; did you mean delivery.lease?",
        "environment ESCROW_RETRY__MAX_ATTEMPTS: retry.max_attempts: \"many\" is not a whole number; write a number, 1 to 1000",
        "environment ESCROW_LIMITS__BODY: limits.body: 64MiB is above the maximum of 32MiB; write a smaller value",
        "environment ESCROW_LOG__FORMAT: log.format: \"xml\" is not a choice here; write one of: text, json",
        "--set grpc.listen=7800: grpc.listen: \"7800\" is not an address with a port; write an IP address and a port, e.g. \"127.0.0.1:7800\", \"0.0.0.0:7800\" or \"[::1]:7800\"",
        "--set nothing: it has no value; write --set section.key=value, e.g. --set delivery.lease=1m",
        "--set topics.create_on_use=yes: topics.create_on_use: \"yes\" is neither true nor false; write true or false",
        "--set http.listen=0.0.0.0:7880: http.listen: 0.0.0.0:7880 is reachable from other machines, and there is no authentication; listen on 127.0.0.1 or [::1], or say --insecure if the network itself keeps strangers out",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_file_that_is_no_toml_is_named_with_its_line_and_the_other_sources_are_still_checked() {
    let given = file("[grpc]\nlisten = \"127.0.0.1:1\"\nlisten = = 3\n");
    let faults = faults_of(&sources(Some(&given), &[], &["delivery.lease=x"]));
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].starts_with("escrow.toml:3: the file is not TOML"), "{}", faults[0]);
    assert!(faults[1].starts_with("--set delivery.lease=x"), "{}", faults[1]);
}

#[test]
fn a_number_where_a_text_belongs_is_a_fault() {
    for line in ["data_dir = 5", "data_dir = true", "[log]\nlevel = 1979-05-27", "[grpc]\nlisten = 7800"] {
        let given = file(&format!("{line}\n"));
        let faults = faults_of(&sources(Some(&given), &[], &[]));
        assert_eq!(faults.len(), 1, "{line}: {faults:#?}");
        assert!(faults[0].contains("is not a text") && faults[0].contains("in quotes"), "{}", faults[0]);
    }
    // Where everything is text, a directory may be called 5.
    let flagged = sources(None, &[], &["data_dir=5"]).load().expect("a directory");
    assert_eq!(flagged.data_dir, PathBuf::from("5"));
}

#[test]
fn a_file_that_is_not_there_is_a_fault() {
    let missing = Sources { file: Some(PathBuf::from("no-such-file.toml")), ..Sources::default() };
    let faults = faults_of(&missing);
    assert!(faults[0].contains("no-such-file.toml: the file cannot be read"), "{}", faults[0]);
}

#[test]
fn rules_between_keys_are_checked() {
    for (flags, key) in [
        (vec!["grpc.listen=0.0.0.0:1"], "grpc.listen"),
        (vec!["grpc.listen=[::]:1"], "grpc.listen"),
        (vec!["http.listen=127.0.0.1:7800"], "http.listen"),
        (vec!["transactions.first_check_after=24h"], "transactions.first_check_after"),
        (vec!["retry.strategy=exponential", "retry.max_delay=500ms"], "retry.initial_delay"),
        (vec!["store.overlay_hard=30MiB"], "store.overlay_hard"),
        (vec!["store.journal_file=1GiB"], "store.journal_file"),
        (vec!["limits.window=10"], "limits.page"),
    ] {
        let Faults(faults) = sources(None, &[], &flags).load().expect_err(key);
        assert_eq!(faults.iter().map(|fault| fault.key.as_str()).collect::<Vec<_>>(), [key], "{flags:?}");
    }
}

#[test]
fn insecure_allows_to_listen_anywhere() {
    let open = Sources { insecure: true, ..sources(None, &[], &["grpc.listen=0.0.0.0:7800"]) };
    assert!(open.load().expect("it was asked for").insecure);
    let any_port = sources(None, &[], &["grpc.listen=127.0.0.1:0", "http.listen=127.0.0.1:0"]);
    assert!(any_port.load().is_ok());
}

/// A legal value of `key` that is not its default.
fn another_value(key: &keys::Key) -> shape::Value {
    let text = match key.shape {
        Shape::Duration(_, max) => DurationText(max).to_string(),
        Shape::Size(_, max) => SizeText(max.min(1 << 40)).to_string(),
        Shape::Count(_, max) => max.to_string(),
        Shape::Factor(_, max) => PermilleText(max).to_string(),
        Shape::Durations(..) => "7s,8s".to_owned(),
        Shape::Flag => (!matches!((key.get)(&Config::default()), shape::Value::Flag(true))).to_string(),
        Shape::Choice(words) => words().last().expect("a choice has words").to_string(),
        Shape::Path | Shape::Text => "elsewhere".to_owned(),
        Shape::LogFilter => "debug".to_owned(),
        Shape::Address => "127.0.0.1:1234".to_owned(),
        Shape::Kinds => "order.create=commit".to_owned(),
        Shape::Limit(rule) => {
            rule.default_text().replace('1', "3").split(" clear").next().expect("one").to_owned()
        }
        Shape::Sinks => "a.kind=webhook,a.url=http://a".to_owned(),
    };
    key.shape.read(&shape::Raw::Text(text)).expect("the value is legal")
}

#[test]
fn every_key_sets_its_own_field_and_no_other() {
    for key in KEYS {
        let mut config = Config::default();
        let before: Vec<_> = KEYS.iter().map(|key| (key.get)(&config)).collect();
        let value = match (key.shape, another_value(key)) {
            // The default is the maximum.
            (Shape::Duration(_, max) | Shape::Factor(_, max), value) if before_is(key, max) => halved(value),
            (_, value) => value,
        };
        (key.set)(&mut config, value.clone());
        for (other, before) in KEYS.iter().zip(before) {
            let after = (other.get)(&config);
            if other.name == key.name {
                assert_eq!(after, value, "{} does not keep its value", key.name);
                assert_ne!(after, before, "{} was not set to another value", key.name);
            } else {
                assert_eq!(after, before, "{} changes {}", key.name, other.name);
            }
        }
    }
}

fn before_is(key: &keys::Key, max: u64) -> bool {
    (key.get)(&Config::default()) == shape::Value::Number(max)
}

fn halved(value: shape::Value) -> shape::Value {
    match value {
        shape::Value::Number(number) => shape::Value::Number(number / 2),
        other => other,
    }
}

#[test]
fn every_word_of_a_choice_reads_what_it_writes() {
    fn check<T: Choice + std::fmt::Debug>() {
        for (word, value) in T::ALL {
            assert_eq!(T::from_word(word), Some(*value));
            assert_eq!(value.word(), *word);
        }
    }
    check::<InDoubt>();
    check::<OrderingPolicy>();
    check::<RetryStrategy>();
    check::<LogFormat>();
}

#[test]
fn a_fault_does_not_steer_the_terminal_it_is_read_on() {
    let file = file("\"\\u001b[31m\" = 1\n[delivery]\nlease = \"\\u001b[2J\"\n");
    let faults = faults_of(&sources(Some(&file), &[("ESCROW_A__B\u{1b}", "1")], &["\u{1b}[31m"]));
    assert_eq!(faults.len(), 4, "{faults:?}");
    assert!(faults.iter().all(|fault| !fault.contains(char::is_control)), "{faults:?}");
}

#[test]
fn limits_of_alarms_are_read_and_faults_name_the_key() {
    let given =
        file("[alarms]\nlag = \"5 for 10s clear 2\"\nparked = \"off\"\nundecided_age = \"soon\"\nlags = 1\n");
    let faults = faults_of(&sources(Some(&given), &[], &["alarms.disk_free=1GiB clear 1MiB"]));
    let expected = [
        "escrow.toml:4: alarms.undecided_age: \"soon\" is not a duration; write a duration such as \"250ms\", \"30s\", \"5m\", \"24h\" or \"1h30m\"",
        "escrow.toml:5: alarms.lags: there is no such key; did you mean alarms.lag?",
        "--set alarms.disk_free=1GiB clear 1MiB: alarms.disk_free: clear 1MiB is where the alarm is raised, 1GiB; write a value above 1GiB",
    ];
    assert_eq!(faults, expected);
    let given = file("[alarms]\nlag = \"5 for 10s clear 2\"\nparked = \"off\"\n");
    let alarms = sources(Some(&given), &[], &[]).load().expect("sound").alarms;
    let limit = alarms.rules.get(AlarmRule::Lag).expect("it is on");
    assert_eq!((limit.at, limit.for_ms, limit.clear), (5, 10_000, Some(2)));
    assert_eq!(alarms.rules.get(AlarmRule::Parked), None);
    assert!(alarms.rules.get(AlarmRule::DeadLetters).is_some(), "what is not mentioned is on");
}

#[test]
fn a_sink_may_be_put_together_from_a_file_the_environment_and_flags() {
    let given = file(
        "[alarms.sinks.oncall]\nkind = \"webhook\"\nurl = \"http://a/hook\"\n\
         [alarms.sinks.post]\nkind = \"smtp\"\nurl = \"smtp://mail\"\nfrom = \"e@x\"\nto = [\"a@x\", \"b@x\"]\n",
    );
    let environment = [("ESCROW_ALARMS__SINKS__ONCALL__SECRET", "hush")];
    let flags =
        ["alarms.sinks.oncall.url=http://b/hook?a=b", "alarms.sinks=chat.kind=feishu,chat.url=https://c"];
    let sinks = sources(Some(&given), &environment, &flags).load().expect("sound").alarms.sinks;
    assert_eq!(sinks.keys().collect::<Vec<_>>(), ["chat", "oncall", "post"]);
    let oncall = &sinks["oncall"];
    assert_eq!(
        (oncall.url.path.as_str(), oncall.secret.reveal(), oncall.chinese),
        ("/hook?a=b", "hush", false)
    );
    assert_eq!(sinks["post"].to, ["a@x", "b@x"]);
    for (more, hints) in [
        (vec![], 1),
        (vec!["http.listen=0.0.0.0:80"], 1),
        (vec!["http.listen=10.0.0.7:80"], 0),
        (vec!["http.listen=0.0.0.0:80", "alarms.console=https://escrow.example.com"], 0),
    ] {
        let mut said = sources(Some(&given), &[], &more);
        said.insecure = true;
        let said = said.load().expect("sound").hints();
        assert_eq!(said.len(), hints, "{more:?}: {said:?}");
        assert!(said.iter().all(|hint| hint.starts_with("alarms.console: ")), "{said:?}");
    }
    assert!(sinks["chat"].chinese, "a Chinese chat room is told in Chinese unless asked otherwise");
}

#[test]
fn a_secret_may_lie_in_a_file() {
    let secret = file("  hush\n");
    let flag = format!("alarms.sinks.a.secret_file={}", secret.path.display());
    let flags = ["alarms.sinks.a.kind=webhook", "alarms.sinks.a.url=http://a", flag.as_str()];
    let sinks = sources(None, &[], &flags).load().expect("sound").alarms.sinks;
    assert_eq!(sinks["a"].secret.reveal(), "hush");
}

#[test]
fn faults_of_sinks_name_the_field_and_the_remedy() {
    for (flags, expected) in [
        (
            &["a.url=http://a"][..],
            "alarms.sinks.a.kind: it has no kind; write one of: webhook, dingtalk, feishu, wecom, slack, smtp",
        ),
        (
            &["a.kind=pager", "a.url=http://a"],
            "alarms.sinks.a.kind: \"pager\" is not a kind of sink; write one of",
        ),
        (&["a.kind=slack"], "alarms.sinks.a.url: it has no url; write where it is"),
        (
            &["a.kind=slack", "a.url=smtp://a"],
            "alarms.sinks.a.url: it does not begin with http:// or https://",
        ),
        (
            &["a.kind=slack", "a.url=http://a", "a.to=b@c"],
            "alarms.sinks.a.to: a sink of kind slack has none; remove it",
        ),
        (
            &["a.kind=smtp", "a.url=smtp://a", "a.from=me", "a.to=b@c"],
            "alarms.sinks.a.from: \"me\" is not a mail address",
        ),
        (&["a.kind=smtp", "a.url=smtp://a", "a.from=e@x"], "alarms.sinks.a.to: nobody gets the mail"),
        (
            &["a.kind=smtp", "a.url=smtp://a", "a.from=e@x", "a.to=b@c", "a.secret=p"],
            "alarms.sinks.a.user: there is a password",
        ),
        (
            &["a.kind=slack", "a.url=http://a", "a.language=fr"],
            "alarms.sinks.a.language: \"fr\" is not a language here; write en or zh-CN",
        ),
        (
            &["a.kind=webhook", "a.url=http://a", "a.secret_file=/no/such"],
            "alarms.sinks.a.secret_file: \"/no/such\" cannot be read",
        ),
        (
            &["a.kind=webhook", "a.url=http://a", "a.secrets=x"],
            "alarms.sinks.a.secrets: a sink has no field \"secrets\"; did you mean secret?",
        ),
        (&["a b.kind=webhook"], "alarms.sinks.a b.kind: \"a b\" is no name of a sink; use letters"),
        (&["a=webhook"], "alarms.sinks.a: \"a\" is no name of a sink with one of its fields"),
    ] {
        let flags: Vec<_> = flags.iter().map(|flag| format!("alarms.sinks.{flag}")).collect();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let faults = faults_of(&sources(None, &[], &flags));
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{expected:?} is not in {faults:#?}");
    }
    let faults = faults_of(&sources(None, &[], &["alarms.console=escrow"]));
    assert!(
        faults[0].contains("alarms.console") && faults[0].contains("https://escrow.example.com"),
        "{faults:?}"
    );
}
