//! The rules of STYLE.md that a machine can check, with a ratchet where the code is not there yet.

use std::path::{Path, PathBuf};

/// A file longer than this wants to be two. The generated one does not count.
const LINES_MAX: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the workspace").to_owned()
}

fn files(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory of the workspace") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "generated" {
            files(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn rust_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), ".rs", &mut found);
    assert!(found.len() > 50, "the walk found too little to be true");
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("text"))).collect()
}

fn assert_none(offenders: Vec<String>, rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
}

#[test]
fn every_file_says_first_what_it_is() {
    let silent = rust_files().into_iter().filter(|(_, text)| !text.starts_with("//!"));
    assert_none(
        silent.map(|(path, _)| path.display().to_string()).collect(),
        "these files do not begin with //!",
    );
}

#[test]
fn no_file_is_too_long_to_be_one_idea() {
    let long = rust_files().into_iter().filter(|(_, text)| text.lines().count() > LINES_MAX);
    assert_none(long.map(|(path, _)| path.display().to_string()).collect(), "these files are too long");
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("#[ig", "nore"),
    ];
    let later = rust_files().into_iter().filter(|(_, text)| words.iter().any(|word| text.contains(word)));
    assert_none(later.map(|(path, _)| path.display().to_string()).collect(), "these files put something off");
}

#[test]
fn tests_wait_for_things_and_not_for_time() {
    let sleep = concat!("sle", "ep(");
    // It stands in for a disk that takes its time to fail: no test, and none waits for it.
    let slow_disk = root().join("tests/interposer/failing_io.rs");
    let sleepers = rust_files().into_iter().filter(|(path, text)| {
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        is_test && *path != slow_disk && text.contains(sleep)
    });
    assert_none(sleepers.map(|(path, _)| path.display().to_string()).collect(), "these tests sleep");
}

#[test]
fn the_engine_is_pure() {
    let engine = root().join("broker/src/engine");
    let forbidden = ["tokio", "tonic", "sled", "std::time", "std::thread", "std::fs", "std::net"];
    let impure = rust_files().into_iter().filter(|(path, text)| {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        path.starts_with(&engine)
            && code.into_iter().any(|line| forbidden.iter().any(|word| line.contains(word)))
    });
    assert_none(
        impure.map(|(path, _)| path.display().to_string()).collect(),
        "the engine does I/O or reads a clock",
    );
}

#[test]
fn only_storage_names_sled() {
    let mut manifests = Vec::new();
    files(&root(), "Cargo.toml", &mut manifests);
    let users = manifests.into_iter().filter(|path| {
        let text = std::fs::read_to_string(path).expect("text");
        text.lines().any(|line| line.starts_with("sled")) && !path.ends_with("storage/Cargo.toml")
    });
    let users: Vec<_> =
        users.filter(|path| path.parent() != Some(&root())).map(|p| p.display().to_string()).collect();
    assert_none(users, "only storage may depend on sled");
}

#[test]
fn the_readme_shows_the_example_that_runs() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("text");
    let example = read("client/examples/quickstart.rs");
    let code = example.split_once("use escrow::").expect("an example uses the client").1;
    assert!(read("README.md").contains(code), "README.md and client/examples/quickstart.rs differ");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut pages = Vec::new();
    files(&root(), ".md", &mut pages);
    let mut broken = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("text");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_ours = !file.is_empty() && !file.contains("://") && !file.contains(' ');
            if is_ours && !page.parent().expect("a page lies in a folder").join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert_none(broken, "these links are broken");
}

#[test]
fn the_fuzzers_try_every_kind_of_record() {
    let tried = std::fs::read_to_string(root().join("tests/src/fuzz/records.rs")).expect("text");
    let mut found = Vec::new();
    files(&root().join("broker/src/records"), ".rs", &mut found);
    let texts: Vec<String> =
        found.into_iter().map(|path| std::fs::read_to_string(path).expect("text")).collect();
    let product = |text: &String| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let kinds: Vec<String> = texts
        .iter()
        .map(product)
        .flat_map(|text| {
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("impl Record for "));
            names.map(|name| name.trim_end_matches([' ', '{']).to_owned()).collect::<Vec<_>>()
        })
        .collect();
    assert!(kinds.len() > 20, "the walk found too little to be true");
    let missing = kinds.into_iter().filter(|kind| !tried.contains(&format!("one::<{kind}>")));
    assert_none(missing.collect(), "these kinds of record are not fuzzed");
}
