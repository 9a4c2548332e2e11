//! A broker that has a name, and the broker a command means.

use crate::cli::contexts::Target;
use crate::cli::output::view;

view! {
    /// A broker that has a name.
    ContextView {
        /// Its name.
        name: String = "CONTEXT",
        /// Its gRPC address.
        url: String = "URL",
        /// Who is asking there.
        operator: Option<String> = "AS",
        /// It counts when nothing else is said.
        current: bool = "CURRENT",
    }
}

view! {
    /// The broker a command means.
    TargetView {
        /// Its gRPC address.
        url: String = "URL",
        /// What chose it.
        because: String = "CHOSEN BY",
        /// The context, if one did.
        context: Option<String> = "CONTEXT",
        /// Who is asking, for the records.
        operator: String = "AS",
    }
}

impl TargetView {
    /// `operator`: who is asking, by all that says so.
    pub(crate) fn new(target: Target, operator: String) -> Self {
        let Target { url, because, context, operator: _ } = target;
        Self { url, because: because.to_owned(), context, operator }
    }
}
