//! Passes a request on to the server that answers for its group and version, in the name of the user who made it.

use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::header::{HOST, LOCATION};
use ::http::request::Parts;
use ::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use kiln_apimachinery::Status;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::link::identify;
use super::table::Remote;
use crate::http::body::{Body, BoxError};
use crate::http::respond;
use crate::server::ApiServer;
use crate::subresources::proxy::{self, HOP_BY_HOP};
use crate::user::UserInfo;

/// Answers a request with what the remote server makes of it. `long` is a stream that must not keep a shutdown waiting.
pub(crate) async fn serve(
    server: &ApiServer,
    user: &UserInfo,
    remote: &Remote,
    parts: &Parts,
    body: &Bytes,
    long: bool,
) -> Result<Response<Body>, Status> {
    if !remote.available {
        return Ok(failed("service unavailable"));
    }
    let link = &remote.link;
    let uri = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = proxy::outgoing(parts, body, uri)?;
    identify(request.headers_mut(), user);
    if let Some(upgrade) = proxy::upgrade(parts) {
        if let Ok(host) = HeaderValue::from_str(&link.place.host()) {
            request.headers_mut().insert(HOST, host);
        }
        let connected = async {
            let backend = link.backends(server).await?.swap_remove(0);
            link.connect(server, &backend).await
        };
        return match connected.await {
            Ok(stream) => proxy::switch(stream, request, upgrade, server.watches_end()).await,
            Err(why) => Ok(failed(&format!("error dialing backend: {why}"))),
        };
    }
    proxy::forwarded(parts, request.headers_mut());
    let mut response = match link.send(server, request).await {
        Ok(response) => response,
        Err(why) => return Ok(failed(&format!("error trying to reach service: {why}"))),
    };
    for name in HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    if response.status().is_redirection() && response.headers().contains_key(LOCATION) {
        let why = "the backend attempted to redirect this request, which is not permitted";
        return Ok(respond::text(StatusCode::BAD_GATEWAY, why));
    }
    Ok(response.map(|body| match long {
        true => Until::new(body, server.watches_end()).boxed(),
        false => body.map_err(Into::into).boxed(),
    }))
}

/// 503, in the plain words of the reference.
fn failed(why: &str) -> Response<Body> {
    respond::text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

/// A body that ends with the server's watches, whatever is still to come.
struct Until {
    body: Incoming,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Until {
    fn new(body: Incoming, over: CancellationToken) -> Self {
        Self { body, over: Box::pin(over.cancelled_owned()) }
    }
}

impl hyper::body::Body for Until {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx).map(|next| next.map(|frame| frame.map_err(Into::into)))
    }
}
