//! A producer or consumer that is connected.

use escrow_protocol::v1;

use crate::cli::output::{Count, Time, view};

view! {
    /// A producer or consumer that is connected.
    ClientView {
        /// Its name.
        client_id: String = "CLIENT",
        /// Producer or consumer.
        role: String = "ROLE",
        /// Its group.
        group: String = "GROUP",
        /// The kinds of transactions it answers for.
        check_kinds: Vec<String> = "CHECKS",
        /// Since when.
        connected_at: Time = "CONNECTED AT",
        /// From where.
        address: String = "ADDRESS",
        /// Leases it holds.
        leased: Count = "LEASED",
        /// Messages it may still be sent.
        credit_messages: Count = "CREDIT",
    }
}

impl From<v1::ClientConnection> for ClientView {
    fn from(client: v1::ClientConnection) -> Self {
        Self {
            client_id: client.client_id,
            role: client.role,
            group: client.group,
            check_kinds: client.check_kinds,
            connected_at: Time(client.connected_at_ms),
            address: client.address,
            leased: Count(client.leased),
            credit_messages: Count(client.credit_messages),
        }
    }
}
