//! The figures, for Prometheus.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::compile::Backends;
use crate::proxy::Proxy;

/// How long a scrape may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Serves `/metrics` until the shutdown.
pub(crate) async fn figures(address: SocketAddr, proxy: Arc<Proxy>, backends: Backends, shutdown: CancellationToken) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the ingress' figures are not served on {address}"),
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (proxy, backends, shutdown) = (proxy.clone(), backends.clone(), shutdown.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(&request, &proxy, &backends);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            let builder = builder.timer(TokioTimer::new()).header_read_timeout(SILENCE);
            tokio::select! {
                () = shutdown.cancelled() => {}
                served = builder.serve_connection(TokioIo::new(stream), service) => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "a scrape of the ingress' figures");
                    }
                }
            }
        });
    }
}

fn answer(request: &Request<Incoming>, proxy: &Proxy, backends: &Backends) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    let all = backends.all();
    let mut response = Response::new(Full::from(proxy.metrics.text(all.iter().map(|backend| &**backend))));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
