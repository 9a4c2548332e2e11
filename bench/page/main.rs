//! Makes the tables and charts of `docs/performance.md` from the results of `bench/table.sh`. The same results make the
//! same bytes.

mod chart;
mod charts;
mod results;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use results::Results;

/// What is made stands between these lines; all else on the page is written by people.
const BEGIN: &str = "<!-- made by bench/table.sh page: do not edit below -->";
const END: &str = "<!-- end of what is made -->";
/// The page, its charts, and where results lie, from the root of the project.
const PAGE: &str = "docs/performance.md";
const CHARTS: &str = "docs/performance";
const RESULTS: &str = "bench/results";

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        eprintln!("error: which results? Name a directory of {RESULTS}, e.g. 2026-12-01-abcdef0");
        return ExitCode::from(2);
    };
    match make(Path::new("."), &name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn make(root: &Path, name: &str) -> Result<(), String> {
    let results = Results::read(&root.join(RESULTS).join(name))?;
    let page = root.join(PAGE);
    let text = fs::read_to_string(&page).map_err(|error| format!("{PAGE}: {error}"))?;
    write(&page, &with_made(&text, &made(name, &results))?)?;
    fs::create_dir_all(root.join(CHARTS)).map_err(|error| format!("{CHARTS}: {error}"))?;
    for (file, svg) in charts::all(&results) {
        write(&root.join(CHARTS).join(file), &svg)?;
    }
    Ok(())
}

fn write(path: &PathBuf, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The made part of the page.
fn made(name: &str, results: &Results) -> String {
    let mut text =
        format!("Results: [bench/results/{name}](../bench/results/{name}). {}\n\n", results.about());
    text.push_str(&rows::targets(results));
    text.push_str(&rows::ceilings(results));
    text.push_str(&rows::comparison(results));
    for (file, _) in charts::all(results) {
        let title = file.trim_end_matches(".svg").replace('-', " ");
        text.push_str(&format!("\n![{title}](performance/{file})\n"));
    }
    text
}

fn with_made(page: &str, made: &str) -> Result<String, String> {
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| format!("{PAGE} has no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("{PAGE} has no line {END:?}"))?;
    Ok(format!("{before}{BEGIN}\n\n{made}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench lies in the workspace").to_owned()
    }

    /// The results that the page names; none if nothing was made yet.
    fn named(page: &str) -> Option<String> {
        let (_, rest) = page.split_once("[bench/results/")?;
        rest.split(']').next().map(str::to_owned)
    }

    #[test]
    fn the_page_and_its_charts_say_what_the_results_say() {
        let page = fs::read_to_string(root().join(PAGE)).expect("the page");
        let Some(name) = named(&page) else {
            assert!(
                page.contains(&format!("{BEGIN}\n\n{END}")),
                "the page has figures and does not say whose"
            );
            return;
        };
        let results = Results::read(&root().join(RESULTS).join(&name)).expect("the results");
        let expected = with_made(&page, &made(&name, &results)).expect("both marks");
        assert!(expected == page, "run `bench/table.sh page {name}`");
        for (file, svg) in charts::all(&results) {
            let committed = fs::read_to_string(root().join(CHARTS).join(&file)).expect("a chart");
            assert!(committed == svg, "{file}: run `bench/table.sh page {name}`");
        }
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("by hand\n{BEGIN}\nold\n{END}\nby hand too\n");
        let made = with_made(&page, "new\n").expect("both marks");
        assert_eq!(made, format!("by hand\n{BEGIN}\n\nnew\n\n{END}\nby hand too\n"));
        assert!(with_made("nothing", "new").is_err());
    }
}
