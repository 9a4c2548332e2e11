//! Traces reach a collector made of the OpenTelemetry project's own code: one story is one trace, the header that carries
//! it arrives with every check and every attempt, and a collector that is away costs nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use escrow_broker::broker::BrokerConfig;
use escrow_broker::telemetry::TelemetryConfig;
use escrow_protocol::v1;
use escrow_protocol::v1::producer_command::Command;
use escrow_protocol::v1::producer_result::Result as Outcome;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::harness::*;

/// Keeps what it is sent.
#[derive(Clone, Default)]
struct Collector {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.requests.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens; its address.
    async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("http://{address}")
    }

    /// Waits for so many spans: a stop gives the last ones a second, which is not enough on every machine.
    async fn until(&self, count: usize) {
        let arrived = async {
            while self.spans().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), arrived).await.expect("the spans arrive");
    }

    /// All spans so far, in order of their beginning.
    fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn traced(otlp_endpoint: String, sample_permille: u32) -> BrokerConfig {
    let telemetry =
        TelemetryConfig { otlp_endpoint, service_name: "escrow-test".to_owned(), sample_permille };
    let mut config = BrokerConfig { telemetry: Some(telemetry), ..config() };
    config.settings.transactions.first_check_after_ms = 1;
    config
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("an attribute is {other:?}"),
    };
    let pair = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        pair.value.as_ref().and_then(|value| value.value.as_ref()).map(text)
    };
    span.attributes.iter().map(|attribute| (attribute.key.as_str(), pair(attribute).unwrap())).collect()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(headers: &[v1::Header]) -> Option<&str> {
    headers.iter().find(|header| header.name == "traceparent").map(|header| header.value.as_str())
}

#[tokio::test]
async fn a_story_from_half_to_ack_is_one_trace() {
    let collector = Collector::default();
    let harness = Harness::start_with(traced(collector.listen().await, 1000)).await;
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let mut half = message("order-paid", "body");
    half.headers = vec![v1::Header { name: "traceparent".to_owned(), value: traceparent.clone() }];
    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    let mut producer = harness.producer_session("orders", &["orders"]).await;
    producer.frame(vec![send_half(1, vec![half])]).await;

    let question = producer.question().await;
    assert_eq!(
        header(&question.messages[0].headers),
        Some(traceparent.as_str()),
        "the checker can go on with the trace"
    );
    let answer = v1::CheckAnswer {
        transaction_id: question.transaction_id,
        check: question.check,
        verdict: v1::CheckVerdict::VerdictCommit.into(),
    };
    producer
        .frame(vec![v1::ProducerCommand { correlation: 0, command: Some(Command::CheckAnswer(answer)) }])
        .await;
    consumer.credit(2).await;
    for attempt in [1, 2] {
        let delivery = consumer.deliveries(1).await.remove(0);
        assert_eq!(delivery.attempt, attempt);
        let headers = delivery.message.as_ref().map(|message| message.headers.as_slice()).unwrap_or_default();
        assert_eq!(header(headers), Some(traceparent.as_str()), "attempt {attempt}");
        // Without a correlation there is no result that could come with the next delivery.
        consumer.settle(if attempt == 1 { nack(0, &delivery, 0) } else { ack(2, &delivery) }).await;
    }
    consumer.result().await;
    collector.until(6).await;
    harness.broker.shutdown().await.unwrap();

    let spans = collector.spans();
    assert_eq!(
        names(&spans),
        [
            "send_half order-paid",
            "check order-paid",
            "deliver order-paid",
            "nack order-paid",
            "deliver order-paid",
            "ack order-paid"
        ]
    );
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE, "{} is in another trace", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano && span.start_time_unix_nano > 0);
        let attributes = attributes(span);
        assert_eq!(
            (attributes["messaging.system"].as_str(), attributes["messaging.destination.name"].as_str()),
            ("escrow", "order-paid")
        );
        assert!(span.status.is_none(), "{} failed: {:?}", span.name, span.status);
    }
    let parents: Vec<_> = spans.iter().map(|span| hex(&span.parent_span_id)).collect();
    let (first, second) = (hex(&spans[2].span_id), hex(&spans[4].span_id));
    assert_eq!(parents, [PARENT, PARENT, PARENT, &first, PARENT, &second]);
    let types: Vec<_> =
        spans.iter().map(|span| attributes(span)["messaging.operation.type"].clone()).collect();
    assert_eq!(types, ["send", "receive", "receive", "settle", "receive", "settle"]);
    assert_eq!(attributes(&spans[1])["escrow.check.verdict"], "commit");
    assert_eq!(attributes(&spans[4])["escrow.delivery.attempt"], "2");
    assert_eq!(attributes(&spans[5])["messaging.consumer.group.name"], "billing");
}

