//! The controllers and the scheduler: one set of each, on one server, over mirrors that they share.

use std::pin::Pin;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kiln_client::{Backoff, Client, Clock};
use kiln_scheduler::Scheduler;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What they need.
#[derive(Clone)]
pub(super) struct Control {
    /// The API as the controllers' user.
    pub(super) manager: Client,
    pub(super) controllers: kiln_controllers::Config,
    /// The scheduler, if this server has one: the API as its user, and its configuration.
    pub(super) scheduler: Option<(Client, kiln_scheduler::Config)>,
}

/// How long to wait before all begins anew after a panic.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What ran this long was worth the restart.
const HELD: Duration = Duration::from_secs(300);

impl Control {
    /// Runs them until the shutdown. Should one panic, all end and begin anew, as those of a process of their own would.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        loop {
            let began = Instant::now();
            self.clone().once(shutdown.clone()).await;
            if began.elapsed() >= HELD {
                pause.reset();
            }
            if shutdown.is_cancelled() {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause.next_wait()) => {}
            }
            tracing::warn!("the controllers and the scheduler begin anew");
        }
    }

    async fn once(self, shutdown: CancellationToken) {
        let Self { manager, controllers, scheduler } = self;
        // Extenders are told of whole pods.
        let whole_pods = scheduler.as_ref().is_some_and(|(_, config)| config.has_extenders());
        kiln_controllers::alone(manager, Clock::system(), shutdown, |informers, context| {
            if !whole_pods {
                informers.of::<Pod>().trim(kiln_controllers::trim_pod);
            }
            let controlling = kiln_controllers::build(informers, context, controllers);
            let scheduling: Pin<Box<dyn Future<Output = ()> + Send>> = match scheduler {
                Some((client, config)) => {
                    let scheduler = Scheduler::new(client, &config, informers, Clock::system());
                    Box::pin(run_alone(scheduler, context.shutdown.clone()))
                }
                None => Box::pin(std::future::ready(())),
            };
            async move {
                tokio::join!(controlling, scheduling);
            }
        })
        .await;
    }
}

/// Runs the scheduler in a task of its own: it has much to reckon. A panic of it ends the controllers too.
async fn run_alone(scheduler: Scheduler, shutdown: CancellationToken) {
    if let Err(error) = tokio::spawn(scheduler.run(shutdown.clone())).await {
        tracing::error!(%error, "the scheduler ended by a panic");
        shutdown.cancel();
    }
}
