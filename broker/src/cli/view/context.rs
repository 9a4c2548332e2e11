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
        /// Who is asking, if the context says so.
        operator: Option<String> = "AS",
    }
}

impl From<Target> for TargetView {
    fn from(target: Target) -> Self {
        let Target { url, because, context, operator } = target;
        Self { url, because: because.to_owned(), context, operator }
    }
}
