//! A line to the API on which much is lost.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kiln_client::{Body, BoxFuture, ClientError, Transport, full_body};
use serde_json::json;

/// The API over a bad line: one write in four is lost, its answer is, or it meets a conflict; and every watch ends after a second.
pub(crate) struct BadLine<T> {
    line: T,
    count: AtomicU64,
}

impl<T> BadLine<T> {
    pub(crate) fn new(line: T) -> Self {
        Self { line, count: AtomicU64::new(0) }
    }
}

impl<T: Transport> Transport for BadLine<T> {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        Box::pin(async move {
            let lost = || Err(ClientError::Connect { server: "the API".to_owned(), why: "the line is bad".to_owned() });
            if request.method() == http::Method::GET {
                let (mut parts, body) = request.into_parts();
                parts.uri = parts.uri.to_string().replace("timeoutSeconds=480", "timeoutSeconds=1").parse().unwrap();
                return self.line.send(http::Request::from_parts(parts, body)).await;
            }
            match self.count.fetch_add(1, Ordering::Relaxed) % 12 {
                3 => lost(),
                7 => self.line.send(request).await.and_then(|_| lost()),
                11 => {
                    let status = json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "no"});
                    let answer = http::Response::builder().status(409).body(full_body(status.to_string()));
                    Ok(answer.unwrap())
                }
                _ => self.line.send(request).await,
            }
        })
    }
}
