//! A view: a struct of cells that knows its columns. Declared by one macro, so that table and JSON cannot drift.

use serde::Serialize;

use super::cell::{Cell, Shown};

/// A column, or a line when one thing is shown alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    /// The field, as in JSON.
    pub(crate) field: &'static str,
    /// The heading in a list; `None`: only shown when the thing is shown alone.
    pub(crate) heading: Option<&'static str>,
}

/// What a list or a page of the command line shows.
pub(crate) trait View: Serialize {
    /// Its columns, in order.
    const COLUMNS: &'static [Column];

    /// Its values, one for each column.
    fn values(&self) -> Vec<Shown>;
}

/// A list of views inside another view is a table.
impl<T: View> Cell for Vec<T> {
    fn shown(&self) -> Shown {
        let (headings, rows) = table_of(self);
        Shown::Table(headings, rows)
    }
}

/// Headings and rows of a list.
pub(crate) fn table_of<T: View>(views: &[T]) -> (Vec<String>, Vec<Vec<String>>) {
    let headings = T::COLUMNS.iter().filter_map(|column| column.heading).map(str::to_owned).collect();
    let row = |view: &T| -> Vec<String> {
        T::COLUMNS
            .iter()
            .zip(view.values())
            .filter(|(column, _)| column.heading.is_some())
            .map(|(_, value)| value.into_line())
            .collect()
    };
    (headings, views.iter().map(row).collect())
}

/// Declares a [`View`]: each field with its type and its heading in lists, or `_` where a list has no room for it.
macro_rules! view {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $heading:tt,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        pub(crate) struct $name { $($(#[$field_doc])* pub(crate) $field: $type,)* }

        impl $crate::cli::output::View for $name {
            const COLUMNS: &'static [$crate::cli::output::Column] = &[$(
                $crate::cli::output::Column {
                    field: stringify!($field),
                    heading: $crate::cli::output::view!(@heading $heading),
                },
            )*];

            fn values(&self) -> Vec<$crate::cli::output::Shown> {
                vec![$($crate::cli::output::Cell::shown(&self.$field),)*]
            }
        }
    };
    (@heading _) => { None };
    (@heading $heading:literal) => { Some($heading) };
}

pub(crate) use view;
