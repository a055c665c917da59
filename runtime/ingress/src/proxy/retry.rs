//! Requests that are sent again, as their rule has it.

use std::sync::Arc;

use http::Response;
use hyper::body::Body as _;

use super::answers::Refusal;
use super::body::ResponseBody;
use super::forward::Forward;
use crate::routes::Retry;
use crate::upstream::Backend;

impl<'a> Forward<'a> {
    /// As [`Forward::run`], and again where the answer has one of the rule's statuses or there is none. Only what has no body: of bodies
    /// nothing is kept.
    pub(super) async fn run_again(
        self,
        retry: &Retry,
        taken: &mut Option<Arc<Backend>>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        let running = self.repeat(retry, taken);
        tokio::time::timeout(retry.within, running).await.unwrap_or(Err(Refusal::GatewayTimeout))
    }

    async fn repeat(
        mut self,
        retry: &Retry,
        taken: &mut Option<Arc<Backend>>,
    ) -> Result<Response<ResponseBody>, Refusal> {
        for _ in 0..retry.attempts {
            if !self.body.is_end_stream() || self.upgrade.is_some() {
                break;
            }
            match self.copy().run(taken).await {
                Ok(answer) if retry.codes.contains(&answer.status().as_u16()) => {}
                Err(Refusal::BadGateway | Refusal::GatewayTimeout) => {}
                done => return done,
            }
            tokio::time::sleep(retry.backoff).await;
        }
        self.run(taken).await
    }

    fn copy(&mut self) -> Forward<'a> {
        Forward {
            proxy: self.proxy,
            route: self.route,
            parts: self.parts.clone(),
            target: self.target.clone(),
            body: self.body.copy(),
            upgrade: None,
            backend: self.backend,
        }
    }
}