#[tokio::test]
async fn a_message_without_a_context_has_the_trace_of_its_id() {
    let collector = Collector::default();
    let harness = Harness::start_with(traced(collector.listen().await, 1000)).await;
    let mut consumer = harness.consumer_session("billing", "order-paid").await;
    let mut producer = harness.producer_session("orders", &[]).await;
    let Outcome::Prepared(half) =
        producer.run(send_half(1, vec![message("order-paid", "a"), message("mail", "b")])).await
    else {
        panic!("a half message is stored");
    };
    producer.run(decide(2, half.transaction_id, v1::Decision::Commit)).await;
    let Outcome::Fault(_) = producer.run(decide(3, half.transaction_id, v1::Decision::Rollback)).await else {
        panic!("the opposite is refused");
    };
    consumer.credit(1).await;
    consumer.deliveries(1).await;
    collector.until(4).await;
    harness.broker.shutdown().await.unwrap();

    let spans = collector.spans();
    assert_eq!(
        names(&spans),
        ["send_half order-paid", "decide order-paid", "decide order-paid", "deliver order-paid"]
    );
    let id = hex(&half.message_ids[0]);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == id), "{spans:?}");
    assert!(spans[0].parent_span_id.is_empty(), "the first is the root");
    assert!(spans[1..].iter().all(|span| span.parent_span_id == spans[0].span_id), "the others hang from it");
    assert_eq!(hex(&spans[0].links[0].trace_id), hex(&half.message_ids[1]), "the other message is linked");
    let refused = spans[2].status.as_ref().expect("it failed");
    assert_eq!((refused.code, attributes(&spans[2])["error.type"].as_str()), (2, "ALREADY_DECIDED"));
}

#[tokio::test]
async fn what_a_handler_sends_is_in_the_trace_of_what_it_handles() {
    let harness = Harness::start().await;
    let client = escrow::Client::connect(format!("http://{}", harness.broker.grpc_addr())).await.unwrap();
    let producer = Arc::new(client.producer("orders").build().await.unwrap());
    let mut mails = client.subscribe("mail").topic("mail").open().await.unwrap();
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let order = escrow::Message::new("order-paid").traceparent(&traceparent);
    producer.publish(order).await.unwrap();
    let sender = producer.clone();
    let handling = client.subscribe("billing").topic("order-paid").handler(move |_order| {
        let producer = sender.clone();
        async move { producer.publish(escrow::Message::new("mail")).await.map(drop) }
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let handling = tokio::spawn(handling.run_until(async {
        let _ = stopped.await;
    }));
    let mail = mails.next().await.unwrap().unwrap();
    assert_eq!(mail.traceparent(), Some(traceparent.as_str()));
    stop.send(()).unwrap();
    handling.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_not_sampled_is_not_sent() {
    let collector = Collector::default();
    let harness = Harness::start_with(traced(collector.listen().await, 0)).await;
    harness.publish("order-paid", "not wanted").await;
    for (flags, body) in [("00", "not wanted either"), ("01", "wanted")] {
        let mut message = message("order-paid", body);
        let value = format!("00-{TRACE}-{PARENT}-{flags}");
        message.headers = vec![v1::Header { name: "traceparent".to_owned(), value }];
        harness.producer().publish(v1::PublishRequest { message: Some(message) }).await.unwrap();
    }
    collector.until(1).await;
    harness.broker.shutdown().await.unwrap();
    let spans = collector.spans();
    assert_eq!(names(&spans), ["publish order-paid"]);
    assert_eq!(attributes(&spans[0])["messaging.message.body.size"], "6");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_is_counted() {
    // Nobody listens on a port that was just given back.
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let harness = Harness::start_with(traced(format!("http://{away}"), 1000)).await;
    harness.publish("order-paid", "x").await;
    let dropped = loop {
        let (_, page) = http_get(harness.broker.http_addr(), "/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix("escrow_trace_spans_dropped_total "));
        let dropped: u64 = line.expect("it is counted").parse().unwrap();
        if dropped > 0 {
            break dropped;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(dropped, 1);
    harness.broker.shutdown().await.unwrap();
}
