//! `escrow audit`: what was done by hand.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use escrow_protocol::v1;

use crate::cli::clock::past_ms;
use crate::cli::context::Global;
use crate::cli::error::CliError;
use crate::cli::output::{Column, View};
use crate::cli::paging::Paging;
use crate::cli::view::AuditView;
use crate::csv;

/// What can be done with the audit.
#[derive(Debug, Clone, clap::Subcommand)]
pub(crate) enum AuditVerb {
    /// List what was done by hand, newest first: who, when, what, on what, why, before and after.
    #[command(after_help = "Examples:
  escrow audit ls --since 1h
  escrow audit ls --who ada --verb tx.commit -o json")]
    Ls {
        #[command(flatten)]
        matching: Matching,
        #[command(flatten)]
        paging: Paging,
    },
    /// Write all of it that matches into a file, newest first.
    #[command(after_help = "Examples:
  escrow audit export --to audit.jsonl
  escrow audit export --format csv --since 2026-01-01T00:00:00Z --to - > audit.csv")]
    Export {
        #[command(flatten)]
        matching: Matching,
        /// An object per line, or a table for a spreadsheet.
        #[arg(long, value_enum, default_value_t = FileForm::Jsonl)]
        format: FileForm,
        /// The file; must not exist. `-`: stdout.
        #[arg(long = "to", value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
}

/// How a file of an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileForm {
    /// One JSON object per line.
    Jsonl,
    /// For spreadsheets.
    Csv,
}

/// Which operations.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Matching {
    /// By this person.
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// This operation: topic.create, tx.commit, dlq.redrive, …
    #[arg(long)]
    verb: Option<String>,
    /// On a name or an id that has this in it.
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// Done at this time or later; a duration means that long ago.
    #[arg(long, value_parser = past_ms, value_name = "TIME")]
    since: Option<i64>,
    /// Done before this time; a duration means that long ago.
    #[arg(long, value_parser = past_ms, value_name = "TIME")]
    until: Option<i64>,
}

impl Matching {
    fn filter(self) -> v1::AuditFilter {
        v1::AuditFilter {
            name: self.who.unwrap_or_default(),
            verb: self.verb.unwrap_or_default(),
            target: self.target.unwrap_or_default(),
            from_ms: self.since.unwrap_or(0),
            until_ms: self.until.unwrap_or(0),
        }
    }
}

/// Does it.
pub(crate) async fn run(verb: AuditVerb, global: &Global) -> Result<(), CliError> {
    match verb {
        AuditVerb::Ls { matching, paging } => ls(matching.filter(), paging, global).await,
        AuditVerb::Export { matching, format, file } => {
            export(matching.filter(), format, &file, global).await
        }
    }
}

async fn ls(filter: v1::AuditFilter, paging: Paging, global: &Global) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let fetch = async |page| {
        let request = v1::ListAuditRequest { page: Some(page), filter: Some(filter.clone()) };
        let answer = admin.list_audit(request).await?.into_inner();
        Ok((answer.entries.into_iter().map(AuditView::from).collect(), answer.next_cursor))
    };
    paging.print(&mut global.printer(), "nothing was done by hand that matches", fetch).await
}

async fn export(
    filter: v1::AuditFilter,
    format: FileForm,
    file: &Path,
    global: &Global,
) -> Result<(), CliError> {
    let mut admin = global.admin().await?;
    let mut lines = Lines::begin::<AuditView>(format, file)?;
    let request = v1::ExportAuditRequest { filter: Some(filter), operator: global.operator(None) };
    let mut entries = admin.export_audit(request).await?.into_inner();
    while let Some(entry) = entries.message().await? {
        lines.write(&AuditView::from(entry))?;
    }
    lines.end()
}

/// A file of views, one after another.
pub(super) struct Lines {
    to: Box<dyn Write>,
    form: FileForm,
}

impl Lines {
    /// The file, with its heading.
    pub(super) fn begin<T: View>(form: FileForm, file: &Path) -> Result<Self, CliError> {
        let to: Box<dyn Write> = if file == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let made = File::create_new(file);
            Box::new(made.map_err(|error| CliError::failed(format!("{}: {error}", file.display())))?)
        };
        let mut lines = Self { to: Box::new(BufWriter::new(to)), form };
        if form == FileForm::Csv {
            let heading = csv::heading(T::COLUMNS.iter().map(|column: &Column| column.field));
            lines.to.write_all(heading.as_bytes())?;
        }
        Ok(lines)
    }

    /// One more.
    pub(super) fn write<T: View>(&mut self, view: &T) -> Result<(), CliError> {
        match self.form {
            FileForm::Jsonl => {
                serde_json::to_writer(&mut self.to, view).map_err(io::Error::from)?;
                self.to.write_all(b"\n")?;
            }
            FileForm::Csv => {
                let json = serde_json::to_value(view).map_err(io::Error::from)?;
                let cell = |column: &Column| match &json[column.field] {
                    serde_json::Value::Null => String::new(),
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                self.to.write_all(csv::row(T::COLUMNS.iter().map(cell)).as_bytes())?;
            }
        }
        Ok(())
    }

    /// Nothing follows.
    pub(super) fn end(mut self) -> Result<(), CliError> {
        Ok(self.to.flush()?)
    }
}
