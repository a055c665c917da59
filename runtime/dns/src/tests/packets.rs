//! Messages good and bad.

use proptest::prelude::*;

use super::fixture::{Fixture, asked, read};
use crate::testing;
use crate::wire::{Query, Refusal, code};

fn with(at: usize, octets: &[u8]) -> Vec<u8> {
    let mut message = asked("kubernetes.default.svc.cluster.local", "A");
    message[at..at + octets.len()].copy_from_slice(octets);
    message
}

#[test]
fn what_is_no_question_is_answered_by_its_fault_or_not_at_all() {
    let good = asked("a.example", "A");
    let opt = good.len() - 11;
    let rows: &[(&str, Vec<u8>, Refusal)] = &[
        ("nothing", Vec::new(), Refusal::Silence),
        ("half a header", good[..11].to_vec(), Refusal::Silence),
        ("an answer", with(2, &[0x81]), Refusal::Silence),
        ("a notification", with(2, &[0x20]), Refusal::Code(code::NOT_IMPLEMENTED)),
        ("two questions", with(4, &[0, 2]), Refusal::Code(code::FORMAT)),
        ("no question", with(4, &[0, 0]), Refusal::Code(code::FORMAT)),
        ("answers in a question", with(6, &[0, 1]), Refusal::Code(code::FORMAT)),
        ("a pointer as its name", with(12, &[0xc0, 12]), Refusal::Code(code::FORMAT)),
        ("a name without an end", with(12, &[0x3f]), Refusal::Code(code::FORMAT)),
        ("more records than there are", with(10, &[0, 9]), Refusal::Code(code::FORMAT)),
        (
            "another version of EDNS",
            {
                let mut m = good.clone();
                m[opt + 6] = 1;
                m
            },
            Refusal::Version,
        ),
        (
            "EDNS twice",
            {
                let mut m = good.clone();
                m.extend_from_within(opt..);
                m[11] = 2;
                m
            },
            Refusal::Code(code::FORMAT),
        ),
    ];
    for (what, message, wanted) in rows {
        assert_eq!(Query::parse(message).unwrap_err(), *wanted, "{what}");
    }
}

#[tokio::test]
async fn headers_are_answered_as_they_were_asked() {
    let fixture = Fixture::of_specification().await;
    let answer = fixture.send(&asked("kubernetes.default.svc.cluster.local", "A")).await;
    // Number; answer, authoritative, recursion desired and available; one question, one record and EDNS.
    assert_eq!(answer[..12], [0, 7, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 1]);
    let mut plain = asked("kubernetes.default.svc.cluster.local", "A");
    plain.truncate(plain.len() - 11);
    plain[11] = 0;
    let answer = fixture.send(&plain).await;
    assert_eq!((answer[11], read(&answer).answers.len()), (0, 1));
    let mut chaos = plain.clone();
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert_eq!(read(&fixture.send(&chaos).await).code, code::REFUSED);
    let mut version = asked("a.example", "A");
    let opt = version.len() - 11;
    version[opt + 6] = 1;
    let answer = fixture.send(&version).await;
    // BADVERS is 16, its upper part in EDNS's record.
    assert_eq!((answer[3] & 0xf, answer[11], answer[12 + 5]), (0, 1, 1));
}

#[tokio::test]
async fn the_addresses_of_a_headless_service_take_turns() {
    let fixture = Fixture::of_specification().await;
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let answer = fixture.now("headless.default.svc.cluster.local", "A");
        assert_eq!(answer.answers.len(), 2);
        first.insert(answer.answers[0].clone());
    }
    assert_eq!(first.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_octets_are_read_without_harm(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        testing::question(&message);
        testing::answer(&message);
    }

    #[test]
    fn a_question_with_faults_is_read_without_harm(faults in proptest::collection::vec((0usize..65, any::<u8>()), 0..6)) {
        let mut message = asked("kubernetes.default.svc.cluster.local", "A");
        for (at, octet) in faults {
            if let Some(place) = message.get_mut(at) {
                *place = octet;
            }
        }
        testing::question(&message);
        testing::answer(&message);
    }

    #[test]
    fn any_text_is_read_as_settings_without_harm(text in "[a-z{}#\" .:0-9\n]{0,80}") {
        testing::corefile(&text);
    }
}
