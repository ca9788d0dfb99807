//! Clients that show a token.

use bytes::Bytes;
use talaria_proto::v1::{
    control_service_client::ControlServiceClient, job_service_client::JobServiceClient,
    status_service_client::StatusServiceClient,
};
use talaria_tests::{
    json::{self, Json},
    raw::Raw,
    stack::Stack,
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// Shows a token, or none.
#[derive(Clone, Debug)]
pub(super) struct Shows(Option<String>);

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Ok(request)
    }
}

type Shown = InterceptedService<Channel, Shows>;

/// A client of a relay.
#[derive(Clone, Debug)]
pub(super) struct Somebody {
    channel: Channel,
    shows: Shows,
    /// By which methods are called as bytes, instead of gRPC.
    json: Option<Json>,
}

impl Somebody {
    pub(super) async fn with(relay: &str, token: Option<&str>) -> Self {
        let channel = Channel::from_shared(relay.to_owned()).unwrap().connect().await.unwrap();
        Self::on(channel, token)
    }

    pub(super) fn on(channel: Channel, token: Option<&str>) -> Self {
        Self { channel, shows: Shows(token.map(str::to_owned)), json: None }
    }

    /// The same client over gRPC and as JSON over HTTP.
    pub(super) async fn by_both(stack: &Stack, token: Option<&str>) -> [Self; 2] {
        let grpc = Self::with(&stack.relay(), token).await;
        let json = Self { json: Some(Json::new(stack.console(), token)), ..grpc.clone() };
        [grpc, json]
    }

    pub(super) fn status(&self) -> StatusServiceClient<Shown> {
        StatusServiceClient::with_interceptor(self.channel.clone(), self.shows.clone())
    }

    pub(super) fn control(&self) -> ControlServiceClient<Shown> {
        ControlServiceClient::with_interceptor(self.channel.clone(), self.shows.clone())
    }

    pub(super) fn jobs(&self) -> JobServiceClient<Shown> {
        JobServiceClient::with_interceptor(self.channel.clone(), self.shows.clone())
    }

    /// Asks any method, as the bytes that it is asked and answers with: up to the first message that is the last one
    /// wanted.
    pub(super) async fn bytes(&self, path: &str, request: Bytes, is_last: impl Fn(&Bytes) -> bool) -> Answer {
        if let Some(json) = &self.json {
            let json::Answer { messages, code, text } = json.call(path, &request, is_last).await;
            return Answer { messages, code, text };
        }
        let mut grpc = Grpc::new(InterceptedService::new(self.channel.clone(), self.shows.clone()));
        grpc.ready().await.unwrap();
        let mut messages = Vec::new();
        let ended = async {
            let answer = grpc.server_streaming(Request::new(request), path.parse().unwrap(), Raw).await?;
            let mut stream = answer.into_inner();
            while let Some(message) = stream.message().await? {
                let last = is_last(&message);
                messages.push(message);
                if last {
                    break;
                }
            }
            Ok(())
        };
        let ended: Result<(), Status> = ended.await;
        let (code, text) = match ended {
            Ok(()) => (Code::Ok, String::new()),
            Err(status) => {
                let mut metadata = status.metadata().clone();
                // The server's time, which differs between two answers that are compared.
                metadata.remove("date");
                (status.code(), format!("{} {metadata:?}", status.message()))
            }
        };
        Answer { messages, code, text }
    }
}

/// The answer of a method.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) messages: Vec<Bytes>,
    pub(super) code: Code,
    pub(super) text: String,
}

impl Answer {
    /// Whether it contains this text.
    pub(super) fn mentions(&self, text: &str) -> bool {
        let within = |bytes: &[u8]| {
            bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
        };
        self.messages.iter().any(|message| within(message)) || within(self.text.as_bytes())
    }
}
