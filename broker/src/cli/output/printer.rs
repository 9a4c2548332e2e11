//! Writing to stdout: aligned tables on a terminal, the same columns separated by tabs in a pipe, or JSON.

use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::cell::Shown;
use super::view::{View, table_of};

/// What `-o` chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: a table on a terminal; in a pipe the same columns separated by tabs.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Jsonl,
}

/// Where the output goes, and how.
pub(crate) struct Printer<W = io::Stdout> {
    to: W,
    format: Format,
    terminal: bool,
}

impl Printer {
    /// To stdout.
    pub(crate) fn stdout(format: Format) -> Self {
        let to = io::stdout();
        let terminal = to.is_terminal();
        Self { to, format, terminal }
    }
}

impl<W: Write> Printer<W> {
    /// To somewhere else.
    #[cfg(test)]
    pub(crate) fn new(to: W, format: Format, terminal: bool) -> Self {
        Self { to, format, terminal }
    }

    /// What `-o` chose.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// A list. Empty on a terminal, it says so in words.
    pub(crate) fn list<T: View>(&mut self, views: &[T], empty: &str) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&views),
            Format::Jsonl => views.iter().try_for_each(|view| self.json_line(view)),
            Format::Table if views.is_empty() && self.terminal => writeln!(self.to, "{empty}"),
            Format::Table => {
                let (headings, rows) = table_of(views);
                self.table(&headings, &rows)
            }
        }
    }

    /// One thing, a field on each line.
    pub(crate) fn one<T: View>(&mut self, view: &T) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(view),
            Format::Jsonl => self.json_line(view),
            Format::Table => self.fields(view),
        }
    }

    /// One thing of a stream, printed as it comes: a line, also with `-o json`, for a stream is no document.
    pub(crate) fn line<T: View>(&mut self, view: &T) -> io::Result<()> {
        match self.format {
            Format::Json | Format::Jsonl => self.json_line(view)?,
            Format::Table => {
                let (_, rows) = table_of(std::slice::from_ref(view));
                writeln!(self.to, "{}", rows.concat().join("\t"))?;
            }
        }
        self.to.flush()
    }

    /// What a verb did, for people; programs look at the exit status.
    pub(crate) fn done(&mut self, words: &str) -> io::Result<()> {
        match self.format {
            Format::Table => writeln!(self.to, "{words}"),
            Format::Json | Format::Jsonl => {
                let line = serde_json::json!({ "done": words });
                writeln!(self.to, "{line}")
            }
        }
    }

    /// Something that is only meant for programs: JSON, on one line or on many.
    pub(crate) fn document(&mut self, value: &impl Serialize) -> io::Result<()> {
        match self.format {
            Format::Jsonl => self.json_line(value),
            Format::Json | Format::Table => self.json(value),
        }
    }

    fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.to, value)?;
        writeln!(self.to)
    }

    fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.to, value)?;
        writeln!(self.to)
    }

    fn fields<T: View>(&mut self, view: &T) -> io::Result<()> {
        let labels: Vec<String> = T::COLUMNS.iter().map(|column| label(column.field)).collect();
        let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let mut tables = Vec::new();
        for (label, value) in labels.iter().zip(view.values()) {
            match value {
                Shown::Text(text) if self.terminal => writeln!(self.to, "{label:<width$}  {text}")?,
                Shown::Text(text) => writeln!(self.to, "{label}\t{text}")?,
                Shown::Table(headings, rows) => tables.push((label, headings, rows)),
            }
        }
        for (label, headings, rows) in tables {
            if rows.is_empty() && self.terminal {
                writeln!(self.to, "{label:<width$}  none")?;
                continue;
            }
            writeln!(self.to, "\n{label}:")?;
            self.table(&headings, &rows)?;
        }
        Ok(())
    }

    fn table(&mut self, headings: &[String], rows: &[Vec<String>]) -> io::Result<()> {
        if !self.terminal {
            writeln!(self.to, "{}", headings.join("\t"))?;
            return rows.iter().try_for_each(|row| writeln!(self.to, "{}", row.join("\t")));
        }
        // Columns are never broken over lines: an id that was broken cannot be copied.
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings);
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().try_for_each(|line| writeln!(self.to, "{}", line.trim_end()))
    }
}

