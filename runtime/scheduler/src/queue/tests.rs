//! Pods wait and are tried as the scheduler's documentation says.

use super::*;
use crate::testing::pod;

fn queue() -> Queue {
    Queue::new(Duration::from_secs(1), Duration::from_secs(10), Arc::default())
}

fn popped(queue: &mut Queue) -> Option<String> {
    queue.pop(Instant::now()).map(|queued| queued.pod.name.to_string())
}

fn refused() -> Ended {
    Ended::Refused([PluginId::NodeResourcesFit].into_iter().collect())
}

#[tokio::test(start_paused = true)]
async fn pods_are_tried_by_priority_and_then_in_the_order_in_which_they_came() {
    let mut queue = queue();
    for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10)] {
        queue.add(pod(name).priority(priority).build(), None, Instant::now());
    }
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
    assert_eq!(order, ["b", "d", "a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_refused_waits_for_an_event_that_may_help() {
    let mut queue = queue();
    let waiting = pod("a").build();
    queue.add(Arc::clone(&waiting), None, Instant::now());
    queue.pop(Instant::now());
    queue.put_back(&waiting.uid, refused(), None, Instant::now());
    assert_eq!((popped(&mut queue), queue.unschedulable.len()), (None, 1));
    queue.on_event(Instant::now(), "NodeAdd", |_| false);
    assert_eq!(popped(&mut queue), None);
    queue.on_event(Instant::now(), "NodeAdd", |queued| {
        assert!(queued.plugins.contains(PluginId::NodeResourcesFit));
        true
    });
    assert!(queue.next_due().is_some_and(|due| due == Instant::now() + Duration::from_secs(1)));
    assert_eq!(popped(&mut queue).as_deref(), Some("a"), "with nothing else to do it is tried early");
}

#[tokio::test(start_paused = true)]
async fn those_in_the_back_off_let_active_ones_go_first_and_wait_longer_each_time() {
    let mut queue = queue();
    let waiting = pod("a").priority(5).build();
    queue.add(Arc::clone(&waiting), None, Instant::now());
    for expected in [1, 2, 4, 8, 10, 10] {
        queue.pop(Instant::now());
        queue.put_back(&waiting.uid, refused(), None, Instant::now());
        queue.on_event(Instant::now(), "NodeAdd", |_| true);
        assert_eq!(queue.next_due(), Some(Instant::now() + Duration::from_secs(expected)));
    }
    queue.add(pod("b").build(), None, Instant::now());
    assert_eq!(popped(&mut queue).as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn one_whose_cycle_failed_is_not_taken_out_early() {
    let mut queue = queue();
    let waiting = pod("a").build();
    queue.add(Arc::clone(&waiting), None, Instant::now());
    queue.pop(Instant::now());
    queue.put_back(&waiting.uid, Ended::Failed, None, Instant::now());
    assert_eq!(popped(&mut queue), None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn without_any_event_one_is_tried_again_after_five_minutes() {
    let mut queue = queue();
    let waiting = pod("a").build();
    queue.add(Arc::clone(&waiting), None, Instant::now());
    queue.pop(Instant::now());
    queue.put_back(&waiting.uid, refused(), None, Instant::now());
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(popped(&mut queue), None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_is_not_tried_until_its_gate_is_gone() {
    let mut queue = queue();
    let gated = pod("a").build();
    queue.add(Arc::clone(&gated), Some(PluginId::SchedulingGates), Instant::now());
    queue.on_event(Instant::now(), "NodeAdd", |_| true);
    assert_eq!((popped(&mut queue), queue.next_due()), (None, None));
    queue.set_gate(&gated.uid, None, Instant::now());
    assert_eq!(popped(&mut queue).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn what_happens_while_a_pod_is_kept_counts_when_it_no_longer_is() {
    for (happens, expected) in [(true, Some("a")), (false, None)] {
        let mut queue = queue();
        let kept = pod("a").build();
        queue.add(Arc::clone(&kept), None, Instant::now());
        queue.pop(Instant::now());
        queue.put_back(&kept.uid, refused(), Some(PluginId::DefaultPreemption), Instant::now());
        if happens {
            queue.on_event(Instant::now(), "NodeAdd", |_| true);
        }
        assert_eq!(popped(&mut queue), None);
        queue.set_gate(&kept.uid, None, Instant::now());
        assert_eq!(popped(&mut queue).as_deref(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_is_not_tried() {
    let mut queue = queue();
    queue.add(pod("a").build(), None, Instant::now());
    assert!(queue.remove("uid-a").is_some());
    assert_eq!(popped(&mut queue), None);
}

#[tokio::test(start_paused = true)]
async fn pods_are_counted_where_they_wait_and_why_they_came_there() {
    let metrics = Arc::<Metrics>::default();
    let mut queue = Queue::new(Duration::from_secs(1), Duration::from_secs(10), Arc::clone(&metrics));
    let waiting = pod("a").build();
    queue.add(Arc::clone(&waiting), None, Instant::now());
    queue.add(pod("b").build(), Some(PluginId::SchedulingGates), Instant::now());
    queue.pop(Instant::now());
    queue.put_back(&waiting.uid, refused(), None, Instant::now());
    queue.on_event(Instant::now(), "NodeAdd", |_| true);
    let written = |metrics: &Metrics| {
        let mut text = String::new();
        metrics.write(&mut text);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = [
        "scheduler_pending_pods{queue=\"active\"} 0",
        "scheduler_pending_pods{queue=\"backoff\"} 1",
        "scheduler_pending_pods{queue=\"gated\"} 1",
        "scheduler_pending_pods{queue=\"unschedulable\"} 0",
        "scheduler_queue_incoming_pods_total{event=\"NodeAdd\",queue=\"backoff\"} 1",
        "scheduler_queue_incoming_pods_total{event=\"ScheduleAttemptFailure\",queue=\"unschedulable\"} 1",
        "scheduler_queue_incoming_pods_total{event=\"UnschedulablePodAdd\",queue=\"active\"} 1",
        "scheduler_queue_incoming_pods_total{event=\"UnschedulablePodAdd\",queue=\"gated\"} 1",
        "scheduler_unschedulable_pods{plugin=\"NodeResourcesFit\",profile=\"default-scheduler\"} 1",
        "scheduler_unschedulable_pods{plugin=\"SchedulingGates\",profile=\"default-scheduler\"} 1",
    ];
    assert_eq!(written(&metrics), expected);
    drop(queue);
    let left = written(&metrics);
    let left = left.iter().filter(|line| !line.starts_with("scheduler_queue_incoming"));
    left.for_each(|line| assert!(line.ends_with(" 0"), "{line}"));
}
