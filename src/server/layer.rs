//! The service as a layer: for hosts that have a service already and want one path of it to be live.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Either;
use pin_project_lite::pin_project;

use super::{AnswerBody, Answering, Service};

/// Answers requests for one path and passes all others on: see [`Server::layer`](super::Server::layer).
#[derive(Clone, Debug)]
pub struct Layer {
    service: Service,
    path: Arc<str>,
}

impl Layer {
    pub(super) fn new(service: Service, path: Arc<str>) -> Self {
        Self { service, path }
    }
}

impl<S> tower_layer::Layer<S> for Layer {
    type Service = Layered<S>;

    fn layer(&self, inner: S) -> Layered<S> {
        Layered { layer: self.clone(), inner }
    }
}

/// A service with a live path before it.
#[derive(Clone, Debug)]
pub struct Layered<S> {
    layer: Layer,
    inner: S,
}

impl<S, B, R> tower_service::Service<Request<B>> for Layered<S>
where
    S: tower_service::Service<Request<B>, Response = Response<R>>,
    B: Body + Send + 'static,
    B::Data: Send,
    R: Body<Data = Bytes>,
{
    type Response = Response<Either<AnswerBody, R>>;
    type Error = S::Error;
    type Future = LayeredAnswer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.uri().path() == &*self.layer.path {
            let answering = tower_service::Service::call(&mut self.layer.service, request);
            return LayeredAnswer { ours: Some(answering), theirs: None };
        }
        LayeredAnswer { ours: None, theirs: Some(self.inner.call(request)) }
    }
}

pin_project! {
    /// An answer on its way, ours or the inner service's.
    #[derive(Debug)]
    #[must_use = "a future does nothing unless polled"]
    pub struct LayeredAnswer<F> {
        // Exactly one of the two is there.
        ours: Option<Answering>,
        #[pin]
        theirs: Option<F>,
    }
}

impl<F, R, E> Future for LayeredAnswer<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<Either<AnswerBody, R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(theirs) = this.theirs.as_pin_mut() {
            return theirs.poll(cx).map(|answer| answer.map(|answer| answer.map(Either::Right)));
        }
        let Some(ours) = this.ours else { return Poll::Pending };
        match ready!(Pin::new(ours).poll(cx)) {
            Ok(answer) => Poll::Ready(Ok(answer.map(Either::Left))),
            Err(never) => match never {},
        }
    }
}
