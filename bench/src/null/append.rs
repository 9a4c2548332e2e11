//! One thread that appends what waits and syncs it, and only then lets the answers go: a journal and nothing else.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use escrow_protocol::v1::ProducerResponse;
use tokio::sync::mpsc;

use crate::error::Error;

/// Frames waiting for the disk.
const QUEUED_MAX: usize = 4096;

/// What one frame brought, and its answer.
pub(crate) struct Append {
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) answer: ProducerResponse,
    pub(crate) to: mpsc::Sender<Result<ProducerResponse, tonic::Status>>,
}

/// The way to the thread.
#[derive(Debug, Clone)]
pub(crate) struct Appender(mpsc::Sender<Append>);

impl Appender {
    /// # Errors
    /// [`Error::Spawn`] if the file cannot be made.
    pub(crate) fn start(directory: &Path) -> Result<Self, Error> {
        let fault = |error: std::io::Error| Error::Spawn(format!("{}: {error}", directory.display()));
        let file = tempfile::tempfile_in(directory).map_err(fault)?;
        let (sender, appends) = mpsc::channel(QUEUED_MAX);
        std::thread::Builder::new()
            .name("null-append".into())
            .spawn(move || work(file, appends))
            .map_err(fault)?;
        Ok(Self(sender))
    }

    pub(crate) async fn append(&self, append: Append) {
        // It fails only when the disk did: then nothing is answered any more.
        let _ = self.0.send(append).await;
    }
}

fn work(mut file: File, mut appends: mpsc::Receiver<Append>) {
    let mut bytes = Vec::new();
    while let Some(first) = appends.blocking_recv() {
        let mut turn = vec![first];
        while let Ok(next) = appends.try_recv() {
            turn.push(next);
        }
        bytes.clear();
        turn.iter().flat_map(|append| &append.bodies).for_each(|body| bytes.extend_from_slice(body));
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        if let Err(error) = written {
            eprintln!("null server: the disk failed: {error}");
            return;
        }
        for append in turn {
            let _ = append.to.blocking_send(Ok(append.answer));
        }
    }
}
