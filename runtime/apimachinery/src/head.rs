//! Answers to HEAD.

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response};
use http_body::Body;

/// The answer to a HEAD: that to a GET, without its body (RFC 9110, 9.3.2). Over HTTP/1.1 hyper leaves the body out by itself; over
/// HTTP/2 it does not, and clients take one for a broken stream.
pub fn without_body<B: Body>(response: Response<B>, empty: B) -> Response<B> {
    let size = response.body().size_hint().exact().filter(|size| *size > 0);
    let mut response = response.map(|_| empty);
    if let Some(size) = size {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert(HeaderValue::from(size));
    }
    response
}
