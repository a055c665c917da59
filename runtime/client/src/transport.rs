//! What carries a request to the API server and the answer back.

use std::future::Future;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};

use crate::error::ClientError;

/// Any error that a body may end with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// An answer's body; a watch's goes on until the server ends it.
pub type Body = http_body_util::combinators::BoxBody<Bytes, BoxError>;
/// A future that is allocated, so that [`Transport`] can be used as a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends requests whose URI is a path with a query. It answers as soon as the head of the answer is there, and does
/// not judge it: a 404 is an answer.
pub trait Transport: Send + Sync {
    /// Sends one request.
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>>;
}

impl<T: Transport + ?Sized> Transport for std::sync::Arc<T> {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>, ClientError>> {
        (**self).send(request)
    }
}

/// A body that is there already.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// All of a body, of so many bytes at the most.
///
/// # Errors
/// If it is larger, or ends before its end.
pub async fn read_body(mut body: Body, most: usize) -> Result<Bytes, BoxError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
        if whole.len() > most {
            return Err(format!("it is larger than {most} bytes").into());
        }
    }
    Ok(whole.freeze())
}