/// `created_at` reads `created at`; units that the value itself shows are left out.
pub(crate) fn label(field: &str) -> String {
    let bare = field.strip_suffix("_ms").or_else(|| field.strip_suffix("_bytes")).unwrap_or(field);
    bare.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Bytes, Ms, Time};
    use super::super::view::view;
    use super::*;

    view! {
        /// Something inside.
        Part { number: u64 = "NUMBER", error: String = "ERROR", }
    }

    view! {
        /// Something.
        Thing {
            name: String = "NAME",
            made_at: Time = "MADE AT",
            lease_ms: Ms = _,
            held_bytes: Bytes = "HELD",
            parts: Vec<Part> = "PARTS",
        }
    }

    fn thing() -> Thing {
        Thing {
            name: "order-paid".to_owned(),
            made_at: Time(1_700_000_000_000),
            lease_ms: Ms(30_000),
            held_bytes: Bytes(2048),
            parts: vec![Part { number: 1, error: "boom\n".to_owned() }],
        }
    }

    fn printed(format: Format, terminal: bool, print: impl Fn(&mut Printer<&mut Vec<u8>>)) -> String {
        let mut bytes = Vec::new();
        print(&mut Printer::new(&mut bytes, format, terminal));
        String::from_utf8(bytes).expect("the output is text")
    }

    fn list(format: Format, terminal: bool) -> String {
        printed(format, terminal, |printer| printer.list(&[thing()], "no things").expect("it is written"))
    }

    fn one(format: Format, terminal: bool) -> String {
        printed(format, terminal, |printer| printer.one(&thing()).expect("it is written"))
    }

    #[test]
    fn a_pipe_gets_columns_separated_by_tabs() {
        assert_eq!(
            list(Format::Table, false),
            "NAME\tMADE AT\tHELD\tPARTS\norder-paid\t2023-11-14T22:13:20.000Z\t2.0 KiB\t1\n"
        );
    }

    #[test]
    fn a_terminal_gets_a_table() {
        let text = list(Format::Table, true);
        assert_eq!(
            text,
            "NAME        MADE AT                   HELD     PARTS\norder-paid  2023-11-14T22:13:20.000Z  2.0 KiB  1\n"
        );
        let empty = printed(Format::Table, true, |printer| {
            printer.list::<Thing>(&[], "no things").expect("it is written");
        });
        assert_eq!(empty, "no things\n");
    }

    #[test]
    fn json_has_every_field_with_its_unit() {
        let expected = r#"{"name":"order-paid","made_at":"2023-11-14T22:13:20.000Z","lease_ms":30000,"held_bytes":2048,"parts":[{"number":1,"error":"boom\n"}]}"#;
        assert_eq!(list(Format::Jsonl, true), format!("{expected}\n"));
        assert_eq!(one(Format::Jsonl, true), format!("{expected}\n"));
        let pretty: serde_json::Value = serde_json::from_str(&list(Format::Json, false)).expect("JSON");
        assert_eq!(pretty[0]["lease_ms"], 30_000);
    }

    #[test]
    fn one_thing_is_shown_by_fields_and_its_parts_as_a_table() {
        assert_eq!(
            one(Format::Table, false),
            "name\torder-paid\nmade at\t2023-11-14T22:13:20.000Z\nlease\t30s\nheld\t2.0 KiB\n\nparts:\nNUMBER\tERROR\n1\tboom \n"
        );
        let text = one(Format::Table, true);
        assert!(text.starts_with("name     order-paid\nmade at  2023"), "{text}");
    }

    #[test]
    fn a_stream_is_printed_line_by_line() {
        let line = printed(Format::Table, true, |printer| printer.line(&thing()).expect("it is written"));
        assert_eq!(line, "order-paid\t2023-11-14T22:13:20.000Z\t2.0 KiB\t1\n");
        let json = printed(Format::Json, false, |printer| printer.line(&thing()).expect("it is written"));
        assert_eq!(json.lines().count(), 1);
    }
}
