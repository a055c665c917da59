//! Lifecycle hooks: what a container is told right after its start and right before its end.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::cri::{ExecSyncRequest, Runtime};
use crate::probes::http::{self, Request};

/// Whom a hook is for.
pub(crate) struct Hook<'a> {
    pub(crate) runtime: &'a Runtime,
    /// The runtime's id of the container.
    pub(crate) container: &'a str,
    pub(crate) spec: &'a Container,
    /// The pod's address.
    pub(crate) ip: Option<&'a str>,
}

/// Runs a hook to its end. The text of an error is what the container's status shows.
pub(crate) async fn run(hook: &Hook<'_>, handler: &LifecycleHandler) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let cmd = exec.command.clone().unwrap_or_default();
        let command = cmd.join(" ");
        let request = ExecSyncRequest { container_id: hook.container.to_owned(), cmd, timeout: 0 };
        let answer = hook.runtime.exec_sync(&request).await;
        return match answer {
            Ok(answer) if answer.exit_code == 0 => Ok(()),
            Ok(answer) => {
                let mut output = answer.stdout;
                output.extend(answer.stderr);
                let (code, output) = (answer.exit_code, String::from_utf8_lossy(&output).into_owned());
                Err(format!(
                    "Exec lifecycle hook ([{command}]) for Container {:?} failed - error: command '{command}' exited with \
                     {code}: {output}, message: {output:?}",
                    hook.spec.name
                ))
            }
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(get) = &handler.http_get {
        let ip = hook.ip.unwrap_or_default();
        let request = Request::of(get, hook.spec, ip, "kube-lifecycle")?;
        // Any answer will do: that it was asked is what matters.
        return http::get(&request).await.map(|_| ());
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("invalid handler: <nil>".to_owned())
}
