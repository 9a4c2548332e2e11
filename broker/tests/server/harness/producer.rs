//! A raw producer's session.

use escrow_protocol::v1;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_request::Kind as Up;
use escrow_protocol::v1::producer_response::Kind as Down;
use escrow_protocol::v1::producer_service_client::ProducerServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) struct ProducerStream {
    pub(crate) up: mpsc::Sender<v1::ProducerRequest>,
    pub(crate) down: Streaming<v1::ProducerResponse>,
}

impl ProducerStream {
    pub(crate) async fn open(mut client: ProducerServiceClient<Channel>) -> Self {
        let (up, receiver) = mpsc::channel(64);
        let down = client.session(ReceiverStream::new(receiver)).await.expect("a stream").into_inner();
        Self { up, down }
    }

    pub(crate) async fn send(&self, kind: Up) {
        // A stream that the broker ended takes nothing: the test reads why.
        let _ = self.up.send(v1::ProducerRequest { kind: Some(kind) }).await;
    }

    pub(crate) async fn frame(&self, commands: Vec<v1::ProducerCommand>) {
        self.send(Up::Frame(v1::ProducerFrame { commands })).await;
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Down>, Status> {
        Ok(self.down.message().await?.map(|response| response.kind.expect("a known kind")))
    }

    pub(crate) async fn hello(&mut self, hello: v1::ProducerHello) -> v1::ProducerWelcome {
        self.send(Up::Hello(hello)).await;
        match self.next().await {
            Ok(Some(Down::Welcome(welcome))) => welcome,
            other => panic!("no welcome but {other:?}"),
        }
    }

    pub(crate) async fn results(&mut self) -> v1::ProducerResults {
        match self.next().await {
            Ok(Some(Down::Frame(results))) => results,
            other => panic!("no results but {other:?}"),
        }
    }

    /// Collects results until there are `count`, by correlation.
    pub(crate) async fn collect(&mut self, count: usize) -> Vec<v1::ProducerResult> {
        let mut results = Vec::new();
        while results.len() < count {
            results.extend(self.results().await.results);
        }
        results.sort_by_key(|result| result.correlation);
        results
    }

    /// The one outcome of the one command.
    pub(crate) async fn run(&mut self, command: v1::ProducerCommand) -> v1::producer_result::Result {
        let correlation = command.correlation;
        self.frame(vec![command]).await;
        let result = self.collect(1).await.remove(0);
        assert_eq!(result.correlation, correlation);
        result.result.expect("an outcome")
    }

    pub(crate) async fn question(&mut self) -> v1::CheckQuestion {
        loop {
            let mut frame = self.results().await;
            if let Some(question) = frame.questions.pop() {
                return question;
            }
        }
    }
}

pub(crate) fn producer_hello(group: &str, kinds: &[&str]) -> v1::ProducerHello {
    v1::ProducerHello {
        protocol_version: 1,
        client_id: format!("{group}-1"),
        group: group.to_owned(),
        check_kinds: kinds.iter().map(ToString::to_string).collect(),
        ..v1::ProducerHello::default()
    }
}

fn command(correlation: u64, command: Command) -> v1::ProducerCommand {
    v1::ProducerCommand { correlation, command: Some(command) }
}

pub(crate) fn publish(correlation: u64, message: v1::Message) -> v1::ProducerCommand {
    command(correlation, Command::Publish(v1::PublishRequest { message: Some(message) }))
}

pub(crate) fn send_half(correlation: u64, messages: Vec<v1::Message>) -> v1::ProducerCommand {
    command(correlation, Command::SendHalf(v1::SendHalfRequest { messages, ..Default::default() }))
}

pub(crate) fn decide(correlation: u64, transaction_id: u64, decision: v1::Decision) -> v1::ProducerCommand {
    let decide = v1::DecideRequest { transaction_id, decision: decision.into(), ..Default::default() };
    command(correlation, Command::Decide(decide))
}
