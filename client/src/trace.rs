//! The trace that the running task is part of: what a handler or a checker sends belongs to the trace of what it was
//! given, without anybody passing it on.

tokio::task_local! {
    static CURRENT: String;
}

/// Runs `future` as part of a trace: each [`Message`](crate::Message) made in it carries this W3C trace context
/// (`00-<trace id>-<span id>-<flags>`) in its header `traceparent`, unless it is given another. Handlers and checkers run
/// so already, in the trace of the message they are given. Tasks spawned in it are not part of it.
///
/// Cancel safe if `future` is.
pub async fn in_trace<F: Future>(traceparent: impl Into<String>, future: F) -> F::Output {
    CURRENT.scope(traceparent.into(), future).await
}

/// As [`in_trace`], if there is a trace.
pub(crate) async fn in_trace_of<F: Future>(traceparent: Option<String>, future: F) -> F::Output {
    match traceparent {
        Some(traceparent) => in_trace(traceparent, future).await,
        None => future.await,
    }
}

/// The trace context of the running task.
pub(crate) fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn traceparent(message: Message) -> Option<String> {
        let headers = message.into_wire().headers;
        headers.into_iter().find(|header| header.name == "traceparent").map(|header| header.value)
    }

    #[tokio::test]
    async fn messages_made_in_a_trace_carry_it_unless_given_another() {
        assert_eq!(traceparent(Message::new("t")), None);
        let (carried, given) = in_trace("a", async {
            (traceparent(Message::new("t")), traceparent(Message::new("t").traceparent("b")))
        })
        .await;
        assert_eq!((carried.as_deref(), given.as_deref()), (Some("a"), Some("b")));
        assert_eq!(in_trace_of(None, async { traceparent(Message::new("t")) }).await, None);
    }
}
